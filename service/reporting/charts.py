"""Charts of the report's page: arrays in, one `<svg>` out, the same bytes for the same arrays.

No chart holds a name from the manifest: titles and captions are the page's. So nothing here needs escaping, and a
class may be called what no font of ours can draw.
"""

import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from service.core.assessment.operating import DecisionCurve
from service.core.assessment.selective import risk_coverage
from service.core.numerics import Array
from service.evaluation.calibration_report import ReliabilityDiagram
from service.evaluation.rates import RocPoints

if TYPE_CHECKING:  # importing matplotlib takes longer than all the rest of the command
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, QUIET, HAIR = "#1f2933", "#7b8794", "#cbd2d9"
MODEL, OTHER, BAND = "#17568c", "#d9822b", "#c9dcee"
"""Dark, middle and light: apart in grey print and for every kind of colour vision; lines differ in dashes too."""

STYLE: Final[dict[str, object]] = {
    "svg.fonttype": "path",
    "svg.hashsalt": "temperance",
    "text.parse_math": False,
    "font.family": ["DejaVu Sans"],
    "font.size": 8.5,
    "text.color": INK,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e9edf1",
    "grid.linewidth": 0.8,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 3.0,
    "ytick.major.size": 0.0,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "hatch.linewidth": 0.8,
    "figure.constrained_layout.use": True,
}
WIDTH, HEIGHT = 5.0, 3.7
SCORE_BINS = 30
TAIL = 0.995
CROWDED = 50.0  # a score this many times its middle value leaves all other rows in one bar


def reliability(diagram: ReliabilityDiagram) -> str:
    """Predicted probability against observed frequency, each bin with its consistency band; beneath, rows per bin.

    Parameters
    ----------
    diagram : ReliabilityDiagram
    """
    predicted, low, high = diagram.mean_predicted_probability, diagram.low, diagram.high
    observed = np.array(diagram.observed_frequency)
    with drawing(height=4.5) as figure:
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        top.plot([0, 1], [0, 1], color=QUIET, linewidth=1.0, dashes=(4, 3), label="calibrated")
        top.vlines(predicted, low, high, color=BAND, linewidth=9, label="what chance alone allows")
        inside = (np.array(low) <= observed) & (observed <= np.array(high))
        _dots(top, diagram, inside, color=MODEL, marker="o", label="bin within it")
        _dots(top, diagram, ~inside, color=OTHER, marker="D", label="bin outside it")
        top.set(ylabel="observed frequency", xlim=(-0.02, 1.02), ylim=(-0.04, 1.04))
        _legend(top)
        bottom.bar(predicted, diagram.count, width=0.035, color=QUIET)
        for x, count in zip(predicted, diagram.count, strict=True):
            bottom.annotate(str(count), (x, count), (0, 2), textcoords="offset points", ha="center", fontsize=7.0)
        bottom.set(xlabel="predicted probability", ylabel="rows", ylim=(0, 1.35 * max(diagram.count)), yticks=[])
        return svg_of(figure)


def scores(labelled: Array, ood: Array | None, threshold: float | None) -> str:
    """Shares of rows by OOD score, of the labelled rows and of OOD data, and the threshold.

    Parameters
    ----------
    labelled : ndarray of shape (N,)
    ood : ndarray of shape (M,), optional
    threshold : float, optional
        Rows above it are flagged.
    """
    edges, scale = _bins(labelled, ood, threshold)
    with drawing() as figure:
        axes = figure.subplots()
        axes.stairs(_shares(labelled, edges), edges, fill=True, color=BAND)
        axes.stairs(_shares(labelled, edges), edges, color=MODEL, linewidth=1.2, label="labelled rows")
        if ood is not None:
            axes.stairs(_shares(ood, edges), edges, color=OTHER, hatch="////", label="OOD data")
        if threshold is not None:
            axes.axvline(threshold, color=INK, linewidth=1.2, dashes=(4, 3), label="threshold: flagged to the right")
        label = f"score{', logarithmic' if scale == 'log' else ''}; the outermost bars hold everything beyond"
        axes.set(xlabel=label, ylabel="% of the rows", xlim=(edges[0], edges[-1]), xscale=scale)
        if scale == "log":
            axes.locator_params(axis="x", numticks=6)
            axes.xaxis.set_major_formatter(lambda value, _place: f"{value:g}")
            axes.minorticks_off()
        _legend(axes)
        return svg_of(figure)


def roc(points: RocPoints) -> str:
    """Sensitivity against the false-positive rate.

    Parameters
    ----------
    points : RocPoints
    """
    x, y = ([100.0 * rate for rate in rates] for rates in (points.false_positive_rate, points.sensitivity))
    with drawing() as figure:
        axes = figure.subplots()
        axes.plot([0, 100], [0, 100], color=QUIET, linewidth=1.0, dashes=(4, 3), label="chance")
        axes.plot(x, y, color=MODEL, label="as the threshold falls")
        axes.set(xlabel="false-positive rate, %", ylabel="sensitivity, %", xlim=(-1, 101), ylim=(-1, 101))
        _legend(axes)
        return svg_of(figure)


def selective(confidence: Array, wrong: np.ndarray) -> str:
    """Error rate among the answered rows against coverage; with the best and a random order.

    Parameters
    ----------
    confidence : ndarray of shape (N,)
    wrong : ndarray of shape (N,)
        Whether the predicted class was not the true one.
    """
    shown = np.unique(np.linspace(0, len(wrong) - 1, 500).astype(np.intp))
    coverage, risk = (curve[shown] for curve in risk_coverage(confidence, wrong))
    best = risk_coverage(-wrong.astype(np.float64), wrong)[1][shown]
    with drawing() as figure:
        axes = figure.subplots()
        axes.axhline(100 * risk[-1], color=QUIET, linewidth=1.2, dashes=(4, 3), label="random order")
        axes.plot(100 * coverage, 100 * risk, color=MODEL, label="least confident left out first")
        axes.plot(100 * coverage, 100 * best, color=OTHER, linewidth=1.2, dashes=(1, 1.5), label="best possible order")
        top = 110 * max(float(risk[len(risk) // 20 :].max()), 0.005)  # the first few rows are all noise
        axes.set(
            xlabel="coverage: % of the rows answered", ylabel="% of them wrong", xlim=(0, 100), ylim=(-0.02 * top, top)
        )
        _legend(axes)
        return svg_of(figure)


def code_length(bits: Array, ends: Array, *, overall: float, prior: float) -> str:
    """Bits per label in consecutive parts of the rows, each with its interval.

    Parameters
    ----------
    bits : ndarray of shape (P,)
        Means.
    ends : ndarray of shape (2, P)
        Of their intervals; what lies far above all means is cut off.
    overall : float
        Of all rows.
    prior : float
        Of a coder that knows the class frequencies alone.
    """
    place = np.arange(1, len(bits) + 1)
    with drawing() as figure:
        axes = figure.subplots()
        axes.axhline(prior, color=OTHER, linewidth=1.4, dashes=(4, 2), label="class frequencies alone")
        axes.axhline(overall, color=QUIET, linewidth=1.2, label="all rows")
        axes.vlines(place, *ends, color=BAND, linewidth=9)
        axes.plot(place, bits, color=MODEL, marker="o", markersize=5, label="this tenth, with its noise")
        top = 1.1 * min(max(float(ends[1].max()), prior), 3.0 * max(float(bits.max()), prior))
        axes.set(xlabel="tenth of the rows, in their order", ylabel="bits per label", ylim=(0, top), xticks=place)
        _legend(axes)
        return svg_of(figure)


def net_benefit(curve: DecisionCurve) -> str:
    """Net benefit of acting by the model, on all rows and on none, at every threshold.

    Parameters
    ----------
    curve : DecisionCurve
    """
    with drawing() as figure:
        axes = figure.subplots()
        axes.axhline(0.0, color=QUIET, linewidth=1.2, label="act on no row")
        axes.plot(curve.thresholds, curve.treat_all, color=OTHER, linewidth=1.4, dashes=(4, 2), label="act on all rows")
        axes.plot(curve.thresholds, curve.model, color=MODEL, label="act by the model")
        top = max(curve.prevalence, 0.01)
        axes.set(
            xlabel="threshold probability", ylabel="net benefit per row", xlim=(0, 1), ylim=(-0.2 * top, 1.3 * top)
        )
        _legend(axes)
        return svg_of(figure)


def cost_lines(prevalence: Array, *, taken: Array, adapted: Array | None, constant: Array, observed: float) -> str:
    """Expected cost per row, were one class more or less frequent.

    Parameters
    ----------
    prevalence : ndarray of shape (P,)
        Of that class.
    taken : ndarray of shape (P,)
        The decisions as they were taken.
    adapted : ndarray of shape (P,), optional
        Decisions made with each prevalence stated.
    constant : ndarray of shape (P,)
        The best single action for all rows.
    observed : float
        Prevalence among the rows.
    """
    with drawing() as figure:
        axes = figure.subplots()
        axes.axvline(observed, color=HAIR, linewidth=3.0, label="share among these rows")
        axes.plot(prevalence, constant, color=OTHER, linewidth=1.4, dashes=(4, 2), label="best single action")
        axes.plot(prevalence, taken, color=MODEL, label="decisions as taken")
        if adapted is not None:
            axes.plot(prevalence, adapted, color=INK, linewidth=1.4, dashes=(1, 1.5), label="prevalence stated")
        values = np.concatenate([constant, taken, [0.0]])
        spare = 0.05 * max(float(np.ptp(values)), 1e-9)
        bounds = (float(values.min()) - spare, float(values.max()) + spare)
        axes.set(xlabel="share of the class", ylabel="cost per row", xlim=(0, 1), ylim=bounds)
        _legend(axes)
        return svg_of(figure)


def _dots(
    axes: "Axes", diagram: ReliabilityDiagram, chosen: np.ndarray, *, color: str, marker: str, label: str
) -> None:
    if chosen.any():
        x, y = (np.array(v)[chosen] for v in (diagram.mean_predicted_probability, diagram.observed_frequency))
        axes.scatter(x, y, s=34, color=color, marker=marker, edgecolor="white", linewidth=0.7, zorder=3, label=label)


def _bins(labelled: Array, ood: Array | None, threshold: float | None) -> tuple[Array, Literal["linear", "log"]]:
    """Edges that show nearly all labelled rows, the threshold, and the OOD data unless it is far off."""
    low, middle, high = (float(q) for q in np.quantile(labelled, [1.0 - TAIL, 0.5, TAIL]))
    marks = [low, high] if threshold is None else [low, high, threshold]
    low, high = min(marks), max(marks)
    if low > 0.0 and high > CROWDED * middle:
        return np.geomspace(max(low, 1e-6 * high), 2.0 * high, SCORE_BINS + 1), "log"
    if ood is not None:
        most = float(np.quantile(ood, 0.9))
        low, high = min(low, max(most, 2.0 * low - high)), max(high, min(most, 4.0 * high - 3.0 * low))
    spare = 0.05 * (high - low) or 0.5
    return np.linspace(low, high + spare, SCORE_BINS + 1), "linear"


def _shares(values: Array, edges: Array) -> Array:
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return 100.0 * counts / len(values)


def _legend(axes: "Axes") -> None:
    """Above the chart, where it hides nothing."""
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, borderpad=0.2, columnspacing=1.4)


@contextmanager
def drawing(*, height: float = HEIGHT) -> Iterator["Figure"]:
    """An empty figure in the style of all charts."""
    import matplotlib as mpl  # noqa: PLC0415  # see the top of the file
    from matplotlib.figure import Figure  # noqa: PLC0415

    with mpl.rc_context():
        mpl.rcdefaults()  # a matplotlibrc of the user's would change the picture
        mpl.rcParams.update(STYLE)  # type: ignore[arg-type]  # its type spells out every key
        yield Figure(figsize=(WIDTH, height))


def svg_of(figure: "Figure") -> str:
    """The `<svg>` element alone, as wide as its place, with ids that no other chart of the page has."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    prefix = f"c{zlib.crc32(text.encode()):08x}-"
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}", text)

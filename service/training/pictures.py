"""Pictures of a card, in the style of the report's charts: arrays in, one SVG file out."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

import numpy as np

from service.core.assessment.joint_labels import joint
from service.core.assessment.miscalibration import equal_mass
from service.core.assessment.reliability import reliability_curve
from service.core.numerics import Array, Flags, Indices
from service.reporting.charts import MODEL, OTHER, QUIET, drawing, svg_of
from service.training.seeds import Spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Event = tuple[Array, Flags]
"""Predicted probabilities of an event, shape (N,), and whether it occurred."""

BINS = 12
COLORS = (OTHER, MODEL, "#6b8e23", "#7b3294", QUIET)
MARKERS = ("D", "o", "s", "^", "v")


def reliability_before_and_after(events: Mapping[str, Event]) -> str:
    """Reliability curves in one chart: predicted probability against observed frequency, equally many rows per bin.

    Parameters
    ----------
    events : mapping of str to Event
        By name, such as ``as trained`` and ``calibrated``.
    """
    with sketch() as (figure, axes):
        axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1.0, dashes=(4, 3))
        for (name, (probabilities, occurred)), color, marker in zip(events.items(), COLORS, MARKERS, strict=False):
            curve = reliability_curve(probabilities, occurred, index=equal_mass(probabilities, bins=BINS))
            axes.plot(curve.predicted, curve.observed, color=color, marker=marker, markersize=4.5, label=name)
        axes.set(xlabel="predicted probability", ylabel="observed frequency", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.legend(loc="upper left")
        return standalone(figure)


def marginals_and_pairs(probabilities: Array, labels: Indices) -> str:
    """Every label, and every pair of labels: the mean product of the probabilities against the observed frequency.

    Both axes are logarithmic, so that rare pairs are seen too; what never occurred stands at the lower edge.

    Parameters
    ----------
    probabilities : ndarray of shape (N, M)
        Of presence.
    labels : ndarray of shape (N, M)
    """
    least = 0.5 / len(labels)
    with sketch() as (figure, axes):
        axes.plot([least, 1.0], [least, 1.0], color=QUIET, linewidth=1.0, dashes=(4, 3))
        for size, name in ((2, "pairs, both present"), (1, "labels")):
            sets = [list(chosen) for chosen in combinations(range(labels.shape[1]), size)]
            found = [joint(probabilities[:, chosen], labels[:, chosen]) for chosen in sets]
            dots = [(max(one.product, least), max(one.observed, least)) for one in found]
            axes.plot(*zip(*dots, strict=True), MARKERS[size], color=COLORS[size - 1], markersize=4.5, label=name)
        axes.set(xlabel="mean product of the predicted probabilities", ylabel="observed frequency")
        axes.set(xscale="log", yscale="log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _place: f"{value:g}")
        axes.minorticks_off()
        axes.legend(loc="upper left")
        return standalone(figure)


def histograms(samples: Mapping[str, Array], *, label: str, bins: int = 40) -> str:
    """Shares of rows by one number, for several samples over the same bins.

    Parameters
    ----------
    samples : mapping of str to ndarray of shape (N,)
    label : str
        Of the axis.
    bins : int
    """
    low, high = (float(np.quantile(np.concatenate(list(samples.values())), q)) for q in (0.002, 0.998))
    edges = np.linspace(low, high, bins + 1)
    with sketch() as (figure, axes):
        for (name, values), color in zip(samples.items(), COLORS, strict=False):
            counts, _ = np.histogram(np.clip(values, low, high), edges)
            axes.stairs(100.0 * counts / len(values), edges, color=color, fill=True, alpha=0.35)
            axes.stairs(100.0 * counts / len(values), edges, color=color, label=name)
        axes.set(xlabel=label, ylabel="% of rows")
        axes.legend()
        return standalone(figure)


def bars(values: Mapping[str, Mapping[str, Spread]], *, label: str, line: tuple[str, float] | None = None) -> str:
    """Means with their standard deviations: a group of bars for every name, one bar for every series in it.

    Parameters
    ----------
    values : mapping of str to mapping of str to Spread
        Series by the name of the group.
    label : str
        Of the axis.
    line : tuple of str and float, optional
        A level to compare with, by name.
    """
    series = list(dict.fromkeys(name for group in values.values() for name in group))
    width = 0.8 / len(series)
    with sketch() as (figure, axes):
        for i, (name, color) in enumerate(zip(series, COLORS, strict=False)):
            places = [g + (i + 0.5) * width - 0.4 for g, group in enumerate(values.values()) if name in group]
            spreads = [group[name] for group in values.values() if name in group]
            sd = [spread.sd for spread in spreads]
            axes.bar(places, [s.mean for s in spreads], width, yerr=sd, color=color, ecolor="#444444", label=name)
        if line is not None:
            axes.axhline(line[1], color=QUIET, dashes=(4, 3), label=line[0])
        axes.set_xticks(range(len(values)), list(values))
        axes.set(ylabel=label)
        figure.legend(loc="outside upper left", ncols=3, columnspacing=1.0, handlelength=1.4, handletextpad=0.5)
        return standalone(figure)


def tracks(labels: Mapping[str, Indices], classes: Sequence[str]) -> str:
    """Classes along one sequence as coloured bars, one line for each way to find them.

    Parameters
    ----------
    labels : mapping of str to ndarray of shape (L,)
        Class of every position by name, from the top down.
    classes : sequence of str
    """
    with drawing(height=0.55 * len(labels) + 0.9) as figure:
        axes = figure.subplots()
        for line, track in enumerate(labels.values()):
            edges = np.flatnonzero(np.diff(track, prepend=-1, append=-1))
            for start, end in pairwise(edges.tolist()):
                axes.barh(line, end - start, left=start, height=0.7, color=COLORS[int(track[start])])
        axes.set_yticks(range(len(labels)), list(labels))
        axes.invert_yaxis()
        axes.set(xlabel="position")
        handles = [axes.barh(0, 0, color=color) for color in COLORS[: len(classes)]]
        axes.legend(handles, classes, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(classes))
        return standalone(figure)


@contextmanager
def sketch() -> Iterator[tuple["Figure", "Axes"]]:
    """One chart to draw on, in the report's style."""
    with drawing() as figure:
        yield figure, figure.subplots()


def standalone(figure: "Figure") -> str:
    """The figure as the text of an SVG file, on white: a page may be dark."""
    svg = svg_of(figure)
    background = '<rect width="100%" height="100%" fill="white"/>'
    head, rest = svg.split(">", 1)
    return f"{head}>{background}{rest}\n"

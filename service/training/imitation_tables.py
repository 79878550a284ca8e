"""Tables and pictures of an imitation's card.

Tested in tests/training/test_imitation_tables.py.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from service.core.numerics import log_softmax
from service.core.pipeline import Posterior
from service.evaluation.number_format import EMPTY
from service.prediction.bulk import posterior_of
from service.reporting.charts import QUIET
from service.runtime.model import Model
from service.training.cards import table
from service.training.cart_pole import HORIZONS
from service.training.closed_loop import Outcome
from service.training.example_sets import Examples
from service.training.pictures import COLORS, MARKERS, reliability_before_and_after, sketch, standalone
from service.training.publication import report_of
from service.training.seeds import Spread, paired

MEASURES: Final = {
    "error": "error per step on the expert's course, ε",
    "own error": "error per step on its own course",
    "recovery": "recovery per step on its own course",
    "cost 100": "compounded cost, T = 100",
    "cost 1000": "compounded cost, T = 1000",
    "predicted cost": "the same, predicted from ε and the recovery",
    "growth": "exponent of its growth, T = 100 to 1000",
    "falls": "falls within 500 steps",
    "late falls": "falls within 1000 steps",
    "rough falls": "falls within 500 rough steps",
}
"""Of `cart_pole.measured`, and what a table calls them."""

ACTORS: Final = {
    "learner": "the learner alone",
    "monitor": "the expert where a state is flagged, else the learner",
    "random steps": "the expert at as many random steps",
    "random stretches": "the expert in random stretches, as many steps and as long",
    "expert": "the expert alone",
}
"""Of `imitation.hand_overs`, and what a table calls them."""

DECADES: Final = (1, 10, 100, 1000)


def learner_table(numbers: Mapping[str, Spread], first: str, second: str) -> str:
    """Two learners over seeds, and their paired difference.

    Parameters
    ----------
    numbers : mapping of str to Spread
        ``"LEARNER KEY"`` for every key of `MEASURES`.
    first, second : str
        The learners.
    """
    pairs = {name: (numbers[f"{first} {key}"], numbers[f"{second} {key}"]) for key, name in MEASURES.items()}
    rows = [[name, one.text(), other.text(), paired(one, other).text()] for name, (one, other) in pairs.items()]
    return table(["mean (sd) over seeds", first, second, f"{first} less {second} (95 % interval)"], rows)


def hand_over_table(numbers: Mapping[str, Spread]) -> str:
    """Falls over seeds by who acts, and what the monitor differs by.

    Parameters
    ----------
    numbers : mapping of str to Spread
        Of `imitation.hand_overs`.
    """
    monitor = numbers["monitor"]
    gaps = {key: "" if key == "monitor" else paired(monitor, numbers[key]).text() for key in ACTORS}
    rows = [[name, numbers[key].text(), gaps[key]] for key, name in ACTORS.items()]
    return table(["who acts", "falls within 500 rough steps", "monitor less this (95 % interval)"], rows)


Version = tuple[Model, Examples, Examples]
"""A version, and labelled states of the expert's course and of its own."""


def version_table(versions: Mapping[str, Version]) -> str:
    """Versions on the expert's course and on their own, as trained and calibrated.

    Parameters
    ----------
    versions : mapping of str to Version
        By alias.
    """
    header = ["version", "course", "error", "log loss", "calibrated", "ECE", "calibrated", "flagged"]
    rows = [
        [f"`{alias}`", whose, *_quality(model, states)]
        for alias, (model, *courses) in versions.items()
        for whose, states in zip(("the expert's", "its own"), courses, strict=True)
    ]
    return table(header, rows)


def _quality(model: Model, rows: Examples) -> list[str]:
    report = report_of(model, rows)
    before, after = report.uncalibrated_metrics, report.metrics
    losses = [f"{part[name]:.3f}" for name in ("log_loss", "calibration_error") for part in (before, after)]
    flagged = EMPTY if report.ood.flag_rate is None else f"{100.0 * report.ood.flag_rate:.1f} %"
    return [f"{1.0 - after['accuracy_score']:.3f}", *losses, flagged]


def outcome_table(outcomes: Mapping[str, Outcome]) -> str:
    """Closed loops in the same episodes; the first is what the others differ from.

    Parameters
    ----------
    outcomes : mapping of str to Outcome
        By who acts.
    """
    header = ["who acts", "falls (95 %)", "less the first row", "steps handed over", "steps flagged", "under the alarm"]
    reference = Spread(tuple(next(iter(outcomes.values())).failed))
    return table(header, [[name, *_cells(outcome, reference)] for name, outcome in outcomes.items()])


def _cells(outcome: Outcome, reference: Spread) -> list[str]:
    (low, high), failed = outcome.interval(), Spread(tuple(outcome.failed))
    return [
        f"{int(outcome.failed.sum())} of {len(outcome.failed)} ({100 * low:.0f} to {100 * high:.0f} %)",
        "" if failed == reference else paired(failed, reference).text(2),
        *(f"{100 * share:.1f} %" for share in (outcome.handed_over, outcome.flagged, outcome.alarm)),
    ]


def reliability_chart(model: Model, trained_on: Examples, own: Examples) -> str:
    """Probability of the second action against how often the expert takes it, on the course of the data and its own.

    Parameters
    ----------
    model : Model
        A version calibrated on the course of its data.
    trained_on, own : Examples
        Other states of that course, and states of its own.
    """
    before = np.exp(log_softmax(_posterior(model, trained_on).logits))[:, 1]
    after, shifted = (np.exp(_posterior(model, rows).log_probs)[:, 1] for rows in (trained_on, own))
    return reliability_before_and_after(
        {
            "as trained, the expert's course": (before, trained_on.labels == 1),
            "calibrated, the expert's course": (after, trained_on.labels == 1),
            "calibrated, its own course": (shifted, own.labels == 1),
        }
    )


def _posterior(model: Model, rows: Examples) -> Posterior:
    return posterior_of(model, rows.inputs.astype(np.float64))


def compounded_chart(numbers: Mapping[str, Spread], learners: Mapping[str, str]) -> str:
    """Compounded cost against the horizon, both logarithmic, between T and T² times the first learner's error.

    Parameters
    ----------
    numbers : mapping of str to Spread
        ``"LEARNER cost T"`` and ``"LEARNER error"`` over seeds, as `measured` has them.
    learners : mapping of str to str
        From a learner to what the legend calls it.
    """
    error, steps = numbers[f"{next(iter(learners))} error"].mean, np.geomspace(1.0, HORIZONS[-1], 100)
    bound = np.minimum(steps, steps**2 * error)
    with sketch() as (figure, axes):
        axes.plot(steps, bound, color=QUIET, linewidth=1.2, dashes=(5, 2), label="T²ε, and at most T")
        axes.plot(steps, error * steps, color=QUIET, linewidth=1.2, dashes=(1, 2), label="Tε")
        for (learner, name), color, marker in zip(learners.items(), COLORS, MARKERS, strict=False):
            runs = np.array([numbers[f"{learner} cost {t}"].values for t in HORIZONS])
            axes.fill_between(HORIZONS, runs.min(axis=1), runs.max(axis=1), color=color, alpha=0.2, linewidth=0)
            axes.plot(HORIZONS, runs.mean(axis=1), color=color, marker=marker, markersize=4.5, label=name)
        axes.set(xlabel="horizon T, steps", ylabel="compounded cost, steps", xscale="log", yscale="log")
        axes.set_xticks(DECADES, [str(decade) for decade in DECADES])
        axes.set_yticks(DECADES, [str(decade) for decade in DECADES])
        axes.minorticks_off()  # a hundred small marks, each a part of the file
        axes.legend(loc="upper left")
        return standalone(figure)

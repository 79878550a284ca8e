"""The ladder of a refit: nothing, intercepts, intercepts and slope, the calibrator fitted anew.

Tested in tests/monitoring/test_refit.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from service.core.calibration import CALIBRATORS, Calibrator
from service.core.numerics import Array, Flags
from service.core.updating import (
    IDENTIFIED,
    Chosen,
    Rung,
    Step,
    Update,
    closed_test,
    composed,
    fit_update,
    free_parameters,
    log_likelihood,
    unchanged,
)
from service.data.dataset import Dataset
from service.errors import RefitRefused
from service.fitting.splits import folds_of, independent_units


@dataclass(frozen=True, slots=True)
class Problem:
    """A calibration in force, and rows with classes.

    Attributes
    ----------
    method : str
        In `CALIBRATORS`.
    calibrator : Calibrator
        In force.
    logits : ndarray of shape (N, K)
        What it sees: raw, or after the inverse of the training loss.
    data : Dataset
        Labels, groups and weights of the rows.
    """

    method: str
    calibrator: Calibrator
    logits: Array
    data: Dataset

    @property
    def classes(self) -> int:
        """K."""
        return int(self.logits.shape[1])

    @property
    def steps(self) -> tuple[Step, ...]:
        """Those that differ: many calibrators are intercepts and a slope already."""
        same = free_parameters(self.method, self.classes) <= self.classes
        return ("none", "intercept", "slope") if same else ("none", "intercept", "slope", "calibrator")

    def part(self, kept: Flags) -> "Problem":
        """Some of the rows."""
        return Problem(self.method, self.calibrator, self.logits[kept], self.data.part(kept))

    def fitted(self, step: Step) -> tuple[Calibrator, Update]:
        """The calibrator after a step, and the slope and biases that it amounts to."""
        data, before = self.data, self.calibrator.apply(self.logits)
        weights, units = data.weights, independent_units(data)
        if step == "none":
            return self.calibrator, unchanged(self.classes)
        amount: Step = "intercept" if step == "intercept" else "slope"
        update = fit_update(before, data.labels, step=amount, weights=weights, units=units)
        if step == "calibrator":
            return CALIBRATORS[self.method].fit(self.logits, data.labels, weights=weights, units=units), update
        return composed(self.calibrator, update), update

    def parameters(self, step: Step) -> int:
        """How many are free."""
        k = self.classes
        free = {"none": 0, "intercept": k - 1, "slope": k}
        return free_parameters(self.method, k) if step == "calibrator" else free[step]


@dataclass(frozen=True, slots=True)
class Climbed:
    """A step that the closed test chose.

    Attributes
    ----------
    chosen : Chosen
    calibrator : Calibrator
        After it, fitted to all rows.
    update : Update
    before, after : ndarray of shape (N, K)
        Log-probabilities in force, and after the step; each row of ``after`` by the fit on the other folds.
    """

    chosen: Chosen
    calibrator: Calibrator
    update: Update
    before: Array
    after: Array


def climb(problem: Problem, *, level: float, seed: int) -> Climbed:
    """Fit every step, and choose by the closed test.

    Parameters
    ----------
    problem : Problem
    level : float
    seed : int
        Of the folds, which hold whole subjects.

    Raises
    ------
    RefitRefused
        If the family of the calibrator has no intercept and slope, or the outcomes rank against the probabilities.
    """
    check_family(problem.method)
    try:
        fits = {step: problem.fitted(step) for step in problem.steps}
        chosen = closed_test([_rung(problem, step, fits[step][0]) for step in problem.steps], level=level)
        after = _out_of_fold(problem, chosen.step, seed)
    except ValueError as error:
        raise RefitRefused(f"the outcomes support no calibration of this family: {error}") from None
    return Climbed(chosen, *fits[chosen.step], problem.calibrator.apply(problem.logits), after)


def check_family(method: str) -> None:
    """Raise RefitRefused for a calibrator that no intercept and slope can be added to."""
    if method not in IDENTIFIED:
        known = ", ".join(sorted(IDENTIFIED))
        raise RefitRefused(
            f"its calibrator is {method}, to which no intercept and slope can be added; a refit knows {known}. "
            "`temperance fit` calibrates a draft with labelled rows"
        )


def _rung(problem: Problem, step: Step, calibrator: Calibrator) -> Rung:
    data = problem.data
    log_probs, units = calibrator.apply(problem.logits), independent_units(data)
    return Rung(
        step, log_likelihood(log_probs, data.labels, weights=data.weights, units=units), problem.parameters(step)
    )


def _out_of_fold(problem: Problem, step: Step, seed: int) -> Array:
    log_probs = np.empty_like(problem.logits, dtype=np.float64)
    for held in folds(problem.data, seed):
        log_probs[held] = problem.part(~held).fitted(step)[0].apply(problem.logits[held])
    return log_probs


def folds(data: Dataset, seed: int) -> Iterator[Flags]:
    """The rows of every fold, as flags of shape (N,)."""
    fold = folds_of(data, seed)
    yield from (fold == number for number in np.unique(fold))

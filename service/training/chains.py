"""Ways to serve one trained network, and what each costs: what a card compares.

A chain is what stands between the outputs of a network and its probabilities: the inverse of its loss, where it has
one and the chain uses it, and then a calibrator that is fitted on held-out rows.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from service.core.assessment.metrics import accuracy_score, auroc_score, log_loss, realised_cost
from service.core.assessment.miscalibration import binned_gap, calibration_error
from service.core.assessment.reliability import class_event
from service.core.calibration import CALIBRATORS
from service.core.decision import decide
from service.core.numerics import Array, Indices, log_softmax
from service.training.example_sets import Examples
from service.training.loop import Trained
from service.training.prequential import Predict
from service.training.seeds import BETWEEN


@dataclass(frozen=True, slots=True)
class Chain:
    """Whether the loss is undone, and the calibrator after it by its registry name."""

    inverse: bool
    calibrator: str


CHAINS: Final[dict[str, Chain]] = {
    "as trained": Chain(inverse=False, calibrator="identity"),
    "temperature": Chain(inverse=False, calibrator="temperature"),
    "inverse": Chain(inverse=True, calibrator="identity"),
    "inverse, temperature": Chain(inverse=True, calibrator="temperature"),
    "temperature and biases": Chain(inverse=False, calibrator="bcts"),
}
"""By the name that a card's table has for it."""


MEASURES: Final[dict[str, str]] = {
    "log_loss": "log loss",
    "auroc": "AUROC",
    "recall": "recall",
    "calibration_error": "ECE of the predicted class",
    "event_calibration_error": "ECE of the event",
    "event_bias": "mean probability less frequency",
    "argmax_cost": "cost, most probable class",
    "least_cost": "cost, least expected cost",
}
"""Titles of what `binary_measures` returns."""


def log_probs_by_chain(
    trained: Trained, calibration: Examples, test: Examples, *, chains: Iterable[str] = tuple(CHAINS)
) -> dict[str, Array]:
    """Log-probabilities of test rows as each chain serves them, shape (N, K).

    Parameters
    ----------
    trained : Trained
        Of one class per row.
    calibration : Examples
        What the calibrators are fitted on; no training row and no test row.
    test : Examples
    chains : iterable of str
        Of `CHAINS`.
    """
    fitted_on, served = (log_softmax(trained.outputs(rows.inputs)) for rows in (calibration, test))
    return {name: _served(CHAINS[name], trained, fitted_on, calibration.labels, served) for name in chains}


def predictors_of(trained: Mapping[str, Trained]) -> dict[str, Predict]:
    """The chains that need no held-out rows, as ``loss | chain``: what `prequential_code_length` codes with.

    Parameters
    ----------
    trained : mapping of str to Trained
        Networks of one class per row, by the name of their loss.
    """
    return {
        BETWEEN.join((loss, chain)): predict
        for loss, network in trained.items()
        for chain, predict in _predictors(network).items()
    }


def binary_measures_by_chain(
    trained: Mapping[str, Trained], calibration: Examples, test: Examples, cost: Array
) -> dict[str, float]:
    """`binary_measures` of every network and every chain, as ``loss | chain | measure``.

    Parameters
    ----------
    trained : mapping of str to Trained
        Networks by the name of their loss.
    calibration, test : Examples
        See `log_probs_by_chain`.
    cost : ndarray of shape (2, 2)
        See `binary_measures`.
    """
    return {
        BETWEEN.join((loss, chain, measure)): value
        for loss, network in trained.items()
        for chain, log_probs in log_probs_by_chain(network, calibration, test).items()
        for measure, value in binary_measures(log_probs, test.labels, cost).items()
    }


def class_measures(log_probs: Array, labels: Indices) -> dict[str, float]:
    """What a card says of the probabilities of one class of several.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    labels : ndarray of shape (N,)

    Returns
    -------
    dict of str to float
        ``accuracy``, ``log loss``, and ``ECE``, the calibration error of the predicted class.

    Examples
    --------
    >>> class_measures(np.log([[0.75, 0.25], [0.75, 0.25]]), np.array([0, 1]))["ECE"]
    0.25
    """
    return {
        "accuracy": accuracy_score(log_probs, labels),
        "log loss": log_loss(log_probs, labels),
        "ECE": calibration_error(log_probs, labels),
    }


def binary_measures(log_probs: Array, labels: Indices, cost: Array) -> dict[str, float]:
    """What a card says of the probabilities of a rare event: class 1 of two.

    Parameters
    ----------
    log_probs : ndarray of shape (N, 2)
    labels : ndarray of shape (N,)
    cost : ndarray of shape (2, 2)
        Of the actions that are right for class 0 and for class 1.

    Returns
    -------
    dict of str to float
        ``log_loss``; ``auroc``; ``recall``, of the event where it has the larger probability; ``calibration_error`` of
        the predicted class, which hides a rare event, and ``event_calibration_error`` of the event itself;
        ``event_bias``, mean predicted probability less observed frequency; ``argmax_cost``, realised cost per row when
        the most probable class chooses the action, and ``least_cost``, when the lowest expected cost does.
    """
    probability, occurred = class_event(log_probs, labels, 1)
    favoured = log_probs.argmax(axis=1)
    return {
        "log_loss": log_loss(log_probs, labels),
        "auroc": auroc_score(log_probs, labels),
        "recall": float(favoured[occurred].mean()),
        "calibration_error": calibration_error(log_probs, labels),
        "event_calibration_error": binned_gap(probability, occurred),
        "event_bias": float(probability.mean() - occurred.mean()),
        "argmax_cost": realised_cost(favoured, cost, labels),
        "least_cost": realised_cost(decide(log_probs, cost).action, cost, labels),
    }


def _predictors(network: Trained) -> dict[str, Predict]:
    return {
        "as trained": lambda inputs: log_softmax(network.outputs(inputs)),
        "inverse": lambda inputs: network.objective.recovered(log_softmax(network.outputs(inputs))),
    }


def _served(chain: Chain, trained: Trained, fitted_on: Array, labels: Indices, served: Array) -> Array:
    if chain.inverse:
        fitted_on, served = trained.objective.recovered(fitted_on), trained.objective.recovered(served)
    calibrator = CALIBRATORS[chain.calibrator].fit(fitted_on, np.asarray(labels))
    return calibrator.apply(served)

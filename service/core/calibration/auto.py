"""Which calibrator these rows can afford: cross-validated log loss and the one-standard-error rule."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from service.core.calibration import Calibrator
from service.core.calibration.mixture import fit_mixed, support
from service.core.numerics import Array, Indices, log_softmax
from service.core.sampling import mean_and_error

NOISE = 1e-9  # nats; two equal chains differ by rounding, and rounding is not to choose between them


@dataclass(frozen=True, slots=True)
class Candidate:
    """How one method did on rows it was not fitted on, in nats.

    Attributes
    ----------
    mean, standard_error : float
        Held-out log loss.
    excess, excess_standard_error : float
        What it loses against the best method, row by row. Rows are hard or easy for all methods alike, so this
        error is far smaller than that of the mean.
    """

    mean: float
    standard_error: float
    excess: float
    excess_standard_error: float


@dataclass(frozen=True, slots=True)
class Choice:
    """What `choose` found.

    Attributes
    ----------
    winner : str
    candidates : dict of str to Candidate
    log_probs : ndarray of shape (N, K)
        Of the winner, each row by the fit that did not see it, at the prevalence of these rows.
    """

    winner: str
    candidates: dict[str, Candidate]
    log_probs: Array


def choose(
    logits: Array,
    labels: Indices,
    *,
    candidates: Mapping[str, type[Calibrator]],
    folds: Indices,
    weights: Array | None = None,
    groups: Indices | None = None,
    offset: Array | None = None,
) -> Choice:
    r"""Method of fewest parameters that is within one standard error of the best.

    .. math:: \bar d_m = \operatorname{mean}_i(\ell_{im} - \ell_{i*}) \le \operatorname{se}(d_m)

    Parameters
    ----------
    logits : ndarray of shape (N, K)
    labels : ndarray of shape (N,)
    candidates : mapping of str to Calibrator type
        Those whose ``needs`` fit.
    folds : ndarray of shape (N,)
        Fold of every row; rows that belong together share one.
    weights : ndarray of shape (N,), optional
    groups : ndarray of shape (N,), optional
        0..G-1; standard errors count rows of a group as one draw.
    offset : ndarray of shape (K,), optional
        ``log(prevalence of these rows / source prevalence of the model)``: added to the output of methods without
        free intercepts, both when fitted and when evaluated.

    Returns
    -------
    Choice

    Examples
    --------
    >>> from service.core.calibration import CALIBRATORS
    >>> logits = np.tile([[4.0, 0.0]], (400, 1))
    >>> labels = (np.arange(400) % 4 == 0).astype(np.intp)  # three in four are the first class: T = 4 / log(3)
    >>> few = {name: CALIBRATORS[name] for name in ("identity", "temperature", "bcts")}
    >>> choose(logits, labels, candidates=few, folds=np.arange(400) // 4 % 5).winner
    'temperature'

    References
    ----------
    Breiman et al. (1984), *Classification and Regression Trees*, section 3.4.3.
    """
    outputs = {
        name: out_of_fold(method, logits, labels, folds=folds, weights=weights, offset=offset)
        for name, method in candidates.items()
    }
    sizes = {name: method.size(logits.shape[1]) for name, method in candidates.items()}
    return elect(outputs, labels, sizes=sizes, weights=weights, groups=groups)


def elect(
    outputs: Mapping[str, Array],
    labels: Indices,
    *,
    sizes: Mapping[str, int],
    weights: Array | None = None,
    groups: Indices | None = None,
) -> Choice:
    """The rule of `choose` for held-out log-probabilities that are there already.

    Parameters
    ----------
    outputs : mapping of str to ndarray of shape (N, K)
        Held-out log-probabilities of every candidate, at the prevalence of these rows. Of equals the first wins.
    labels : ndarray of shape (N,)
    sizes : mapping of str to int
        Free parameters of every candidate.
    weights, groups : ndarray of shape (N,), optional
    """
    own = np.arange(len(labels)), labels
    losses = {name: -log_probs[own] for name, log_probs in outputs.items()}
    compared = _compared(losses, weights=weights, groups=groups)
    within = [name for name, found in compared.items() if found.excess <= found.excess_standard_error + NOISE]
    winner = min(within, key=lambda name: (sizes[name], round(compared[name].mean / NOISE)))
    return Choice(winner, compared, outputs[winner])


def out_of_fold(
    method: type[Calibrator],
    logits: Array,
    labels: Indices,
    *,
    folds: Indices,
    weights: Array | None = None,
    offset: Array | None = None,
    units: int | None = None,
    share: float | None = None,
) -> Array:
    """Log-probabilities of every row, shape (N, K), by the fit on the other folds, at the prevalence of these rows.

    Folds that are separable are mixed with the uniform distribution by the share of all rows. Parameters are those of
    `choose`, and ``units`` and ``share`` of `fit_mixed`, both of all rows.
    """
    log_probs, units = np.empty_like(logits), units or len(labels)
    share = support(units) if share is None else share
    for fold in np.unique(folds):
        held, kept = folds == fold, folds != fold
        w = None if weights is None else weights[kept]
        fitted = fit_mixed(method, logits[kept], labels[kept], weights=w, offset=offset, units=units, share=share)
        log_probs[held] = fitted.served.apply(logits[held])
    return log_probs if offset is None or method.free_intercepts else log_softmax(log_probs + offset)


def _compared(losses: Mapping[str, Array], *, weights: Array | None, groups: Indices | None) -> dict[str, Candidate]:
    alone = {name: mean_and_error(loss, weights=weights, groups=groups) for name, loss in losses.items()}
    best = losses[min(alone, key=lambda name: alone[name][0])]
    beyond = {name: mean_and_error(loss - best, weights=weights, groups=groups) for name, loss in losses.items()}
    return {name: Candidate(*alone[name], *beyond[name]) for name in losses}

"""Gaps between predicted probability and observed frequency: every calibration error, and the bins beneath them.

Building blocks take probabilities of one event and its outcomes (whether it occurred); metrics take all classes.
"""

import numpy as np

from service.core.numerics import Array, Flags, Indices

BINS = 15
CELLS = 4096  # of the smooth error's grid: finer than any bandwidth that data sets of this size can settle on


def favourite(log_probs: Array, labels: Indices) -> tuple[Array, Flags]:
    """Confidence in the predicted class, and whether that class was the true one.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    labels : ndarray of shape (N,)

    Returns
    -------
    confidence, right : ndarray of shape (N,)

    Examples
    --------
    >>> favourite(np.log([[0.75, 0.25], [0.5, 0.5]]), np.array([0, 1]))
    (array([0.75, 0.5 ]), array([ True, False]))
    """
    return np.exp(log_probs.max(axis=1)), log_probs.argmax(axis=1) == labels


def equal_width(probabilities: Array, *, bins: int = BINS) -> Indices:
    """Bin of every row: bins of equal width, closed on the right, zero in the first.

    Parameters
    ----------
    probabilities : ndarray of shape (N,)
        In [0, 1].
    bins : int

    Examples
    --------
    >>> equal_width(np.array([0.0, 0.5, 0.6, 1.0]), bins=2)
    array([0, 0, 1, 1])
    """
    return np.clip(np.ceil(probabilities * bins).astype(np.intp) - 1, 0, bins - 1)


def equal_mass(probabilities: Array, *, bins: int = BINS) -> Indices:
    """Bin of every row: bins of equally many rows, except that equal values are never parted.

    Without ties the bins are those of ``np.array_split(np.sort(probabilities), bins)``.

    Parameters
    ----------
    probabilities : ndarray of shape (N,)
    bins : int
        At most N of them are used.

    Examples
    --------
    >>> equal_mass(np.array([0.1, 0.4, 0.2, 0.9, 0.9]), bins=2)
    array([0, 0, 0, 1, 1])
    """
    bins = min(bins, len(probabilities))
    size, larger = divmod(len(probabilities), bins)
    first = np.arange(bins) * size + np.minimum(np.arange(bins), larger)
    return np.searchsorted(np.sort(probabilities)[first], probabilities, side="right") - 1


def gap_in(index: Indices, probabilities: Array, outcomes: np.ndarray, *, weights: Array | None = None) -> float:
    r"""Weighted mean over given bins of the gap between predicted probability and observed frequency.

    .. math:: \sum_b \frac{n_b}{n} \, \lvert \bar p_b - \bar y_b \rvert

    Parameters
    ----------
    index : ndarray of shape (N,)
        Bin of every row.
    probabilities : ndarray of shape (N,)
    outcomes : ndarray of shape (N,)
        0 or 1, or booleans.
    weights : ndarray of shape (N,), optional
    """
    share = np.ones(len(index)) if weights is None else weights
    return float(np.abs(np.bincount(index, share * (probabilities - outcomes))).sum() / share.sum())


def binned_gap(probabilities: Array, outcomes: np.ndarray, *, bins: int = BINS, weights: Array | None = None) -> float:
    """`gap_in` bins of `equal_width`.

    Parameters
    ----------
    probabilities : ndarray of shape (N,)
    outcomes : ndarray of shape (N,)
        0 or 1, or booleans.
    bins : int
    weights : ndarray of shape (N,), optional

    Examples
    --------
    >>> round(binned_gap(np.array([0.5, 0.4, 0.7, 0.75]), np.array([1, 0, 0, 1]), bins=4), 6)
    0.1375
    """
    return gap_in(equal_width(probabilities, bins=bins), probabilities, outcomes, weights=weights)


def smooth_gap(
    probabilities: Array, outcomes: np.ndarray, *, bandwidth: float | None = None, weights: Array | None = None
) -> float:
    r"""Calibration error without bins (smECE): gaps smoothed along the probability before they are counted.

    .. math:: \int_0^1 \Bigl\lvert \frac1n \sum_i (p_i - y_i) K_\sigma(t, p_i) \Bigr\rvert \, dt

    with a Gaussian kernel reflected at 0 and 1. The bandwidth is the one that equals the error it gives, so nothing is
    tuned, and the error is within a constant factor of the distance to the nearest calibrated predictor.

    Parameters
    ----------
    probabilities : ndarray of shape (N,)
    outcomes : ndarray of shape (N,)
        0 or 1, or booleans.
    bandwidth : float, optional
    weights : ndarray of shape (N,), optional

    Examples
    --------
    >>> round(smooth_gap(np.full(10, 0.9), np.arange(10) < 7), 3)
    0.2

    References
    ----------
    Błasiok & Nakkiran (2024), *Smooth ECE: Principled Reliability Diagrams via Kernel Smoothing*, ICLR.
    """
    share = np.ones(len(probabilities)) if weights is None else weights
    cell = np.minimum((probabilities * CELLS).astype(np.intp), CELLS - 1)
    gaps = np.bincount(cell, share * (probabilities - outcomes), minlength=CELLS) / share.sum()
    spectrum = np.fft.rfft(np.concatenate([gaps, gaps[::-1]]))  # mirrored, it is a circle: that is the reflection
    if bandwidth is not None:
        return _smoothed(spectrum, bandwidth)
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2.0
        low, high = (middle, high) if middle < _smoothed(spectrum, middle) else (low, middle)
    return _smoothed(spectrum, high)


def debiased_squared_gap(index: Indices, probabilities: Array, outcomes: np.ndarray) -> float:
    r"""Weighted mean over given bins of the squared gap, less what chance alone adds to it.

    .. math:: \sum_b \frac{n_b}{n} \Bigl[(\bar p_b - \bar y_b)^2 - \frac{\bar y_b (1 - \bar y_b)}{n_b - 1}\Bigr]

    Around zero for a perfect predictor, so often below it. A bin of one row carries no information and adds nothing.

    Parameters
    ----------
    index : ndarray of shape (N,)
        Bin of every row.
    probabilities : ndarray of shape (N,)
    outcomes : ndarray of shape (N,)

    Examples
    --------
    >>> round(debiased_squared_gap(np.zeros(4, int), np.full(4, 0.9), np.array([0, 1, 0, 1])), 6)
    0.076667

    References
    ----------
    Kumar, Liang & Ma (2019), *Verified Uncertainty Calibration*, NeurIPS, section 5.
    """
    count = np.bincount(index)
    rows = np.maximum(count, 1)
    gap = np.bincount(index, probabilities - outcomes) / rows
    rate = np.bincount(index, outcomes) / rows
    squared = np.where(count > 1, gap**2 - rate * (1.0 - rate) / np.maximum(count - 1, 1), 0.0)
    return float(count @ squared / len(probabilities))


def calibration_error(log_probs: Array, labels: Indices, *, weights: Array | None = None) -> float:
    """Expected calibration error (ECE) of the predicted class: 15 bins of equal width, closed on the right.

    It is biased upwards: a perfect predictor scores about 0.07 on 200 rows and 0.03 on 1000.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    labels : ndarray of shape (N,)
    weights : ndarray of shape (N,), optional

    Examples
    --------
    >>> round(calibration_error(np.log([[0.8, 0.2], [0.8, 0.2]]), np.array([0, 1])), 6)
    0.3

    References
    ----------
    Guo et al. (2017), *On Calibration of Modern Neural Networks*, ICML.
    """
    return binned_gap(*favourite(log_probs, labels), weights=weights)


def equal_mass_calibration_error(log_probs: Array, labels: Indices) -> float:
    """Calibration error of the predicted class in 15 bins of equally many rows.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    labels : ndarray of shape (N,)

    Examples
    --------
    >>> round(equal_mass_calibration_error(np.log([[0.8, 0.2], [0.8, 0.2]]), np.array([0, 1])), 6)
    0.3

    References
    ----------
    Roelofs et al. (2022), *Mitigating Bias in Calibration Error Estimation*, AISTATS.
    """
    confidence, right = favourite(log_probs, labels)
    return gap_in(equal_mass(confidence), confidence, right)


def maximum_calibration_error(log_probs: Array, labels: Indices, *, weights: Array | None = None) -> float:
    """Largest gap between confidence and success in any of 15 bins of equal width (MCE).

    A bin of one row counts as much as any other, so small data sets score high whatever the model.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    labels : ndarray of shape (N,)
    weights : ndarray of shape (N,), optional

    Examples
    --------
    >>> round(maximum_calibration_error(np.log([[0.8, 0.2], [0.8, 0.2], [0.6, 0.4]]), np.array([0, 1, 0])), 6)
    0.4

    References
    ----------
    Naeini, Cooper & Hauskrecht (2015), *Obtaining Well Calibrated Probabilities Using Bayesian Binning*, AAAI.
    """
    confidence, right = favourite(log_probs, labels)
    index = equal_width(confidence)
    share = np.ones(len(index)) if weights is None else weights
    gaps, mass = np.abs(np.bincount(index, share * (confidence - right))), np.bincount(index, share)
    return float(np.max(gaps / np.where(mass > 0.0, mass, 1.0)))


def classwise_calibration_error(log_probs: Array, labels: Indices, *, weights: Array | None = None) -> float:
    """Calibration error of every class' own probability, averaged over classes.

    Costs weigh the probability of each class, so this is the error that decisions feel; for two classes it is
    that of the positive class up to which side of a bin's edge a value falls.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    labels : ndarray of shape (N,)
    weights : ndarray of shape (N,), optional

    Examples
    --------
    >>> round(classwise_calibration_error(np.log([[0.8, 0.2], [0.8, 0.2]]), np.array([0, 1])), 6)
    0.3

    References
    ----------
    Kull et al. (2019), *Beyond Temperature Scaling*, NeurIPS.
    """
    p = np.exp(log_probs)
    return float(np.mean([binned_gap(p[:, k], labels == k, weights=weights) for k in range(p.shape[1])]))


def adaptive_calibration_error(log_probs: Array, labels: Indices) -> float:
    """Calibration error of every class' own probability in 15 bins of equally many rows, averaged over classes (ACE).

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    labels : ndarray of shape (N,)

    Examples
    --------
    >>> round(adaptive_calibration_error(np.log([[0.8, 0.2], [0.8, 0.2]]), np.array([0, 1])), 6)
    0.3

    References
    ----------
    Nixon et al. (2019), *Measuring Calibration in Deep Learning*, CVPR workshops.
    """
    p = np.exp(log_probs)
    return float(np.mean([gap_in(equal_mass(p[:, k]), p[:, k], labels == k) for k in range(p.shape[1])]))


def top_label_calibration_error(log_probs: Array, labels: Indices, *, weights: Array | None = None) -> float:
    """Calibration error of the confidence among rows predicted alike, weighted by how many those are.

    Two classes whose over- and under-confidence cancel in `calibration_error` do not cancel here.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    labels : ndarray of shape (N,)
    weights : ndarray of shape (N,), optional

    Examples
    --------
    >>> log_p, labels = np.log([[0.8, 0.2], [0.2, 0.8]]), np.array([0, 0])
    >>> round(top_label_calibration_error(log_p, labels), 6), round(calibration_error(log_p, labels), 6)
    (0.5, 0.3)

    References
    ----------
    Gupta & Ramdas (2022), *Top-label Calibration and Multiclass-to-binary Reductions*, ICLR.
    """
    confidence, right = favourite(log_probs, labels)
    return gap_in(log_probs.argmax(axis=1) * BINS + equal_width(confidence), confidence, right, weights=weights)


def ks_calibration_error(log_probs: Array, labels: Indices, *, weights: Array | None = None) -> float:
    r"""Largest gap between cumulated confidence and cumulated success, without any bins.

    .. math:: \max_t \Bigl\lvert \frac1n \sum_{i : c_i \le t} (c_i - r_i) \Bigr\rvert

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    labels : ndarray of shape (N,)
    weights : ndarray of shape (N,), optional

    Examples
    --------
    >>> round(ks_calibration_error(np.log([[0.8, 0.2], [0.8, 0.2]]), np.array([0, 1])), 6)
    0.3

    References
    ----------
    Gupta et al. (2021), *Calibration of Neural Networks using Splines*, ICLR.
    """
    confidence, right = favourite(log_probs, labels)
    _, group = np.unique(confidence, return_inverse=True)
    share = np.ones(len(group)) if weights is None else weights
    return float(np.abs(np.bincount(group, share * (confidence - right)).cumsum()).max() / share.sum())


def debiased_calibration_error(log_probs: Array, labels: Indices) -> float:
    """Root of the debiased squared gap of the predicted class in 15 bins of equally many rows; 0 when that is negative.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    labels : ndarray of shape (N,)

    Examples
    --------
    >>> debiased_calibration_error(np.log([[0.6, 0.4], [0.6, 0.4]]), np.array([0, 1]))
    0.0

    References
    ----------
    Kumar, Liang & Ma (2019), *Verified Uncertainty Calibration*, NeurIPS.
    """
    confidence, right = favourite(log_probs, labels)
    return float(np.sqrt(max(0.0, debiased_squared_gap(equal_mass(confidence), confidence, right))))


def _smoothed(spectrum: np.ndarray, bandwidth: float) -> float:
    damping = np.exp(-0.5 * (np.pi * bandwidth * np.arange(len(spectrum))) ** 2)
    return float(np.abs(np.fft.irfft(spectrum * damping)[:CELLS]).sum())

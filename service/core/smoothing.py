"""Sequences: smoothing over neighbouring positions, and paths of actions where a change costs.

Arrays are batches of padded sequences: row i has ``lengths[i]`` positions, and what stands behind them is never looked
at. Smoothed distributions are uniform there, labels and actions `PADDING`.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from service.core.decision import best_action
from service.core.losses.sequence import PADDING, jensen_shannon
from service.core.numerics import Array, Flags, Indices, log_softmax
from service.core.state_checks import check_shares
from service.core.tridiagonal import solve_chain

MAX_ITERATIONS = 50  # of Newton; four to fifteen do
ONWARD: Final = 1e-6  # of what is at stake behind a position: its rounding is 1e-16 of it, and a tie 1e-12
DECREASE_TOLERANCE = 1e-20  # predicted by Newton; probabilities are then good to ten digits or so
SUFFICIENT = 1e-4  # share of the predicted decrease that a step must bring (Armijo)
SMALLEST_STEP = 1e-10
STEEPEST = 5.0  # a step divides a probability by e to this at most
LOWEST_PROBABILITY = 1e-30


@dataclass(frozen=True, slots=True)
class Transitions:
    """A Markov chain of classes. Every entry is positive, so that no evidence is ever overruled outright.

    Attributes
    ----------
    initial : ndarray of shape (K,)
        Probability of every class at the first position.
    matrix : ndarray of shape (K, K)
        ``matrix[now, next]``: rows sum to one.
    """

    initial: Array
    matrix: Array

    def __post_init__(self) -> None:
        classes = len(check_shares("initial", self.initial, None))
        check_shares("transitions", self.matrix, classes, classes)


@dataclass(frozen=True, slots=True)
class Segments:
    """Runs of equal labels.

    Attributes
    ----------
    counts : ndarray of shape (N,)
        How many every row has.
    lengths : ndarray of shape (N, L)
        Positions of each, in order; 0 behind the last.
    """

    counts: Indices
    lengths: Indices


def fit_transitions(
    labels: Indices, *, classes: int, weights: Array | None = None, smoothing: float = 1.0
) -> Transitions:
    r"""Chain behind labelled sequences: counts of pairs, each with ``smoothing`` added (Laplace).

    .. math:: A_{jk} = \frac{n_{jk} + \alpha}{\sum_l n_{jl} + \alpha K}

    Parameters
    ----------
    labels : ndarray of shape (N, L)
        -1 where a sequence has no position; a pair counts when both of its labels are there.
    classes : int
        K.
    weights : ndarray of shape (N,), optional
        Of whole sequences.
    smoothing : float
        α, positive.

    Examples
    --------
    >>> chain = fit_transitions(np.array([[0, 0, 0, 1], [0, 1, -1, -1]]), classes=2)
    >>> chain.initial, chain.matrix.round(4)
    (array([0.75, 0.25]), array([[0.5, 0.5],
           [0.5, 0.5]]))
    """
    w = np.ones(len(labels)) if weights is None else weights
    now, after = labels[:, :-1], labels[:, 1:]
    both, started = (now != PADDING) & (after != PADDING), labels[:, 0] != PADDING
    pairs = np.bincount(
        (now * classes + after)[both], np.broadcast_to(w[:, None], both.shape)[both], minlength=classes**2
    )
    firsts = np.bincount(labels[started, 0], w[started], minlength=classes) + smoothing
    counts = pairs.reshape(classes, classes) + smoothing
    return Transitions(firsts / firsts.sum(), counts / counts.sum(axis=1, keepdims=True))


def forward_backward(log_probs: Array, *, lengths: Indices, prevalence: Array, transitions: Transitions) -> Array:
    r"""Log-marginals of every position given its whole sequence, shape (N, L, K).

    .. math:: p(y_{1:L} \mid x_{1:L}) \propto p(y_1) \prod_{t>1} A_{y_{t-1} y_t}
              \prod_t \frac{p(y_t \mid x_t)}{\pi_{y_t}}

    The scaled likelihood :math:`p(y \mid x) / \pi_y` takes out of every position the prevalence that the chain puts
    back. Calibrated in, calibrated out, as far as labels are a Markov chain and the input at a position depends on its
    own label alone.

    Parameters
    ----------
    log_probs : ndarray of shape (N, L, K)
        Calibrated, one position at a time.
    lengths : ndarray of shape (N,)
    prevalence : ndarray of shape (K,)
        Positive: that of ``log_probs``.
    transitions : Transitions

    Examples
    --------
    >>> sticky = Transitions(np.array([0.5, 0.5]), np.array([[0.9, 0.1], [0.1, 0.9]]))
    >>> rows = np.log([[[0.9, 0.1], [0.4, 0.6], [0.9, 0.1]]])
    >>> smoothed = forward_backward(rows, lengths=np.array([3]), prevalence=np.full(2, 0.5), transitions=sticky)
    >>> np.exp(smoothed)[0, :, 0].round(4)
    array([0.9549, 0.9326, 0.9549])

    References
    ----------
    Rabiner (1989), *A Tutorial on Hidden Markov Models*, Proceedings of the IEEE 77.
    Bourlard and Morgan (1994), *Connectionist Speech Recognition*, section 7: scaled likelihoods.
    """
    present = _present(log_probs.shape[1], lengths)[..., None]
    # No evidence behind the end: messages pass through padding unchanged, because rows of the matrix sum to one.
    evidence = np.where(present, log_probs - np.log(prevalence), 0.0)
    ahead, back = np.empty_like(evidence), np.zeros_like(evidence)
    ahead[:, 0] = np.log(transitions.initial)
    for t in range(1, evidence.shape[1]):
        ahead[:, t] = _pass_on(ahead[:, t - 1] + evidence[:, t - 1], transitions.matrix)
    for t in range(evidence.shape[1] - 2, -1, -1):
        back[:, t] = _pass_on(back[:, t + 1] + evidence[:, t + 1], transitions.matrix.T)
    joint = np.where(present, ahead + evidence + back, 0.0)
    return log_softmax(joint.reshape(-1, joint.shape[2])).reshape(joint.shape)


def _pass_on(log_message: Array, matrix: Array) -> Array:
    # Up to a constant of the row. What underflows is below 1e-300 of a sum that no positive matrix lets vanish.
    return np.log(np.exp(log_message - log_message.max(axis=1, keepdims=True)) @ matrix)


def jsd_smooth(log_probs: Array, *, lengths: Indices, strength: float) -> Array:
    r"""Log-distributions near the given ones, drawn towards their neighbours, shape (N, L, K).

    .. math:: \min_q \; -\sum_t \sum_k p_{tk} \log q_{tk} + \lambda \sum_t \mathrm{JSD}(q_t, q_{t+1})

    For structure alone: fewer and longer segments. Its marginals are biased, positions true to (.9, .2) become
    (.852, .261) at λ = .5, and accuracy falls wherever neighbours differ often. `forward_backward` keeps calibration.

    Convex in q, solved by Newton with one block per position: time :math:`O(N L K^3)`, memory :math:`O(N L K^2)`. Every
    row is solved on its own terms: its answer does not depend on the rows beside it.

    Parameters
    ----------
    log_probs : ndarray of shape (N, L, K)
        Probabilities below `LOWEST_PROBABILITY` count as that.
    lengths : ndarray of shape (N,)
    strength : float
        λ, at least 0, where it changes nothing.

    Examples
    --------
    >>> rows = np.log([[[0.9, 0.1], [0.2, 0.8]]])
    >>> np.exp(jsd_smooth(rows, lengths=np.array([2]), strength=0.5))[0, :, 0].round(3)
    array([0.852, 0.261])

    References
    ----------
    Lin (1991), *Divergence Measures Based on the Shannon Entropy*, IEEE Transactions on Information Theory 37.
    """
    present = _present(log_probs.shape[1], lengths)
    p = np.maximum(np.exp(_uniform_behind(log_probs, present)), LOWEST_PROBABILITY)
    price = np.where(present[:, :-1] & present[:, 1:], strength, 0.0)[..., None]
    q, active = _first_guess(p, price), np.arange(len(p))
    for _ in range(MAX_ITERATIONS):
        step, decrease = _newton(p[active], q[active], price[active])
        unsettled = decrease > DECREASE_TOLERANCE
        active = active[unsettled]
        if not len(active):
            break
        q[active] = _descend(p[active], q[active], price[active], step[unsettled], decrease[unsettled])
    return np.log(q)


def _first_guess(p: Array, price: Array) -> Array:
    # The divergence of distributions that are nearly equal is quadratic, an eighth of their chi-squared distance: what
    # then solves the problem is a mixture of all positions, and leaves no probability far below a neighbour's.
    weight = price[..., None] / 4.0
    diagonal = np.ones((*p.shape[:2], 1, 1))
    diagonal[:, :-1] += weight
    diagonal[:, 1:] += weight
    q = solve_chain(diagonal, -weight, p[:, :, None, :])[:, :, 0]
    return q / q.sum(axis=2, keepdims=True)


def _newton(p: Array, q: Array, price: Array) -> tuple[Array, Array]:
    """Newton's step within the simplex, and the decrease that it predicts for every row."""
    left, right = q[:, :-1], q[:, 1:]
    root, total = np.sqrt(q), left + right
    slope, curvature = -p / q, p / q
    slope[:, :-1] -= 0.5 * price * np.log1p((right - left) / (2.0 * left))
    slope[:, 1:] -= 0.5 * price * np.log1p((left - right) / (2.0 * right))
    curvature[:, :-1] += 0.5 * price * right / total
    curvature[:, 1:] += 0.5 * price * left / total
    coupling = -0.5 * price * root[:, :-1] * root[:, 1:] / total
    basis = _tangents(root)
    across = np.swapaxes(basis, 2, 3)
    downhill = -across @ (root * slope)[..., None]
    move = solve_chain(
        across @ (curvature[..., None] * basis), across[:, :-1] @ (coupling[..., None] * basis[:, 1:]), downhill
    )
    return root * (basis @ move)[..., 0], (downhill * move).sum(axis=(1, 2, 3))


def _tangents(root: Array) -> Array:
    """Orthonormal directions, shape (..., K, K - 1), across a unit vector of positive entries: Householder's."""
    reflected = root[..., 1:] / (1.0 + root[..., :1])
    mirror = root + np.eye(root.shape[-1])[0]
    return np.eye(root.shape[-1])[:, 1:] - mirror[..., :, None] * reflected[..., None, :]


def _descend(p: Array, q: Array, price: Array, step: Array, decrease: Array) -> Array:
    """Halve the step of every row until its objective falls by a fair share of the predicted decrease."""
    value, relative = _objective(p, q, price), step / q
    noise = np.finfo(np.float64).eps * (1.0 + np.abs(value) + price.sum(axis=(1, 2)))
    share = np.ones(len(q))
    while True:
        reached = _moved(q, share[:, None, None] * relative)
        high = _objective(p, reached, price) > value - SUFFICIENT * share * decrease + 8.0 * noise
        if not (high & (share > SMALLEST_STEP)).any():
            return np.where(high[:, None, None], q, reached)
        share = np.where(high, share / 2.0, share)


def _moved(q: Array, relative: Array) -> Array:
    # Downwards by a factor, which no step makes zero and which is where an entropy has its minimum; upwards by a sum.
    moved = q * np.where(relative < 0.0, np.exp(np.clip(relative, -STEEPEST, 0.0)), 1.0 + relative)
    return moved / moved.sum(axis=2, keepdims=True)


def _objective(p: Array, q: Array, price: Array) -> Array:
    log_q = np.log(q)
    divergence, *_ = jensen_shannon(log_q[:, :-1], log_q[:, 1:])
    return (price[..., 0] * divergence).sum(axis=1) - (p * log_q).sum(axis=(1, 2))


def min_cost_path(risks: Array, *, lengths: Indices, switch: float, scale: float | Array = 0.0) -> Indices:
    r"""Actions of least total cost where changing the action has a price, shape (N, L).

    .. math:: \min_a \sum_t R_{t, a_t} + c \sum_t [a_t \ne a_{t+1}]

    Ties go as in `decision.best_action`, position by position from the first: the lowest index from which the rest of
    the sequence costs at most `TIE_TOLERANCE` times ``scale`` more than from the best. A path is dearer than the best
    by no more than that at every position; at ``switch`` 0 it is what `best_action` chooses for each alone.

    Parameters
    ----------
    risks : ndarray of shape (N, L, A)
        Expected cost of every action at every position, or what it exceeds that of knowing the class by.
    lengths : ndarray of shape (N,)
    switch : float
        c, at least 0.
    scale : float, or ndarray of shape (N, L)
        What is at stake at every position: the expectation of `costs.class_ranges`.

    Examples
    --------
    >>> risks = np.array([[[0.0, 1.0], [0.6, 0.4], [0.0, 1.0]]])
    >>> [min_cost_path(risks, lengths=np.array([3]), switch=c)[0].tolist() for c in (0.0, 0.2)]
    [[0, 1, 0], [0, 0, 0]]

    References
    ----------
    Viterbi (1967), *Error Bounds for Convolutional Codes and an Asymptotically Optimum Decoding Algorithm*, IEEE
    Transactions on Information Theory 13.
    """
    n, length, actions = risks.shape
    present = _present(length, lengths)
    onward = np.where(present[..., None], risks, 0.0)  # least cost from here on, but for a constant of the row
    for t in range(length - 2, -1, -1):
        excess = onward[:, t + 1] - onward[:, t + 1].min(axis=1, keepdims=True)
        onward[:, t] += np.minimum(excess, switch)
    stakes = _stakes(np.broadcast_to(scale, (n, length)), present, switch)
    path, change = np.empty((n, length), dtype=np.intp), np.zeros((n, actions))
    for t in range(length):
        path[:, t], _ = best_action(onward[:, t] + change, scale=stakes[:, t])
        change = switch * (np.arange(actions) != path[:, t, None])
    return np.where(present, path, PADDING)


def _stakes(scale: Array, present: Flags, switch: float) -> Array:
    # With a price on change later positions count too, and so does their rounding.
    if not switch:
        return scale
    own = np.where(present, scale, 0.0)
    return own + ONWARD * (own[:, ::-1].cumsum(axis=1)[:, ::-1] - own)


def segments(labels: Indices, *, lengths: Indices) -> Segments:
    """Runs of equal labels, or actions.

    Parameters
    ----------
    labels : ndarray of shape (N, L)
    lengths : ndarray of shape (N,)

    Examples
    --------
    >>> runs = segments(np.array([[0, 0, 1, 0], [2, 2, -1, -1]]), lengths=np.array([4, 2]))
    >>> runs.counts, runs.lengths
    (array([3, 1]), array([[2, 1, 1, 0],
           [2, 0, 0, 0]]))
    """
    present = _present(labels.shape[1], lengths)
    starts = present.copy()
    starts[:, 1:] &= labels[:, 1:] != labels[:, :-1]
    which = np.cumsum(starts, axis=1) - 1
    found = np.zeros(labels.shape, dtype=np.intp)
    rows, positions = np.nonzero(present)
    np.add.at(found, (rows, which[rows, positions]), 1)
    return Segments(starts.sum(axis=1), found)


def adjacent_jsd(log_probs: Array, *, lengths: Indices) -> Array:
    """Jensen–Shannon divergence of every position and the next, shape (N, L - 1), in nats; 0 where either is padding.

    Their sum over ``(lengths - 1).sum()`` is the mean over neighbours.

    Parameters
    ----------
    log_probs : ndarray of shape (N, L, K)
    lengths : ndarray of shape (N,)

    Examples
    --------
    >>> rows = np.log([[[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]]])
    >>> adjacent_jsd(rows, lengths=np.array([2])).round(4)
    array([[0.2754, 0.    ]])
    """
    present = _present(log_probs.shape[1], lengths)
    known = _uniform_behind(log_probs, present)
    divergence, *_ = jensen_shannon(known[:, :-1], known[:, 1:])
    return np.where(present[:, :-1] & present[:, 1:], divergence, 0.0)


def _present(length: int, lengths: Indices) -> Flags:
    return np.arange(length) < lengths[:, None]


def _uniform_behind(log_probs: Array, present: Flags) -> Array:
    return np.where(present[..., None], log_probs, -np.log(log_probs.shape[2]))

r"""The posterior behind a training loss: inverses of focal loss, label smoothing and class weights.

A model trained to the optimum of a loss other than cross-entropy does not report the posterior p but some q; where q
determines p in closed form, the map from q back to p stands here. It is exact at the population optimum; a network
that separates its training rows forgets the loss, so held-out rows decide whether the map is used at all.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from service.core.losses.loss import LOWEST
from service.core.losses.softmax import log_focal_factor, log_rest_mass
from service.core.numerics import Array, floored_log, log_softmax
from service.core.state_checks import check_number, check_positive


class Inverse(Protocol):
    """A frozen dataclass whose fields are numbers or lists of numbers: what `calibration.json` stores."""

    def apply(self, log_probs: Array) -> Array:
        """Log-probabilities of the posterior from the model's own, shape (N, K)."""


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Of a proper loss, whose optimum is the posterior."""

    def apply(self, log_probs: Array) -> Array:
        """The log-probabilities as they are.

        Examples
        --------
        >>> Unchanged().apply(np.array([[-1.0, -0.5]]))
        array([[-1. , -0.5]])
        """
        return log_probs


@dataclass(frozen=True, slots=True)
class ClassWeights:
    r"""Of a class-weighted loss, whose optimum is :math:`q_k \propto w_k p_k`.

    Parameters
    ----------
    class_weights : sequence of float, length K
        Positive; only their ratios matter.

    References
    ----------
    Elkan (2001), *The Foundations of Cost-Sensitive Learning*, IJCAI.
    """

    class_weights: Sequence[float]

    def __post_init__(self) -> None:
        check_positive("class_weights", self.class_weights, None)

    def apply(self, log_probs: Array) -> Array:
        r""":math:`\log p_k = \log q_k - \log w_k - \log Z`.

        Parameters
        ----------
        log_probs : ndarray of shape (N, K)

        Examples
        --------
        >>> np.exp(ClassWeights((1.0, 9.0)).apply(np.log([[0.5, 0.5]]))).round(4)
        array([[0.9, 0.1]])
        """
        return log_softmax(log_probs - np.log(self.class_weights))


@dataclass(frozen=True, slots=True)
class PositiveWeight:
    r"""Of a sigmoid loss that weighs present labels by β: the optimum's odds are β times the posterior's.

    Parameters
    ----------
    positive_weight : float or sequence of float, length M
        Positive.
    """

    positive_weight: float | Sequence[float] = 1.0

    def __post_init__(self) -> None:
        check_positive("positive_weight", self.positive_weight, *np.shape(self.positive_weight))

    def apply(self, log_odds: Array) -> Array:
        r"""Log-odds of every label's posterior, :math:`z - \log \beta`.

        Parameters
        ----------
        log_odds : ndarray of shape (N, M) or (N,)
            Of the model's sigmoids, its logits; they hold the logarithms of p and 1 - p to full precision.

        Examples
        --------
        >>> PositiveWeight(math.e).apply(np.array([[1.0, 3.0]]))
        array([[0., 2.]])
        """
        return log_odds - np.log(self.positive_weight)


@dataclass(frozen=True, slots=True)
class Focal:
    r"""Of the focal loss, whose optimum is under-confident, save in rows where no class has half.

    .. math:: p_k \propto \frac{q_k}{\alpha_k\, \varphi(q_k)}, \qquad
              \varphi(v) = (1-v)^\gamma - \gamma (1-v)^{\gamma-1} v \log v

    Without α the most probable class stays the most probable.

    Parameters
    ----------
    gamma : float
        At least 0, where nothing changes.
    alpha : sequence of float, length K, optional
        The loss's class weights.

    References
    ----------
    Charoenphakdee et al. (2021), *On Focal Loss for Class-Posterior Probability Estimation*, CVPR, theorem 11.
    """

    gamma: float = 2.0
    alpha: Sequence[float] | None = None

    def __post_init__(self) -> None:
        check_number("gamma", self.gamma, least=0.0)
        if self.alpha is not None:
            check_positive("alpha", self.alpha, None)

    def apply(self, log_probs: Array) -> Array:
        """Log-probabilities of the posterior.

        Parameters
        ----------
        log_probs : ndarray of shape (N, K)

        Examples
        --------
        >>> np.exp(Focal(gamma=2.0).apply(np.log([[0.62661483, 0.37338517]]))).round(6)
        array([[0.8, 0.2]])
        """
        log_q, rows, top = np.maximum(log_probs, LOWEST), np.arange(len(log_probs)), log_probs.argmax(axis=1)
        log_rest = np.empty_like(log_q)
        np.log1p(-np.exp(np.minimum(log_q, -math.log(2.0))), out=log_rest)  # all but the largest are at most 1/2
        log_rest[rows, top] = log_rest_mass(log_q, top)
        ratio = log_q - log_focal_factor(log_q, log_rest, gamma=self.gamma)
        ratio = np.minimum(ratio, ratio[rows, top][:, None])  # q / phi(q) rises with q; rounding must not break that
        return log_softmax(ratio if self.alpha is None else ratio - np.log(self.alpha))


@dataclass(frozen=True, slots=True)
class SigmoidFocal:
    r"""Of the focal loss on sigmoids: `Focal` with the two classes of every label.

    Parameters
    ----------
    gamma : float
    alpha : float, optional
        In (0, 1): the loss's weight of a present label; an absent one has 1 - alpha.
    """

    gamma: float = 2.0
    alpha: float | None = None

    def __post_init__(self) -> None:
        check_number("gamma", self.gamma, least=0.0)
        if self.alpha is not None:
            check_number("alpha", self.alpha, above=0.0, below=1.0)

    def apply(self, log_odds: Array) -> Array:
        r"""Log-odds of every label's posterior.

        .. math:: \log \frac{p}{1-p} = z - \log \frac{\alpha\, \varphi(\sigma(z))}{(1-\alpha)\, \varphi(\sigma(-z))}

        Parameters
        ----------
        log_odds : ndarray of shape (N, M) or (N,)
            Of the model's sigmoids, its logits; they hold the logarithms of p and 1 - p to full precision.

        Examples
        --------
        >>> log_odds = SigmoidFocal(gamma=2.0).apply(np.array([[np.log(0.62661483 / 0.37338517)]]))
        >>> (1.0 / (1.0 + np.exp(-log_odds))).round(6)
        array([[0.8]])
        """
        log_p, log_rest = -np.logaddexp(0.0, -log_odds), -np.logaddexp(0.0, log_odds)
        present = log_focal_factor(log_p, log_rest, gamma=self.gamma)
        absent = log_focal_factor(log_rest, log_p, gamma=self.gamma)
        prior = 0.0 if self.alpha is None else math.log(self.alpha) - math.log1p(-self.alpha)
        return log_odds - (present - absent) - prior


@dataclass(frozen=True, slots=True)
class LabelSmoothing:
    r"""Of label smoothing, whose optimum is :math:`q_k = (1-\varepsilon) p_k + \varepsilon/K`.

    Parameters
    ----------
    epsilon : float
        In [0, 1).
    floor : float
        Smallest probability that differs from zero: a finite model emits values below ε/K, which no posterior explains.

    References
    ----------
    Szegedy et al. (2016), *Rethinking the Inception Architecture for Computer Vision*, CVPR.
    """

    epsilon: float = 0.1
    floor: float = 1e-7

    def __post_init__(self) -> None:
        check_number("epsilon", self.epsilon, least=0.0, below=1.0)
        check_number("floor", self.floor, above=0.0, below=0.5)

    def apply(self, log_probs: Array) -> Array:
        r""":math:`p_k = (q_k - \varepsilon/K) / (1 - \varepsilon)`, clipped at the floor and renormalised.

        Parameters
        ----------
        log_probs : ndarray of shape (N, K)

        Examples
        --------
        >>> np.exp(LabelSmoothing(epsilon=0.1).apply(np.log([[0.77, 0.23]]))).round(6)
        array([[0.8, 0.2]])
        """
        if not self.epsilon:
            return log_probs
        k = log_probs.shape[1]
        return floored_log((np.exp(log_probs) - self.epsilon / k) / (1.0 - self.epsilon), floor=self.floor)


# No inverse: mixup (its optimum on clean inputs depends on how they are spread), distillation (the student repeats its
# teacher, errors included) and sequence_cross_entropy (a price on change ties every position to its neighbours).
INVERSES: Final[dict[str, type[Inverse]]] = {
    "cross_entropy": Unchanged,
    "weighted": ClassWeights,
    "focal": Focal,
    "label_smoothing": LabelSmoothing,
    "binary_cross_entropy": PositiveWeight,
    "multilabel_cross_entropy": PositiveWeight,
    "sigmoid_focal": SigmoidFocal,
}

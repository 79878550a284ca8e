"""Negative log-likelihood of the predicted class: how ambiguous a row is to the model."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from service.core.numerics import Array, predicted_nll
from service.core.ood.stateless import Stateless
from service.core.state_checks import check_number


@dataclass(frozen=True, slots=True)
class Nll(Stateless):
    r"""Negative log-likelihood of the predicted class, on raw logits.

    .. math:: s(z) = -\max_k \log\operatorname{softmax}(z / T)_k

    It ranks as the maximum softmax probability does, reversed. It measures ambiguity, which costs already
    price, and can fall far away from the data; `mahalanobis` sees what it cannot. T has nothing to do with that of
    calibration: it is 1 unless out-of-distribution data showed a better one, and moves no ranking of two classes.

    Attributes
    ----------
    temperature : ndarray of shape ()
        T; towards 0 the ranking is that of `margin`, towards infinity that of `centred_max`.

    References
    ----------
    Hendrycks and Gimpel (2017), *A Baseline for Detecting Misclassified and Out-of-Distribution Examples*, ICLR.
    Hein et al. (2019), *Why ReLU Networks Yield High-Confidence Predictions Far Away From the Training Data*, CVPR.
    """

    needs: ClassVar[str] = "probabilities"

    temperature: Array = field(default_factory=lambda: np.array(1.0))

    def __post_init__(self) -> None:
        check_number("temperature", self.temperature, above=0.0)

    def score(self, values: Array) -> Array:
        """Scores, shape (N,), of logits or log-probabilities, shape (N, K).

        Examples
        --------
        >>> Nll().score(np.array([[0.0, 0.0], [0.0, 4.0]])).round(6)
        array([0.693147, 0.01815 ])
        """
        return predicted_nll(values / self.temperature)

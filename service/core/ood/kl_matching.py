"""KL matching: divergence from the mean prediction of the nearest class."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from service.core.numerics import Array, Indices, log_softmax
from service.core.ood.features import Stored, compact
from service.core.state_checks import SUM_TOLERANCE, check_array


@dataclass(frozen=True, slots=True)
class KlMatching:
    r"""Divergence of the row's probabilities from the nearest typical answer.

    .. math:: s(p) = \min_k \operatorname{KL}(p \,\Vert\, d_k), \quad
        d_k = \text{mean of the probabilities of training rows predicted } k

    Labels are not used: the templates are those of the predicted classes.

    Attributes
    ----------
    log_templates : ndarray of shape (K', K)
        Logarithms of :math:`d_k`, for the classes that were predicted at least once.

    References
    ----------
    Hendrycks et al. (2022), *Scaling Out-of-Distribution Detection for Real-World Settings*, ICML.
    """

    needs: ClassVar[str] = "probabilities"
    stateful: ClassVar[bool] = True

    log_templates: Stored

    def __post_init__(self) -> None:
        if not check_array("log_templates", self.log_templates, None, None).size:
            raise ValueError("log_templates must hold a class")
        if self.log_templates.max() > SUM_TOLERANCE:
            raise ValueError("log_templates must be logarithms of probabilities")

    @classmethod
    def fit(cls, values: Array, labels: Indices, *, logits: Array | None = None) -> Self:
        """Mean probabilities of the rows of every predicted class.

        Parameters
        ----------
        values : ndarray of shape (N, K)
            Logits or log-probabilities.
        labels, logits
            Not used.
        """
        del labels, logits
        probabilities, predicted = np.exp(log_softmax(values)), values.argmax(axis=1)
        templates = np.stack([probabilities[predicted == k].mean(axis=0) for k in np.unique(predicted)])
        return cls(compact(np.log(np.maximum(templates, np.finfo(np.float64).tiny))))

    def score(self, values: Array) -> Array:
        """Scores, shape (N,), of logits or log-probabilities, shape (N, K).

        Examples
        --------
        >>> fitted = KlMatching.fit(np.array([[2.0, 0.0], [0.0, 2.0]]), np.array([0, 1]))
        >>> fitted.score(np.array([[2.0, 0.0], [0.0, 0.0]])).round(6)
        array([0.      , 0.433781])
        """
        log_p = log_softmax(values)
        probabilities = np.exp(log_p)
        surprise = np.einsum("nk,nk->n", probabilities, log_p)
        closest = (probabilities @ self.log_templates.T).max(axis=1)
        return np.maximum(surprise - closest, 0.0)

"""Scores on raw logits (energy, maximum, norm), which probabilities and one column of output no longer hold."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from service.core.numerics import Array, logsumexp
from service.core.ood.stateless import Stateless


@dataclass(frozen=True, slots=True)
class MaxLogit(Stateless):
    r"""The largest logit, reversed: :math:`s(z) = -\max_k z_k`.

    References
    ----------
    Hendrycks et al. (2022), *Scaling Out-of-Distribution Detection for Real-World Settings*, ICML.
    """

    needs: ClassVar[str] = "logits"

    def score(self, values: Array) -> Array:
        """Scores, shape (N,), of logits of shape (N, K).

        Examples
        --------
        >>> MaxLogit().score(np.array([[1.0, 2.0, 3.0]]))
        array([-3.])
        """
        return -values.max(axis=1)


@dataclass(frozen=True, slots=True)
class Energy(Stateless):
    """Free energy of the row at T = 1.

    Cross-entropy never pins the level of a row's logits, so that the level means something is a habit of training:
    it ranks first on some architectures and behind `nll` on others. Normalised log-probabilities all have energy 0.

    References
    ----------
    Liu et al. (2020), *Energy-based Out-of-Distribution Detection*, NeurIPS.
    """

    needs: ClassVar[str] = "logits"

    def score(self, values: Array) -> Array:
        """Scores, shape (N,), of logits of shape (N, K).

        Examples
        --------
        >>> Energy().score(np.array([[1.0, 2.0, 3.0]])).round(6)
        array([-3.407606])
        """
        return free_energy(values)


@dataclass(frozen=True, slots=True)
class LogitNorm(Stateless):
    r"""Largest centred logit relative to their norm, reversed: only the row's direction counts.

    .. math:: s(z) = -\frac{\max_k (z_k - \bar z)}{\lVert z - \bar z \rVert_2}

    It undoes confidence that is only a matter of scale. p = 2 makes it the cosine between the row and its predicted
    class' corner, in :math:`[-\sqrt{1 - 1/K}, 0]`; larger p would have to be tuned on labelled rows. Two classes
    always have the same value, :math:`-1/\sqrt 2`: it needs three. A row of equal logits scores 0, the highest.

    References
    ----------
    Cattelan and Silva (2024), *How to Fix a Broken Confidence Estimator*, UAI.
    """

    needs: ClassVar[str] = "logits"

    def score(self, values: Array) -> Array:
        """Scores, shape (N,), of logits of shape (N, K).

        Examples
        --------
        >>> LogitNorm().score(np.array([[9.0, 0.0, 0.0, 0.0], [9.0, 9.0, 0.0, 0.0], [9.0] * 4])).round(6)
        array([-0.866025, -0.5     ,  0.      ])
        """
        centred = values - values.mean(axis=1, keepdims=True)
        norm = np.sqrt(np.einsum("nk,nk->n", centred, centred))
        flat = norm <= 1e-12 * np.abs(values).max(axis=1)  # what is left of equal logits is rounding noise
        return np.where(flat, 0.0, -centred.max(axis=1) / np.where(flat, 1.0, norm))


def free_energy(logits: Array, *, temperature: float = 1.0) -> Array:
    r"""Helmholtz free energy of states with energies :math:`E_k = -z_k`.

    .. math:: F = -T \log \sum_k e^{z_k / T} = \langle E \rangle - T H(p)

    Parameters
    ----------
    logits : ndarray of shape (N, K)
    temperature : float

    Examples
    --------
    >>> free_energy(np.array([[1.0, 2.0, 3.0]]), temperature=2.0).round(6)
    array([-4.360539])
    """
    return -temperature * logsumexp(logits / temperature)

"""Scores on the logits of independent sigmoids: every label has evidence of its own, and none need be present."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from service.core.numerics import Array
from service.core.ood.stateless import Stateless


@dataclass(frozen=True, slots=True)
class JointEnergy(Stateless):
    r"""Free energy summed over labels: :math:`s(z) = -\sum_j \log(1 + e^{z_j})`.

    A known row shows evidence for some of its labels, and every label adds what it has. So a row that truly has none
    of them scores high, as an unknown one does: where such rows are common, it flags them first.

    References
    ----------
    Wang et al. (2021), *Can Multi-Label Classification Networks Know What They Don't Know?*, NeurIPS.
    """

    needs: ClassVar[str] = "sigmoid_logits"

    def score(self, values: Array) -> Array:
        """Scores, shape (N,), of logits of shape (N, M).

        Examples
        --------
        >>> JointEnergy().score(np.array([[0.0, 0.0], [4.0, 0.0]])).round(6)
        array([-1.386294, -4.711297])
        """
        return -np.logaddexp(0.0, values).sum(axis=1)


@dataclass(frozen=True, slots=True)
class MaxLabel(Stateless):
    r"""The largest logit of any label, reversed: :math:`s(z) = -\max_j z_j`.

    It ranks as the least probable absence does; other labels add nothing, as they do in `joint_energy`.

    References
    ----------
    Hendrycks et al. (2022), *Scaling Out-of-Distribution Detection for Real-World Settings*, ICML.
    """

    needs: ClassVar[str] = "sigmoid_logits"

    def score(self, values: Array) -> Array:
        """Scores, shape (N,), of logits of shape (N, M).

        Examples
        --------
        >>> MaxLabel().score(np.array([[1.0, -1.0], [4.0, 3.0]]))
        array([-1., -4.])
        """
        return -values.max(axis=1)

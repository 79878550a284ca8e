"""Out-of-distribution scores (larger = further from the training data) and rules, by name."""

from typing import ClassVar, Final, Protocol, Self

from service.core.numerics import Array, Indices
from service.core.ood.kl_matching import KlMatching
from service.core.ood.knn import Knn
from service.core.ood.logit_scores import Energy, LogitNorm, MaxLogit
from service.core.ood.mahalanobis import Mahalanobis
from service.core.ood.multilabel import JointEnergy, MaxLabel
from service.core.ood.nll import Nll
from service.core.ood.probabilities import CentredMax, Entropy, Gen, Margin
from service.core.ood.relative_mahalanobis import RelativeMahalanobis
from service.core.ood.vim import Vim


class Score(Protocol):
    """A score with its fitted state, if it has any: its dataclass fields, all arrays, are what `state.npz` stores."""

    needs: ClassVar[str]
    """``features``, ``logits`` (raw ones: not for a model that emits probabilities or a single column),
    ``probabilities``: log-probabilities up to a constant of the row, as logits are; or ``sigmoid_logits``, one of
    every label of a multilabel model, which fits none of the others but ``features``."""
    stateful: ClassVar[bool]
    """Whether `fit` learns from rows; thresholds then need other rows."""

    @classmethod
    def fit(cls, values: Array, labels: Indices, *, logits: Array | None = None) -> Self:
        """Learn from training rows.

        Parameters
        ----------
        values : ndarray of shape (N, K) or (N, F)
            What ``needs`` names.
        labels : ndarray of shape (N,)
        logits : ndarray of shape (N, K), optional
            What the model made of the same rows; `vim` weighs features against it.
        """

    def score(self, values: Array) -> Array:
        """One score per row, shape (N,)."""


SCORES: Final[dict[str, type[Score]]] = {
    "nll": Nll,
    "entropy": Entropy,
    "gen": Gen,
    "margin": Margin,
    "centred_max": CentredMax,
    "kl_matching": KlMatching,
    "max_logit": MaxLogit,
    "energy": Energy,
    "logit_norm": LogitNorm,
    "mahalanobis": Mahalanobis,
    "relative_mahalanobis": RelativeMahalanobis,
    "knn": Knn,
    "vim": Vim,
    "joint_energy": JointEnergy,
    "max_label": MaxLabel,
}
RULES: Final[tuple[str, ...]] = ("range",)

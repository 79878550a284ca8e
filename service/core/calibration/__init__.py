"""Maps from raw logits to calibrated log-probabilities: a protocol, and a registry of methods by name."""

from typing import ClassVar, Final, Protocol, Self

from service.core.calibration.bcts import Bcts
from service.core.calibration.beta import Beta
from service.core.calibration.histogram import Histogram
from service.core.calibration.identity import Identity
from service.core.calibration.isotonic import Isotonic
from service.core.calibration.matrix import Matrix
from service.core.calibration.platt import Platt
from service.core.calibration.temperature import Temperature
from service.core.calibration.vector import Vector
from service.core.numerics import Array, Indices


class Map(Protocol):
    """What stage C applies."""

    def apply(self, logits: Array) -> Array:
        """Calibrated log-probabilities of raw logits: (N, K) (N, K) of (N, K); multilabel (N, M, 2) of (N, M)."""


class Calibrator(Map, Protocol):
    """A fitted map of classes. Its dataclass fields are what `calibration.json` stores."""

    free_intercepts: ClassVar[bool]
    """Whether it can move the mean probability of a class, and so has the calibration rows' prevalence."""

    needs: ClassVar[str]
    """What models it can serve: ``any``, or ``binary`` for those of two classes."""

    @classmethod
    def fit(
        cls,
        logits: Array,
        labels: Indices,
        *,
        weights: Array | None = None,
        offset: Array | None = None,
        units: int | None = None,
    ) -> Self:
        """Best map for rows (N, K) and their class indices (N,); of weights (N,) only the ratios matter.

        ``offset`` (K,) is the log ratio of the rows' prevalence to the model's own; methods with free intercepts
        ignore it. ``units`` is how many rows, or groups of rows, are independent of each other: what ridges, smoothed
        targets and mixtures are measured by. Without it, all rows.
        """

    def separable(
        self, logits: Array, labels: Indices, *, weights: Array | None = None, offset: Array | None = None
    ) -> bool:
        """Whether the loss of this family, without its penalty or smoothing, falls for ever on the rows of its fit.

        No finite parameters are then best, and the penalty alone determines how certain the fit is. Classes that do
        not occur do not make it so.
        """

    @staticmethod
    def size(k: int) -> int:
        """Number of free parameters for ``k`` classes."""


CALIBRATORS: Final[dict[str, type[Calibrator]]] = {
    "identity": Identity,
    "temperature": Temperature,
    "bcts": Bcts,
    "vector": Vector,
    "matrix": Matrix,
    "platt": Platt,
    "beta": Beta,
    "isotonic": Isotonic,
    "histogram": Histogram,
}

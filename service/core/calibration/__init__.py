"""Maps from raw logits to calibrated log-probabilities: a protocol, and a registry of methods by name."""

from typing import ClassVar, Final, Protocol

from service.core.calibration.identity import Identity
from service.core.calibration.temperature import Temperature
from service.core.numerics import Array


class Calibrator(Protocol):
    """A fitted map. Its dataclass fields are what `calibration.json` stores."""

    free_intercepts: ClassVar[bool]
    """Whether it can move the mean probability of a class, and so speaks of the calibration rows' prevalence."""

    def apply(self, logits: Array) -> Array:
        """Calibrated log-probabilities, shape (N, K), of raw logits of the same shape."""


CALIBRATORS: Final[dict[str, type[Calibrator]]] = {"identity": Identity, "temperature": Temperature}

"""What the tests of a fit share: a toy fitted in a line, and its temperature."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from service.bundle.record import Record
from service.bundle.repository import Repository
from service.core.numerics import Array, Indices
from service.fitting.fit import FitRequest, FitResult, fit

Toy = Callable[..., Repository]
Truth = Callable[..., tuple[Array, Indices]]
Save = Callable[..., Path]
BOTH = '[ood]\nscores = ["nll", "mahalanobis"]\n'
EVEN = "[training]\nprevalence = { ann = 0.5, bob = 0.5 }\n"


def fitted(repository: Repository, data: Path, **options: object) -> FitResult:
    """A temperature of least log loss, unless another calibrator is named; `test_shrinkage.py` has the default."""
    request = FitRequest(data, **({"calibrator": "temperature"} | options))  # type: ignore[arg-type]  # by name
    return fit(repository, "toy", request)


def temperature(record: Record) -> float:
    value = record.calibrator.params["temperature"]
    assert isinstance(value, float)
    return value


def independent_temperature(
    logits: Array, labels: Indices, weights: Array | None = None, offset: Array | None = None
) -> float:
    """Least weighted log loss by a golden-section search that knows nothing of Newton steps."""

    def loss(log_t: float) -> float:
        tilted = logits / np.exp(log_t) + (0.0 if offset is None else offset)
        nll = logsumexp(tilted, axis=1) - tilted[np.arange(len(labels)), labels]
        return float(np.average(nll, weights=weights))

    best = minimize_scalar(loss, bounds=(-8.0, 8.0), method="bounded", options={"xatol": 1e-9})
    return float(np.exp(best.x))

"""What adding a calibrator takes; that the chains compete is tested in tests/fitting/test_calibrate.py."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import pytest

from service.bundle.manifest import Manifest
from service.bundle.repository import Repository
from service.core.calibration import CALIBRATORS
from service.core.numerics import Array, Indices, log_softmax
from service.data.dataset import Dataset
from service.errors import FitError
from service.fitting.candidate_chains import METHODS, candidate_chains
from service.fitting.fit import FitRequest, fit
from service.runtime.model import load_model


@dataclass(frozen=True, slots=True)
class Damped:
    """Logits times a factor: the ratio of two means."""

    factor: float
    free_intercepts: ClassVar[bool] = False
    needs: ClassVar[str] = "any"

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
        del labels, weights, offset, units
        return cls(1.0 / (1.0 + float(np.abs(logits).mean())))

    def apply(self, logits: Array) -> Array:
        return log_softmax(logits * self.factor)

    def separable(
        self, logits: Array, labels: Indices, *, weights: Array | None = None, offset: Array | None = None
    ) -> bool:
        del logits, labels, weights, offset
        return False

    @staticmethod
    def size(k: int) -> int:
        del k
        return 1


def test_a_calibrator_is_a_file_and_an_entry_of_the_registry(
    toy: Callable[..., Repository],
    truth: Callable[..., tuple[Array, Indices]],
    save: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(CALIBRATORS, "damped", Damped)
    x, y = truth(200)
    repository = toy()
    result = fit(repository, "toy", FitRequest(save(X=x, y=y), calibrator="damped"))
    assert result.record.chain == ("damped",)
    model = load_model(repository.bundle("toy", result.version))
    assert model.chain.calibrator == Damped(float(str(result.record.calibrator.params["factor"])))
    np.testing.assert_allclose(model.posterior(x).log_probs, Damped.fit(x, y).apply(x), atol=1e-12)


def test_the_command_takes_every_calibrator_of_the_registry() -> None:
    assert set(METHODS) == {*CALIBRATORS, "auto", "shrinkage"}


def test_a_calibrator_of_two_classes_is_refused_for_three(toy_manifest: Callable[..., Manifest]) -> None:
    data = Dataset(np.zeros((6, 3)), np.arange(6) % 3, None, None, "sha256:0")
    with pytest.raises(FitError, match="--calibrator platt is for two classes; this model has 3"):
        list(candidate_chains(toy_manifest(3), data.numbers, data, "platt"))

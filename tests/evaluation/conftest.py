"""A fitted toy model, and its evaluation on rows in memory."""

from collections.abc import Callable
from pathlib import Path

import pytest

from service.bundle.repository import Repository
from service.core.numerics import Array, Indices
from service.evaluation.classification_problem import LabelledAnswer
from service.evaluation.evaluate import Evaluation, answer_of, evaluate
from service.fitting.fit import FitRequest, fit
from service.prediction.bulk import posterior_of
from service.runtime.model import Model, load_model

TAIL = """\
[ood]
scores = ["nll", "mahalanobis"]
gate = ["mahalanobis", "range"]
[features.f0]
plausible = [-12.0, 12.0]
[policies.triage]
default = true
on_ood = "ask"
costs.go = { ann = 0, bob = 5 }
costs.stay = { ann = 2, bob = 0 }
costs.ask = { ann = 3, bob = 3 }
[policies.plain]
costs.go = { ann = 0, bob = 1 }
costs.stay = { ann = 1, bob = 0 }
"""
DEAR = """\
[policies.triage]
costs.go = { ann = 0, bob = 50 }
costs.stay = { ann = 1, bob = 1 }
costs.ask = { ann = 3, bob = 3 }
"""


def evaluated(
    model: Model,
    rows: Array,
    labels: Indices,
    *,
    ood: Array | None = None,
    weights: Array | None = None,
    groups: Indices | None = None,
) -> Evaluation:
    """An evaluation of rows in memory."""
    other = None if ood is None else posterior_of(model, ood)
    return evaluate(LabelledAnswer(answer_of(model, posterior_of(model, rows)), labels, weights, groups, other))


@pytest.fixture
def model(
    toy: Callable[..., Repository], truth: Callable[..., tuple[Array, Indices]], save: Callable[..., Path]
) -> Model:
    """Two classes, two scores, two policies, calibrated."""
    x, y = truth(600)
    repository = toy(2, TAIL)
    version = fit(repository, "toy", FitRequest(save(X=x, y=y))).version
    return load_model(repository.bundle("toy", version))


@pytest.fixture
def served(
    toy: Callable[..., Repository], truth: Callable[..., tuple[Array, Indices]], save: Callable[..., Path]
) -> Callable[..., Model]:
    """A calibrated model of so many classes, by a calibrator."""

    def make(k: int = 2, calibrator: str = "temperature", tail: str = DEAR) -> Model:
        x, y = truth(1500, k)
        repository = toy(k, tail)
        version = fit(repository, "toy", FitRequest(save(X=x, y=y), calibrator=calibrator)).version
        return load_model(repository.bundle("toy", version))

    return make

"""What `GET /v1/models/{name}` answers of how a model was trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from jsonschema import validate

from service.bundle.repository import Repository
from service.fitting.fit import FitRequest, fit
from service.runtime.registry import Registry, load_registry
from tests.tasks.conftest import draw_labels, draw_sequences, label_draft, sequence_draft

ClientOf = Callable[[Registry], httpx.AsyncClient]
WEIGHTED = (
    '[training]\nloss = "weighted"\nclass_weights = { ann = 1.0, bob = 9.0 }\nprevalence = { ann = 0.5, bob = 0.5 }\n'
)
SMOOTHED = '[training]\nloss = "label_smoothing"\nepsilon = 0.1\n'
FAVOURED = (0.0, -np.log(9.0))
"""Log-odds of the truth that weights of 1 and 9 take away."""


@pytest.fixture
def fitted(toy: Callable[..., Repository], truth: Callable[..., Any], tmp_path: Path) -> Callable[..., Registry]:
    """A calibrated model of two classes whose logits favour the second one, as declared in ``tail``."""

    def make(tail: str) -> Registry:
        repository = toy(2, tail)
        x, y = truth(2000, log_ratio=FAVOURED)
        np.savez(tmp_path / "rows.npz", X=x, y=y)
        fit(repository, "toy", FitRequest(tmp_path / "rows.npz"))
        return load_registry(repository)

    return make


async def described(client: httpx.AsyncClient, name: str) -> Any:
    """The member `training`; the answer fits the document."""
    async with client:
        answer = (await client.get(f"/v1/models/{name}")).json()
        document = (await client.get("/openapi.json")).json()
    schema = {"$ref": "#/components/schemas/ModelDescription", "components": document["components"]}
    validate(answer, schema)
    return answer["training"]


async def test_an_inverse_that_helps_is_named_as_applied(fitted: Any, client_of: ClientOf) -> None:
    assert await described(client_of(fitted(WEIGHTED)), "toy") == {
        "loss": "weighted",
        "class_weights": {"ann": 1.0, "bob": 9.0},
        "prevalence": {"ann": 0.5, "bob": 0.5},
        "inverse": {"name": "weighted", "applied": True},
    }


async def test_an_inverse_that_does_not_help_is_named_as_not_applied(fitted: Any, client_of: ClientOf) -> None:
    assert await described(client_of(fitted(SMOOTHED)), "toy") == {
        "loss": "label_smoothing",
        "epsilon": 0.1,
        "inverse": {"name": "label_smoothing", "applied": False},
    }


async def test_a_loss_without_an_exact_inverse_has_null(fitted: Any, client_of: ClientOf) -> None:
    mixup = '[training]\nloss = "mixup"\nmixup_alpha = 0.2\n'
    assert await described(client_of(fitted(mixup)), "toy") == {"loss": "mixup", "mixup_alpha": 0.2, "inverse": None}


async def test_a_manifest_that_declares_no_training_has_null(fitted: Any, client_of: ClientOf) -> None:
    assert await described(client_of(fitted("")), "toy") is None


async def test_of_labels_those_are_named_that_have_the_inverse(client_of: ClientOf, tmp_path: Path) -> None:
    weights = '[training]\nloss = "weighted"\nclass_weights = { ache = 9.0, burn = 9.0, chill = 9.0 }\n'
    workshop = label_draft(tmp_path, sharpness=1.0, shift=float(np.log(9.0)), more=weights)
    x, y, _ = draw_labels(2000, 0)
    workshop.fit(workshop.rows("labels", X=x, y=y))
    inverse = (await described(client_of(load_registry(workshop.repository)), "complaints"))["inverse"]
    assert (inverse["name"], inverse["applied"]) == ("multilabel_cross_entropy", True)
    assert inverse["labels"] == ["ache", "burn", "chill"]


async def test_of_a_sequence_model_the_smoothness_is_answered(client_of: ClientOf, tmp_path: Path) -> None:
    workshop = sequence_draft(tmp_path, more="[training]\nsmoothness = 1.0\n")
    x, y = draw_sequences(100, 0)
    workshop.fit(workshop.rows("sequences", X=x, y=y))
    registry = load_registry(workshop.repository)
    training = await described(client_of(registry), "motion")
    assert training == {"loss": "cross_entropy", "smoothness": 1.0, "inverse": None}


async def test_what_runs_a_model_is_described(fitted: Any, client_of: ClientOf) -> None:
    async with client_of(fitted(WEIGHTED)) as client:
        runtime = (await client.get("/v1/models/toy")).json()["runtime"]
        properties = (await client.get("/v2/models/toy")).json()["properties"]
    assert (runtime["provider"], runtime["device"], runtime["noise"]) == ("cpu", "cpu", None)
    assert runtime["operators_on_cpu"] == {}
    assert runtime["releases"][0].startswith("onnxruntime")
    assert (properties["provider"], properties["device"]) == ("cpu", "cpu")

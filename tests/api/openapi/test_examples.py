"""Examples are requests to served models with what these answer."""

from collections.abc import Callable
from typing import Any

import httpx
import numpy as np

from service.api.openapi.examples import subjects
from service.runtime.registry import Registry
from tests.bench import task_models

Json = dict[str, Any]


def test_a_model_of_every_task_is_shown(every_task: Registry) -> None:
    assert {subject.model.task for subject in subjects(every_task)} == {"multiclass", "multilabel", "sequence"}


def test_paths_lead_to_a_served_version(contract: Json) -> None:
    parameters = contract["paths"]["/v1/models/{name}/labels/{alias}:decide"]["post"]["parameters"]
    assert [one["example"] for one in parameters] == ["breast-cancer", "stable"]


async def test_a_response_is_what_the_request_beside_it_is_answered(
    contract: Json, client_of: Callable[..., httpx.AsyncClient], shipped: Registry
) -> None:
    examples = contract["components"]["examples"]
    async with client_of(shipped) as client:
        for verb in ("predict", "detect", "decide", "evaluate", "estimate"):
            sent = examples[f"{verb}.request.breast-cancer"]["value"]
            answer = await client.post(f"/v1/models/breast-cancer:{verb}", json=sent)
            shown = examples[f"{verb}.response.breast-cancer"]["value"]
            assert answer.status_code == 200
            assert without_ids(answer.json()) == without_ids(shown)


def test_a_request_that_a_task_refuses_is_no_example(contract_of_every_task: Json) -> None:
    examples = contract_of_every_task["components"]["examples"]
    assert f"estimate.request.{task_models.TEXT}" in examples
    for refused in (task_models.MULTILABEL, task_models.SEQUENCE):
        assert f"estimate.request.{refused}" not in examples


def test_tensors_of_text_and_of_sequences_are_shown_under_v2(contract_of_every_task: Json) -> None:
    examples = contract_of_every_task["components"]["examples"]
    (text,) = examples[f"infer.request.{task_models.TEXT}"]["value"]["inputs"]
    (positions,) = examples[f"infer.request.{task_models.SEQUENCE}"]["value"]["inputs"]
    assert (text["datatype"], text["shape"], np.shape(text["data"])) == ("BYTES", [1, 1], (1, 1))
    assert positions["shape"] == [1, task_models.LENGTH]
    assert f"infer.response.{task_models.TEXT}" in examples


def without_ids(value: Any) -> Any:
    if isinstance(value, dict):
        renewed = {"id", "created", "prediction_id"}
        return {name: without_ids(member) for name, member in value.items() if name not in renewed}
    return [without_ids(item) for item in value] if isinstance(value, list) else value

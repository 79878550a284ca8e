"""Requests that are refused, each in one sentence."""

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.v2.bodies import INFER, request_of, tensor
from tests.api.v2.sent_tensors import ENCODINGS, WAYS

BAD: dict[str, tuple[Any, int]] = {
    "no json": (b"{", 400),
    "not an object": ([1], 422),
    "no inputs": ({}, 422),
    "inputs that are no tensors": ({"inputs": [1]}, 422),
    "another input": (tensor(name="Y"), 422),
    "an input twice": ({"inputs": tensor()["inputs"] * 2}, 422),
    "too few columns": (tensor(shape=[1, 29], data=[1.0] * 29), 422),
    "fewer values than the shape": (tensor(data=[1.0] * 29), 422),
    "a negative size": (tensor(shape=[-1, 30]), 422),
    "a size that overflows": (tensor(shape=[2**62, 2**62]), 422),
    "text": (tensor(data=["a"] * 30), 422),
    "a datatype that is a list": (tensor(datatype=["FP32"]), 422),
    "true": (tensor(data=[True] * 30), 422),
    "null": (tensor(data=[None] * 30), 422),
    "no data": (tensor(data=None), 422),
    "ragged data": (tensor(shape=[2, 30], data=[[1.0] * 30, [1.0] * 29]), 422),
    "no rows": (tensor(shape=[0, 30], data=[]), 422),
    "an unknown datatype": (tensor(datatype="FP8"), 422),
    "bytes for numbers": (tensor(datatype="BYTES"), 422),
    "bytes that are not there": (tensor(data=None, parameters={"binary_data_size": 120}), 422),
    "a missing value": (b'{"inputs":[{"name":"X","shape":[1,30],"datatype":"FP32","data":[NaN]}]}', 400),
    "a number beyond a double": (b'{"inputs":[{"name":"X","shape":[1,30],"datatype":"FP32","data":[1e400]}]}', 400),
    "a key twice": (b'{"inputs":[],"inputs":[{"name":"X","shape":[1,1],"datatype":"FP32","data":[1]}]}', 400),
    "a number beyond the graph": (tensor(data=[1e39] * 30), 422),
    "an unknown output": (tensor() | {"outputs": [{"name": "mood"}]}, 422),
    "an output without a name": (tensor() | {"outputs": [{}]}, 422),
    "classes of actions": (tensor() | {"outputs": [{"name": "risk", "parameters": {"classification": 1}}]}, 422),
    "an unknown policy": (tensor() | {"parameters": {"policy": "mood"}}, 422),
    "an unknown site": (tensor() | {"parameters": {"site": "mood"}}, 422),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_bad_request_is_refused_in_one_sentence_and_the_next_is_answered(client, rows, case) -> None:
    body, status = BAD[case]
    refused = await client.post(INFER, content=body if isinstance(body, bytes) else json.dumps(body))
    assert refused.status_code == status, refused.text
    assert list(refused.json()) == ["error"]
    assert isinstance(refused.json()["error"], str)
    assert (await client.post(INFER, json=request_of(rows))).status_code == 200


JUNK: list[Any] = [
    *(None, True, 0, -1, 1.5, 2**53 + 1, 2**64, 1e300, "", "x", "\ud800", [], [[]], [None], ["a"], {}, {"a": 1}),
    *("BYTES", "FP16", "BOOL", "INT64", "lengths", "mask", "ids", [3, 1], [2, 0], [2, 2, 3], [[1, 2], [3]]),
]
REQUESTS = 400


def places_of(node: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    keys = node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    for key in keys:
        yield (*place, key)
        yield from places_of(node[key], (*place, key))


def damaged(document: Any, rng: random.Random) -> Any:
    """The same, with one member replaced by something else, or left out."""
    *way, last = rng.choice(list(places_of(document)))
    parent = document
    for key in way:
        parent = parent[key]
    if rng.random() < 0.8:
        parent[last] = copy.deepcopy(rng.choice(JUNK))
    else:
        del parent[last]
    return document


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_no_damaged_request_is_a_fault_of_the_service(client_of, kinds, encoding) -> None:
    rng = random.Random(0)  # noqa: S311  # no secret
    async with client_of(kinds) as client:
        for _ in range(REQUESTS):
            model, tensors = copy.deepcopy(WAYS[rng.choice(list(WAYS))])
            entries = [ENCODINGS[encoding](sent) for sent in tensors]
            document = damaged({"inputs": [entry for entry, _ in entries], "outputs": [{"name": "logits"}]}, rng)
            head = json.dumps(document).encode()
            headers = {"Inference-Header-Content-Length": str(len(head))}
            body = head + b"".join(blob for _, blob in entries)
            answer = await client.post(f"/v2/models/{model}/infer", content=body, headers=headers)
            assert answer.status_code in {200, 400, 422}, head
            assert answer.status_code == 200 or list(answer.json()) == ["error"]


async def test_an_empty_name_is_no_policy_where_none_is_the_default(publish_logits, client_of) -> None:
    policies = "".join(
        f'[policies.{name}.costs]\nact = {{ "0" = 0, "1" = 1 }}\nwait = {{ "0" = 1, "1" = 0 }}\n' for name in ("a", "b")
    )
    async with client_of(publish_logits(("0", "1"), more=policies, fitted=True)) as client:
        (name,) = [entry["name"] for entry in (await client.get("/v2/models/logits")).json()["inputs"]]
        sent = {"name": name, "shape": [1, 2], "datatype": "FP64", "data": [[0.0, 1.0]]}
        answer = await client.post("/v2/models/logits/infer", json={"inputs": [sent], "parameters": {"policy": ""}})
    assert answer.status_code == 422
    assert "policy" in answer.json()["error"]

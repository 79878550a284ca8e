"""Requests that are refused, each in one sentence."""

import json
from typing import Any

import pytest

from tests.api.v2.bodies import INFER, request_of, tensor

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

"""Tensors mean the rows that `/v1` means, for a model of every kind, whatever way they are sent."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from service.api.v2.input_tensors import rows_of
from service.api.v2.tensors import Blobs, read_tensors
from service.errors import InvalidInstances, RequestError
from service.runtime.numbers import NumberInputs, Slot
from service.runtime.registry import Registry
from service.runtime.rows import Fields
from tests.api.v2.sent_tensors import (
    BIG,
    CODE,
    ENCODINGS,
    IDS,
    INSTANCES,
    LENGTHS,
    MASK,
    PLACE,
    SEEN,
    STAY,
    STEPS,
    WAYS,
    Sent,
    X,
    as_json,
    body_of,
)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("way", WAYS)
async def test_tensors_are_the_rows_that_v1_takes(client_of, kinds: Registry, way: str, encoding: str) -> None:
    name, tensors = WAYS[way]
    body, headers = body_of(tensors, encoding, outputs=[{"name": "probabilities"}])
    async with client_of(kinds) as client:
        answer = await client.post(f"/v2/models/{name}/infer", content=body, headers=headers)
        plain = await client.post(f"/v1/models/{name}:predict", json={"instances": INSTANCES[name]})
    assert answer.status_code == 200, answer.text
    (output,) = answer.json()["outputs"]
    rows = [row["probabilities"] for row in plain.json()["predictions"]]
    longest = max(len(row) for row in rows)
    expected: list[Any] = []
    for row in rows:
        positions = row if isinstance(row, list) else [row]
        expected += [p for position in positions for p in position.values()]
        expected += [None] * (2 * (longest - len(row)) if isinstance(row, list) else 0)
    assert output["data"] == expected


def read(registry: Registry, model: str, *tensors: Sent) -> Any:
    entries = [as_json(sent, flat=True)[0] for sent in tensors]
    return rows_of(read_tensors(entries, Blobs(b"")), registry.model(model).inputs)


def test_integers_stay_whole_beside_a_missing_one(kinds: Registry) -> None:
    rows = read(kinds, "stay", X, ("code", "INT64", [BIG, None]), *STAY[2:], LENGTHS)
    assert isinstance(rows, Fields)
    assert np.isnan(rows.numbers[1, 2])
    assert rows.others["code"].tolist() == [BIG, 0]


def test_a_missing_value_is_null_or_nan(kinds: Registry) -> None:
    rows = read(kinds, "stay", *STAY, LENGTHS)
    assert np.isnan(rows.numbers[1, 1])
    texts = read(kinds, "notes", ("place", "BYTES", ["icu"]), ("arrival", "BYTES", [None]))
    assert texts.others["arrival"].tolist() == [None]


NO_MASK = [*STAY[:5], ("ids", "INT64", [[1, 2, 6], [4, 5, 0]])]
WRONG: dict[str, tuple[str, list[Sent], str]] = {
    "an input less": ("stay", STAY[1:], "inputs: must hold a tensor 'x' of shape [rows, 2], or one for each of its 2"),
    "a column less": ("stay", [("age", "FP32", [3, 9]), *STAY[1:]], "inputs: lacks columns of 'x': 'pulse'"),
    "an input more": ("stay", [*STAY, MASK, ("mood", "FP32", [1, 1])], "inputs.7.name: must be one of 'x', 'code'"),
    "an input twice": ("stay", [*STAY, X], "inputs.6.name: is the name of an earlier input too"),
    "an input and its column": ("stay", [*STAY, MASK, ("age", "FP32", [3, 9])], "inputs.7.name: must be one of"),
    "lengths where none vary": ("picture", [WAYS["pixels"][1][0], LENGTHS], "inputs.1.name: must be one of 'pixels'"),
    "other rows": ("stay", [*STAY, ("lengths", "INT64", [3])], "inputs.6.shape: must begin with the number of rows"),
    "no rows": ("notes", [("place", "BYTES", []), ("arrival", "BYTES", [])], "inputs.0.shape: must have one row"),
    "text for numbers": ("stay", [("x", "BYTES", [["a", "b"]] * 2), *STAY[1:]], "inputs.0.datatype: must be of num"),
    "numbers for text": ("notes", [("words", "INT8", [[1, 2]])], "inputs.0.datatype: must be BYTES"),
    "true for numbers": ("complaints", [("dose", "BOOL", [True])], "inputs.0.datatype: must be of numbers, such as"),
    "numbers among text": ("notes", [("words", "BYTES", [["icu", 1]])], "inputs.0.data: must hold strings and null"),
    "another rank": ("picture", [("pixels", "UINT8", [[1, 2, 3]])], "inputs.0.shape: must be [rows, 2, 3]"),
    "another size": ("picture", [("pixels", "UINT8", [[[1, 2], [3, 4]]])], "inputs.0.shape: must be [rows, 2, 3]"),
    "an open rank": ("motion", [("steps", "FP32", [[[1.0]]])], "inputs.0.shape: must be [rows, any]"),
    "no positions": ("motion", [("steps", "FP32", [[]])], "inputs.0.shape: must be [rows, any]"),
    "null among pixels": (
        "picture",
        [("pixels", "UINT64", [[[2**60, None, 1], [2, 3, 4]]])],
        "inputs.0.data: must fit",
    ),
    "padding without lengths": ("stay", NO_MASK, "inputs: rows end in the padding value; send 'mask' or 'lengths'"),
    "a mask with a gap": ("stay", [*STAY, ("mask", "FP32", [[1, 0, 1], [1, 1, 1]])], "inputs.6.data: must be 1 at the"),
    "a mask of nothing": ("stay", [*STAY, ("mask", "FP32", [[0, 0, 0], [1, 1, 1]])], "inputs.6.data: must be 1 at the"),
    "a mask of halves": ("stay", [*STAY, ("mask", "FP32", [[1, 1, 0.5], [1, 1, 1]])], "inputs.6.data: must be 1 at"),
    "a narrow mask": ("stay", [*STAY, ("mask", "FP32", [[1, 1], [1, 1]])], "inputs.6.shape: must be [rows, 3], as the"),
    "contradictions": ("stay", [*STAY, MASK, ("lengths", "INT64", [3, 2])], "inputs: masks and lengths must agree"),
    "a length of nothing": ("motion", [STEPS, ("lengths", "INT64", [3, 0])], "inputs.1.data: must be whole numbers"),
    "half a length": ("motion", [STEPS, ("lengths", "FP32", [3, 1.5])], "inputs.1.data: must be whole numbers from 1"),
    "lengths of text": ("motion", [STEPS, ("lengths", "BYTES", ["3", "1"])], "inputs.1.shape: must be [rows], of who"),
    "another constant": ("stay", [*STAY, MASK, ("kinds", "INT64", [[1, 0, 0]] * 2)], "inputs.7.data: is filled by the"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_refused_where_it_was_sent(kinds: Registry, case: str) -> None:
    model, tensors, message = WRONG[case]
    with pytest.raises(RequestError) as caught:
        read(kinds, model, *tensors)
    assert caught.value.detail.startswith(message), caught.value.detail
    assert caught.value.faults


LATER: dict[str, tuple[str, list[Sent], str]] = {
    "an unknown category": ("notes", [("place", "BYTES", ["er", "pub"]), ("arrival", "BYTES", ["a", "b"])], "inputs.0"),
    "a value not allowed": (
        "stay",
        [("x", "FP32", [[3, 60], [130, 1]]), *STAY[1:], MASK],
        "inputs.0.data: row 1, 'age'",
    ),
    "a pixel not allowed": (
        "picture",
        [("pixels", "UINT8", [[[0, 0, 0], [0, 251, 0]]])],
        "inputs.0.data: row 0, 'pixel",
    ),
    "a missing value": (
        "stay",
        [("pulse", "FP32", [1, 2]), ("age", "FP32", [1, None]), *STAY[1:], MASK],
        "inputs.1.data",
    ),
    "half a code": (
        "stay",
        [MASK, X, ("code", "FP64", [0.5, 1]), *STAY[2:]],
        "inputs.2.data: row 0, 'code': must be a wh",
    ),
    "two for a boolean": (
        "stay",
        [MASK, X, CODE, ("seen", "UINT8", [2, 1]), *STAY[3:]],
        "inputs.3.data: row 0, 'seen'",
    ),
    "beyond FP16": (
        "stay",
        [("dose", "FP32", [1e6, 1]), X, CODE, SEEN, PLACE, IDS, MASK],
        "inputs.0.data: row 0, 'dose'",
    ),
}


@pytest.mark.parametrize("case", LATER)
async def test_what_a_model_does_not_take_is_refused_where_it_was_sent(
    client_of: Callable[..., httpx.AsyncClient], kinds: Registry, case: str
) -> None:
    model, tensors, message = LATER[case]
    body, headers = body_of(tensors, "flat JSON")
    async with client_of(kinds) as client:
        refused = await client.post(f"/v2/models/{model}/infer", content=body, headers=headers)
    assert (refused.status_code, list(refused.json())) == (422, ["error"])
    assert refused.json()["error"].startswith(message), refused.text
    assert not any(value in refused.text for value in ("pub", "130", "251"))


# ------------------------------------------------------------------------------------------- bodies of values alone


@pytest.mark.parametrize(
    ("model", "body", "rows"),
    [
        ("picture", np.arange(12, dtype="u1").tobytes(), np.arange(12).reshape(2, 2, 3).tolist()),
        ("motion", np.array([1.0, -0.5, 2.0], dtype="<f4").tobytes(), [[1.0, -0.5, 2.0]]),
        ("complaints", np.array([0.5, -1.0], dtype="<f4").tobytes(), [[0.5], [-1.0]]),
    ],
)
async def test_a_body_of_values_alone_is_the_one_input(client_of, kinds, model, body, rows) -> None:
    async with client_of(kinds) as client:
        raw = await client.post(
            f"/v2/models/{model}/infer", content=body, headers={"Inference-Header-Content-Length": "0"}
        )
        plain = await client.post(f"/v1/models/{model}:predict", json={"instances": rows})
    assert raw.status_code == 200, raw.text
    length = int(raw.headers["Inference-Header-Content-Length"])
    outputs = {output["name"]: output for output in json.loads(raw.content[:length])["outputs"]}
    assert outputs["probabilities"]["shape"][0] == len(plain.json()["predictions"])


@pytest.mark.parametrize(
    ("model", "body"), [("stay", b"1234"), ("picture", b"12345"), ("motion", b""), ("notes", b"a")]
)
async def test_a_body_of_values_alone_is_refused_where_it_says_too_little(client_of, kinds, model, body) -> None:
    async with client_of(kinds) as client:
        headers = {"Inference-Header-Content-Length": "0"}
        refused = await client.post(f"/v2/models/{model}/infer", content=body, headers=headers)
    assert (refused.status_code, list(refused.json())) == (422, ["error"])


def test_faults_without_a_place_keep_their_words(kinds: Registry) -> None:
    from service.api.v2.input_tensors import in_tensors

    error = InvalidInstances("there is no row")
    assert in_tensors(error, [], kinds.model("notes").inputs) is error


def test_a_column_with_the_name_of_its_input_is_no_ambiguity() -> None:
    wide = np.full(2, np.inf)
    slot = Slot("x", np.dtype("float32"), slice(0, 2))
    inputs = NumberInputs(("x", "y"), (slot,), -wide, wide, -wide, wide, np.zeros(2, dtype=np.bool_), wide * np.nan)
    whole = read_tensors([as_json(("x", "FP32", [[1, 2], [3, 4]]), flat=True)[0]], Blobs(b""))
    columns = [as_json((name, "FP32", data), flat=True)[0] for name, data in (("y", [2, 4]), ("x", [1, 3]))]
    by_column = read_tensors(columns, Blobs(b""))
    assert np.asarray(rows_of(whole, inputs)).tolist() == np.asarray(rows_of(by_column, inputs)).tolist()

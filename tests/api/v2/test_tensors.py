"""Numbers and texts of a request, from JSON and from bytes, of every datatype."""

import struct
from typing import Any

import numpy as np
import pytest

from service.api.v2.tensors import NUMBERS, OF_GRAPH, Blobs, Sent, Tensor, read_tensors, texts
from service.errors import InvalidRequest
from service.runtime.session import DTYPES
from tests.api.v2.bodies import INFER, binary, request_of

LENGTHS = [b"\x05\0\0\0ab", b"\x01\0\0", b"\x01\0\0\0\xff"]


def entry(datatype: str, data: Any, **more: Any) -> dict[str, Any]:
    return {"name": "x", "shape": [len(data)], "datatype": datatype, "data": data, **more}


def read(*entries: Any, blob: bytes = b"") -> list[Tensor]:
    return read_tensors(list(entries), Blobs(blob))


async def test_nested_data_and_flat_data_mean_the_same(infer, rows) -> None:
    nested = request_of(rows)
    nested["inputs"][0]["data"] = rows.tolist()
    flat, deep = (await infer(request_of(rows)))[0], (await infer(nested))[0]
    assert flat["probabilities"] == deep["probabilities"]


@pytest.mark.parametrize(("datatype", "dtype"), [("FP64", "<f8"), ("FP32", "<f4"), ("INT32", "<i4"), ("UINT8", "<u1")])
async def test_rows_as_bytes_mean_what_they_mean_as_json(client, infer, rows, datatype, dtype) -> None:
    values = rows.astype(dtype)
    body, headers = binary(values, datatype=datatype, dtype=dtype)
    answer = await client.post(INFER, content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    outputs, _ = await infer(request_of(values.astype(float)))
    found = {output["name"]: output for output in answer.json()["outputs"]}
    assert found["probabilities"] == outputs["probabilities"]


@pytest.mark.parametrize("datatype", NUMBERS)
def test_numbers_of_every_datatype_are_the_same_in_json_and_in_bytes(datatype: str) -> None:
    numbers = [1, 0, 1]
    blob = np.array(numbers, dtype=NUMBERS[datatype]).tobytes()
    sized = {"name": "y", "shape": [3], "datatype": datatype, "parameters": {"binary_data_size": len(blob)}}
    from_json, from_bytes = read(entry(datatype, numbers), sized, blob=blob)
    assert from_json.values.tolist() == from_bytes.values.tolist() == numbers


def test_every_type_that_rows_fill_has_a_datatype() -> None:
    assert set(OF_GRAPH) == {*DTYPES.values(), "object"}


def test_texts_are_the_same_in_json_and_in_bytes() -> None:
    words = ["icu", "", "ä\n"]
    blob = b"".join(struct.pack("<I", len(word.encode())) + word.encode() for word in words)
    sized = {"name": "y", "shape": [3, 1], "datatype": "BYTES", "parameters": {"binary_data_size": len(blob)}}
    from_json, from_bytes = read(entry("BYTES", [["icu"], ["", "ä\n"]], shape=[3]), sized, blob=blob)
    assert from_json.values.tolist() == from_bytes.values.ravel().tolist() == words


def test_null_is_a_missing_value() -> None:
    numbers, flags, words = read(*(entry(kind, [None, None]) for kind in ("FP32", "BOOL", "BYTES")))
    assert np.isnan(numbers.values).all()
    assert np.isnan(flags.values).all()
    assert words.values.tolist() == [None, None]


@pytest.mark.parametrize("data", [[2**53 + 1], [2**64 - 1], [-(2**63)], [2**63, None], [2**70]])
def test_integers_stay_whole(data: list[Any]) -> None:
    (tensor,) = read(entry("UINT64" if data[0] > 0 else "INT64", data))
    assert tensor.values.tolist() == data


@pytest.mark.parametrize("blob", LENGTHS)
def test_text_whose_bytes_are_no_text_is_refused(blob: bytes) -> None:
    sized = {"name": "x", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(blob)}}
    with pytest.raises(InvalidRequest, match=r"^inputs\.0: (each element must be|must hold text in UTF-8)"):
        read(sized, blob=blob)


WRONG: dict[str, tuple[Any, str]] = {
    "no name": ({"shape": [1], "datatype": "FP32", "data": [1]}, "inputs.0.name: must be the name"),
    "no datatype": ({"name": "x", "shape": [1], "data": [1]}, "inputs.0.datatype: must be one of UINT8,"),
    "no shape": ({"name": "x", "datatype": "FP32", "data": [1]}, "inputs.0.shape: must be a list of sizes"),
    "no data": ({"name": "x", "datatype": "BYTES", "shape": [1]}, "inputs.0.data: must be a list, or"),
    "text for numbers": (entry("FP32", ["1"]), "inputs.0.data: must hold numbers and null only"),
    "true for numbers": (entry("INT8", [True]), "inputs.0.data: must hold numbers and null only"),
    "numbers for text": (entry("BYTES", [1]), "inputs.0.data: must hold strings and null only"),
    "text for booleans": (entry("BOOL", ["true"]), "inputs.0.data: must hold true, false and null only"),
    "an object": (entry("FP32", [{}]), "inputs.0.data: must hold numbers and null only"),
    "half a large integer": (entry("INT64", [1.5, 2**60]), "inputs.0.data: each must be given as a whole number"),
    "more than a double": (entry("FP64", [1 << 1024]), "inputs.0.data: must fit a double"),
    "more than its type": (entry("INT8", [127, 128]), "inputs.0.data: must fit INT8"),
    "less than its type": (entry("UINT8", [0, -1]), "inputs.0.data: must fit UINT8"),
    "more than half a float": (entry("FP16", [65504, 70000.0]), "inputs.0.data: must fit FP16"),
    "more than a float": (entry("FP32", [1e39]), "inputs.0.data: must fit FP32"),
    "half an integer": (entry("INT32", [1, None, 1.5]), "inputs.0.data: must be whole numbers, as INT32 has them"),
    "another size": (entry("FP32", [1, 2], shape=[3]), "inputs.0.data: must have as many values as its shape declares"),
    "more sizes than a tensor has": (entry("FP32", [1], shape=[1] * 17), "inputs.0.shape: must have 16 sizes at most"),
    "a size of 2^31": (
        entry("FP32", [1], shape=[1 << 31]),
        "inputs.0.shape: must have 16 sizes at most, each below 2^31",
    ),
    "a size of thirty digits": (entry("FP32", [], shape=[0, 10**30]), "inputs.0.shape: must have 16 sizes at most"),
    "base64": (
        entry("BYTES", ["aWN1"], parameters={"content_type": "base64"}),
        "inputs.0.parameters.content_type: must be `str`",
    ),
    "bytes that are not there": (
        entry("FP32", [1], parameters={"binary_data_size": 4}),
        "inputs.0.parameters.binary_data_size: must be the number of bytes",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_tensor_is_refused_where_it_stands(case: str) -> None:
    tensor, message = WRONG[case]
    with pytest.raises(InvalidRequest) as caught:
        read(tensor)
    assert caught.value.detail.startswith(message), caught.value.detail


def test_nothing_has_room_in_a_tensor_with_an_empty_side_whatever_its_other_sides() -> None:
    (tensor,) = read(entry("FP32", [], shape=[(1 << 31) - 1] * 15 + [0]))
    assert (tensor.values.size, tensor.values.ndim) == (0, 16)


def test_content_types_that_change_nothing_are_taken() -> None:
    (tensor,) = read(entry("BYTES", ["icu"], parameters={"content_type": "str"}))
    assert tensor.values.tolist() == ["icu"]


def test_a_message_names_the_first_of_many_inputs() -> None:
    sent = Sent([Tensor("mood", "BYTES", texts(["x"]), 0)])
    with pytest.raises(InvalidRequest, match=r"'x19' and 80 more$"):
        sent.finish(f"x{i}" for i in range(100))

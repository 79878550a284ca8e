"""Numbers and texts of a request, from JSON and from bytes."""

import pytest

from tests.api.v2.bodies import INFER, binary, request_of


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

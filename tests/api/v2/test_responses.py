"""Outputs as JSON, and as bytes behind it."""

import json
import struct

import numpy as np

from tests.api.v2.bodies import INFER, request_of


async def test_outputs_as_bytes_follow_the_json_in_its_order(client, infer, rows) -> None:
    plain, _ = await infer(request_of(rows))
    outputs = [{"name": n, "parameters": {"binary_data": n != "ood"}} for n in ("label", "ood", "probabilities")]
    answer = await client.post(INFER, json=request_of(rows, outputs=outputs))
    length = int(answer.headers["Inference-Header-Content-Length"])
    head, blob = json.loads(answer.content[:length]), answer.content[length:]
    label, ood, probabilities = head["outputs"]
    assert ood["data"] == plain["ood"]["data"]
    sizes = [entry["parameters"]["binary_data_size"] for entry in (label, probabilities)]
    assert sum(sizes) == len(blob)
    texts, rest = [], blob[: sizes[0]]
    while rest:
        (size,) = struct.unpack_from("<I", rest)
        texts.append(rest[4 : 4 + size].decode())
        rest = rest[4 + size :]
    assert texts == plain["label"]["data"]
    np.testing.assert_array_equal(np.frombuffer(blob[sizes[0] :], "<f8"), plain["probabilities"]["data"])

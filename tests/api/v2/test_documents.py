"""Bodies: compressed, of JSON and bytes, of bytes alone."""

import gzip
import json
import zlib

import pytest

from tests.api.v2.bodies import ALL, INFER, binary


async def test_a_body_of_nothing_but_values_is_the_one_input(client, rows) -> None:
    body = rows.astype("<f4").tobytes()
    answer = await client.post(INFER, content=body, headers={"Inference-Header-Content-Length": "0"})
    length = int(answer.headers["Inference-Header-Content-Length"])
    outputs = json.loads(answer.content[:length])["outputs"]
    assert [output["name"] for output in outputs] == ALL
    assert all("binary_data_size" in output["parameters"] for output in outputs)


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_a_compressed_body_means_the_same(client, rows, encoding, compress) -> None:
    body, headers = binary(rows)
    answer = await client.post(INFER, content=compress(body), headers={**headers, "Content-Encoding": encoding})
    plain = await client.post(INFER, content=body, headers=headers)
    assert answer.json()["outputs"][:8] == plain.json()["outputs"][:8]


@pytest.mark.parametrize("length", ["-1", "x", "999999", "3"])
async def test_a_wrong_length_of_the_json_is_refused(client, rows, length) -> None:
    body, _ = binary(rows)
    refused = await client.post(INFER, content=body, headers={"Inference-Header-Content-Length": length})
    assert refused.status_code in {400, 422}
    assert list(refused.json()) == ["error"]


@pytest.mark.parametrize("change", [b"", b"more"])
async def test_too_few_or_too_many_bytes_are_refused(client, rows, change) -> None:
    body, headers = binary(rows)
    cut = body + change if change else body[:-4]
    assert (await client.post(INFER, content=cut, headers=headers)).status_code == 422


async def test_a_bomb_is_refused_before_it_is_unpacked(client) -> None:
    bomb = gzip.compress(bytes(200 << 20))
    refused = await client.post(INFER, content=bomb, headers={"Content-Encoding": "gzip"})
    assert refused.status_code == 413


@pytest.mark.parametrize(("body", "encoding"), [(b"plain", "gzip"), (gzip.compress(b"{}")[:-3], "gzip"), (b"{}", "br")])
async def test_what_is_not_compressed_as_it_says_is_refused(client, body, encoding) -> None:
    refused = await client.post(INFER, content=body, headers={"Content-Encoding": encoding})
    assert refused.status_code in {400, 415}
    assert list(refused.json()) == ["error"]

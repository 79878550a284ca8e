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


@pytest.mark.parametrize("length", ["-1", "x", "999999", "3", "", "+3", "1_0", "9" * 5000, "\xb2"])
async def test_a_wrong_length_of_the_json_is_refused(client, rows, length) -> None:
    body, _ = binary(rows)
    refused = await client.post(
        INFER, content=body, headers=[(b"Inference-Header-Content-Length", length.encode("latin-1"))]
    )
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


@pytest.mark.parametrize(
    "media_type", [None, "application/json", "application/octet-stream", "Application/JSON; charset=utf-8"]
)
async def test_the_media_types_of_stock_clients_are_taken(client, rows, media_type) -> None:
    body, headers = binary(rows)
    sent = headers if media_type is None else {**headers, "content-type": media_type}
    assert (await client.post(INFER, content=body, headers=sent)).status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        [("content-type", "text/plain")],
        [("content-type", "application/x-www-form-urlencoded")],
        [("content-type", "multipart/form-data; boundary=x")],
        [("content-type", "application/json; charset=utf-16")],
        [("content-type", "application/json"), ("content-type", "application/json")],
        [("content-encoding", "br")],
        [("content-encoding", "gzip, gzip")],
        [("content-encoding", "identity"), ("content-encoding", "gzip")],
    ],
)
async def test_other_media_types_and_encodings_are_refused_with_those_that_are_read(client, sent) -> None:
    refused = await client.post(INFER, content=b"{}", headers=sent)
    assert (refused.status_code, list(refused.json())) == (415, ["error"])
    assert refused.headers["accept"] == "application/json, application/octet-stream"
    assert refused.headers["accept-encoding"] == "gzip, deflate, identity"

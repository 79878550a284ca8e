"""The Open Inference Protocol, in process; `test_v2_clients.py` asks a real server with the stock clients."""

import gzip
import json
import struct
import zlib
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

INFER = "/v2/models/breast-cancer/infer"
ALL = ["logits", "probabilities", "label", "ood_score", "p_value", "ood", "risk", "action", "prediction_id"]


@pytest.fixture
def rows(test_rows: list[list[float]]) -> Any:
    return np.array(test_rows[:5])


def question(rows: Any, **more: Any) -> dict[str, Any]:
    tensor = {"name": "X", "shape": list(rows.shape), "datatype": "FP64", "data": rows.ravel().tolist()}
    return {"inputs": [tensor], **more}


@pytest.fixture
def infer(client: httpx.AsyncClient) -> Callable[..., Any]:
    """The outputs of an answer by name, and the answer: ``await infer(question)``."""

    async def asked(body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        answer = await client.post(INFER, json=body)
        assert answer.status_code == 200, answer.text
        document = answer.json()
        return {output["name"]: output for output in document["outputs"]}, document

    return asked


def binary(rows: Any, *, datatype: str = "FP32", dtype: str = "<f4", **more: Any) -> tuple[bytes, dict[str, str]]:
    """A body with its rows as bytes, and its headers."""
    blob = rows.astype(dtype).tobytes()
    tensor = {
        "name": "X",
        "shape": list(rows.shape),
        "datatype": datatype,
        "parameters": {"binary_data_size": len(blob)},
    }
    head = json.dumps({"inputs": [tensor], **more}).encode()
    return head + blob, {"Inference-Header-Content-Length": str(len(head))}


# ------------------------------------------------------------------------------------------------------- the answer


async def test_every_output_says_what_decide_says(infer, ask, rows) -> None:
    outputs, document = await infer(question(rows, id="mine"))
    said = await ask("decide", rows.tolist())
    assert list(outputs) == ALL
    assert (document["model_name"], document["model_version"], document["id"]) == ("breast-cancer", "1", "mine")
    assert document["parameters"] == {"digest": said["digest"], "version": "1", "site": "", "policy": "biopsy"}
    for i, row in enumerate(said["predictions"]):
        assert outputs["label"]["data"][i] == row["label"]
        assert outputs["action"]["data"][i] == row["decision"]["action"]
        assert outputs["ood"]["data"][i] is row["ood"]["flagged"]
        assert outputs["p_value"]["data"][i] == pytest.approx(row["ood"]["p_value"])
        assert outputs["ood_score"]["data"][i] == pytest.approx(row["ood"]["scores"]["mahalanobis"]["score"])
        assert outputs["probabilities"]["data"][2 * i : 2 * i + 2] == pytest.approx(list(row["probabilities"].values()))
        assert outputs["risk"]["data"][3 * i : 3 * i + 3] == pytest.approx(list(row["decision"]["risks"].values()))
    assert {name: output["shape"] for name, output in outputs.items()} == {
        **{name: [5] for name in ALL},
        "logits": [5, 2],
        "probabilities": [5, 2],
        "risk": [5, 3],
    }


async def test_the_metadata_says_what_is_answered(client, infer, rows) -> None:
    outputs, _ = await infer(question(rows))
    described = (await client.get("/v2/models/breast-cancer")).json()
    assert described["inputs"] == [{"name": "X", "datatype": "FP32", "shape": [-1, 30]}]
    assert described["platform"] == "onnx_onnxv1"
    for entry in described["outputs"]:
        answered = outputs[entry["name"]]
        assert answered["datatype"] == entry["datatype"]
        assert answered["shape"][1:] == entry["shape"][1:]


async def test_site_and_policy_are_parameters(infer, ask, rows) -> None:
    outputs, document = await infer(question(rows, parameters={"site": "screening", "policy": "biopsy", "else": 1}))
    said = await ask("decide", rows.tolist(), site="screening")
    assert document["parameters"]["site"] == "screening"
    assert outputs["probabilities"]["data"][0] == pytest.approx(said["predictions"][0]["probabilities"]["benign"])


async def test_requested_outputs_choose_what_is_answered_and_what_is_decided(client, infer, rows) -> None:
    outputs, document = await infer(question(rows, outputs=[{"name": "label"}, {"name": "ood"}]))
    assert list(outputs) == ["label", "ood"]
    assert document["parameters"]["policy"] == ""
    metrics = (await client.get("/metrics")).text
    assert "temperance_actions_total{" not in metrics


async def test_nested_data_and_flat_data_mean_the_same(infer, rows) -> None:
    nested = question(rows)
    nested["inputs"][0]["data"] = rows.tolist()
    flat, deep = (await infer(question(rows)))[0], (await infer(nested))[0]
    assert flat["probabilities"] == deep["probabilities"]


@pytest.mark.parametrize(("datatype", "dtype"), [("FP64", "<f8"), ("FP32", "<f4"), ("INT32", "<i4"), ("UINT8", "<u1")])
async def test_rows_as_bytes_mean_what_they_mean_as_json(client, infer, rows, datatype, dtype) -> None:
    values = rows.astype(dtype)
    body, headers = binary(values, datatype=datatype, dtype=dtype)
    answer = await client.post(INFER, content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    outputs, _ = await infer(question(values.astype(float)))
    found = {output["name"]: output for output in answer.json()["outputs"]}
    assert found["probabilities"] == outputs["probabilities"]


async def test_outputs_as_bytes_follow_the_json_in_its_order(client, infer, rows) -> None:
    plain, _ = await infer(question(rows))
    outputs = [{"name": n, "parameters": {"binary_data": n != "ood"}} for n in ("label", "ood", "probabilities")]
    answer = await client.post(INFER, json=question(rows, outputs=outputs))
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


async def test_classification_names_the_likeliest_classes(infer, rows) -> None:
    wanted = [{"name": "probabilities", "parameters": {"classification": 1}}]
    outputs, _ = await infer(question(rows, outputs=wanted))
    plain, _ = await infer(question(rows))
    assert outputs["probabilities"]["datatype"] == "BYTES"
    assert outputs["probabilities"]["shape"] == [5, 1]
    for entry, label in zip(outputs["probabilities"]["data"], plain["label"]["data"], strict=True):
        value, index, name = entry.split(":")
        assert (name, index) == (label, str(["benign", "malignant"].index(label)))
        assert float(value) > 0.5


async def test_what_an_uncalibrated_model_cannot_know_is_no_output_of_it(client_of, publish_logits) -> None:
    async with client_of(publish_logits(("a", "b", "c"))) as client:
        described = (await client.get("/v2/models/logits")).json()
        names = [entry["name"] for entry in described["outputs"]]
        assert names == ["logits", "probabilities", "label", "ood_score", "prediction_id"]
        tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [0.0, 1.0, 2.0]}
        refused = await client.post(
            "/v2/models/logits/infer", json={"inputs": [tensor], "outputs": [{"name": "p_value"}]}
        )
        assert refused.status_code == 422
        answer = await client.post("/v2/models/logits/infer", json={"inputs": [tensor]})
        assert [output["name"] for output in answer.json()["outputs"]] == names


# ------------------------------------------------------------------------------------------------------- refusals


def tensor(**changed: Any) -> dict[str, Any]:
    entry = {"name": "X", "shape": [1, 30], "datatype": "FP32", "data": [1.0] * 30, **changed}
    return {"inputs": [{key: value for key, value in entry.items() if value is not None}]}


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
    assert (await client.post(INFER, json=question(rows))).status_code == 200


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


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/nothing", 404),
        ("GET", "/v2/models/nobody", 404),
        ("GET", "/v2/models/nobody/ready", 404),
        ("POST", "/v2/models/nobody/infer", 404),
        ("POST", "/v2/models/breast-cancer/versions/9/infer", 404),
        ("POST", "/v2/models/breast-cancer/versions/x/infer", 404),
        ("GET", "/v2/models/breast-cancer/config", 404),
        ("GET", INFER, 405),
        ("POST", "/v2/health/live", 405),
        ("POST", "/v2/repository/index", 403),
        ("POST", "/v2/repository/models/breast-cancer/load", 403),
        ("POST", "/v2/repository/models/breast-cancer/unload", 403),
        ("GET", "/v2/repository/index", 405),
    ],
)
async def test_every_failure_under_v2_is_an_error_string(client, method, path, status) -> None:
    refused = await client.request(method, path, content=b"{}" if method == "POST" else None)
    assert refused.status_code == status
    assert list(refused.json()) == ["error"]


# ------------------------------------------------------------------------------------------------------- the server


async def test_server_and_models_are_live_ready_and_described(client) -> None:
    assert (await client.get("/v2/health/live")).json() == {"live": True}
    described = (await client.get("/v2")).json()
    assert described["name"] == "temperance"
    assert "binary_tensor_data" in described["extensions"]
    for path in ("/v2/models/breast-cancer/ready", "/v2/models/breast-cancer/versions/1/ready"):
        assert (await client.get(path)).json() == {"name": "breast-cancer", "ready": True}


async def test_statistics_count_what_was_judged(client_of, publish_logits) -> None:
    async with client_of(publish_logits(("a", "b"))) as client:
        tensor = {"name": "x", "shape": [3, 2], "datatype": "FP32", "data": [0.0] * 6}
        for _ in range(4):
            await client.post("/v2/models/logits/infer", json={"inputs": [tensor]})
        one, all_models = [
            (await client.get(path)).json()["model_stats"] for path in ("/v2/models/logits/stats", "/v2/models/stats")
        ]
        assert one == all_models
        assert (one[0]["inference_count"], one[0]["execution_count"]) == (12, 4)
        assert one[0]["inference_stats"]["success"]["ns"] > 0


# ------------------------------------------------------------------------------------------------------- near misses

SLIPS = ["Policy", "polcy", "policy_name", "polices", "policies", "pol-icy", "ploicy", "sites", "Site", "stie", "sit"]
SLIPS += [
    "site_id",
    "prevalance",
    "Prevalence",
    "prevelence",
    "prevalence",
    "cost",
    "costs",
    "converage",
    "FDR",
    "sesion",
]
IGNORED = [
    "priority",
    "timeout",
    "headers",
    "sequence_id",
    "sequence_start",
    "sequence_end",
    "size",
    "state",
    "version",
]
IGNORED += ["trace", "my_param", "binary_data", "user", "model", "triton_enable_empty_final_response", "x" * 500, ""]


@pytest.mark.parametrize("key", SLIPS)
async def test_a_near_miss_is_refused_naming_what_was_meant(client, rows, key: str) -> None:
    body, headers = binary(rows, parameters={key: "biopsy"})
    for answer in (
        await client.post(INFER, json=question(rows, parameters={key: "biopsy"})),
        await client.post(INFER, content=body, headers=headers),
        await client.post(INFER, json=question(rows, **{key: "biopsy"})),
        await client.post(INFER, json=question(rows, outputs=[{"name": "label", "parameters": {key: "biopsy"}}])),
    ):
        assert (answer.status_code, list(answer.json())) == (422, ["error"])
        said = answer.json()["error"]
        assert any(
            f"`{name}`" in said for name in ("policy", "site", "prevalence", "costs", "coverage", "fdr", "session")
        )
        assert key in ("prevalence", "costs") or f"`{key}`" not in said


@pytest.mark.parametrize("key", IGNORED)
async def test_other_unknown_parameters_are_ignored(infer, rows, key: str) -> None:
    plain, _ = await infer(question(rows, outputs=[{"name": "action"}]))
    told, document = await infer(
        question(rows, outputs=[{"name": "action"}], parameters={key: 5_000_000, "site": "screening"})
    )
    assert told.keys() == plain.keys()
    assert document["parameters"]["site"] == "screening"


@pytest.mark.parametrize(
    "more", [{"paramaters": {}}, {"parameter": {}}, {"parameters": []}, {"parameters": {"site": 5}}]
)
async def test_parameters_that_nobody_would_read_are_refused(client, rows, more: dict[str, Any]) -> None:
    answer = await client.post(INFER, json=question(rows, **more))
    assert (answer.status_code, list(answer.json())) == (422, ["error"])
    assert "5" not in answer.json()["error"]


async def test_a_null_policy_is_none(infer, rows) -> None:
    _, document = await infer(question(rows, parameters={"policy": None}))
    assert document["parameters"]["policy"] == "biopsy"

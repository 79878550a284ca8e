"""The stock clients of the Open Inference Protocol, as their users call them, against a real server."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # theirs, at import
    import tritonclient.http as triton
    from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
    from tritonclient.utils import InferenceServerException


@pytest.fixture
def url(server: Any) -> str:
    return str(server.client.base_url).rstrip("/")


@pytest.fixture
def client(url: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(url.removeprefix("http://")) as running:
        yield running


@pytest.fixture
def rows(test_rows: list[list[float]]) -> Any:
    return np.array(test_rows[:4], dtype=np.float32)


def as_input(rows: Any) -> triton.InferInput:
    tensor = triton.InferInput("X", list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows)
    return tensor


def test_tritonclient_sees_health_and_metadata(client) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("breast-cancer")
    assert client.is_model_ready("breast-cancer", "1")
    assert not client.is_model_ready("nobody")
    assert client.get_server_metadata()["name"] == "temperance"
    assert client.get_model_metadata("breast-cancer")["inputs"][0]["shape"] == [-1, 30]
    assert client.get_inference_statistics("breast-cancer")["model_stats"][0]["name"] == "breast-cancer"


def test_tritonclient_infers_with_its_defaults_untouched(client, server, rows) -> None:
    answer = client.infer("breast-cancer", [as_input(rows)])
    said = server.client.post("/v1/models/breast-cancer:decide", json={"instances": rows.tolist()}).json()
    expected = [list(row["probabilities"].values()) for row in said["predictions"]]
    np.testing.assert_allclose(answer.as_numpy("probabilities"), expected)
    assert [label.decode() for label in answer.as_numpy("label")] == [row["label"] for row in said["predictions"]]
    assert answer.as_numpy("ood").dtype == np.bool_
    assert answer.as_numpy("risk").shape == (4, 3)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
def test_tritonclient_chooses_outputs_and_compression(client, rows, algorithm, binary) -> None:
    wanted = [triton.InferRequestedOutput("action", binary_data=binary)]
    answer = client.infer(
        "breast-cancer", [as_input(rows)], outputs=wanted, request_compression_algorithm=algorithm, request_id="mine"
    )
    assert answer.get_response()["id"] == "mine"
    assert answer.as_numpy("action").shape == (4,)
    assert answer.as_numpy("label") is None


def test_tritonclient_asks_for_classes(client, rows) -> None:
    wanted = [triton.InferRequestedOutput("probabilities", class_count=2)]
    answer = client.infer("breast-cancer", [as_input(rows)], outputs=wanted)
    assert answer.as_numpy("probabilities").shape == (4, 2)


def test_tritonclient_understands_a_refusal(client, rows) -> None:
    with pytest.raises(InferenceServerException, match=r"must be \[rows, 30\]"):
        client.infer("breast-cancer", [as_input(rows[:, :29].copy())])
    with pytest.raises(InferenceServerException, match="no model has that name"):
        client.infer("nobody", [as_input(rows)])


@pytest.mark.parametrize("binary", [True, False])
async def test_kserves_rest_client_infers(url, server, rows, binary) -> None:
    client = InferenceRESTClient(RESTConfig(protocol="v2", verbose=False))
    assert await client.is_server_ready(url)
    assert await client.is_server_live(url)
    assert await client.is_model_ready(url, "breast-cancer")
    tensor = InferInput("X", list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows, binary_data=binary)
    answer = await client.infer(url, InferRequest("breast-cancer", [tensor]), model_name="breast-cancer")
    said = server.client.post("/v1/models/breast-cancer:predict", json={"instances": rows.tolist()}).json()
    found = next(output for output in answer.outputs if output.name == "probabilities")
    expected = [list(row["probabilities"].values()) for row in said["predictions"]]
    np.testing.assert_allclose(found.as_numpy(), expected)
    await client.close()

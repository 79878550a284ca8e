"""The stock clients of the Open Inference Protocol, as their users call them, against a real server."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from service.bundle.repository import Repository
from service.bundle.writer import set_alias

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
    assert not client.is_model_ready("missing")
    assert client.get_server_metadata()["name"] == "temperance"
    assert client.get_model_metadata("breast-cancer")["inputs"][0]["shape"] == [-1, 30]
    assert client.get_inference_statistics("breast-cancer")["model_stats"][0]["name"] == "breast-cancer"


def test_tritonclient_infers_with_its_defaults_untouched(client, server, rows) -> None:
    answer = client.infer("breast-cancer", [as_input(rows)])
    plain = server.client.post("/v1/models/breast-cancer:decide", json={"instances": rows.tolist()}).json()
    expected = [list(row["probabilities"].values()) for row in plain["predictions"]]
    np.testing.assert_allclose(answer.as_numpy("probabilities"), expected)
    assert [label.decode() for label in answer.as_numpy("label")] == [row["label"] for row in plain["predictions"]]
    assert answer.as_numpy("ood").dtype == np.bool_
    assert answer.as_numpy("risk").shape == (4, 3)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
def test_tritonclient_chooses_outputs_and_compression(client, rows, algorithm, binary) -> None:
    requested = [triton.InferRequestedOutput("action", binary_data=binary)]
    answer = client.infer(
        "breast-cancer", [as_input(rows)], outputs=requested, request_compression_algorithm=algorithm, request_id="mine"
    )
    assert answer.get_response()["id"] == "mine"
    assert answer.as_numpy("action").shape == (4,)
    assert answer.as_numpy("label") is None


def test_tritonclient_asks_for_classes(client, rows) -> None:
    requested = [triton.InferRequestedOutput("probabilities", class_count=2)]
    answer = client.infer("breast-cancer", [as_input(rows)], outputs=requested)
    assert answer.as_numpy("probabilities").shape == (4, 2)


def test_tritonclient_understands_a_refusal(client, rows) -> None:
    with pytest.raises(InferenceServerException, match=r"must be \[rows, 30\]"):
        client.infer("breast-cancer", [as_input(rows[:, :29].copy())])
    with pytest.raises(InferenceServerException, match="no model has that name"):
        client.infer("missing", [as_input(rows)])


@pytest.mark.parametrize("binary", [True, False])
async def test_kserves_rest_client_infers(url, server, rows, binary) -> None:
    client = InferenceRESTClient(RESTConfig(protocol="v2", verbose=False))
    assert await client.is_server_ready(url)
    assert await client.is_server_live(url)
    assert await client.is_model_ready(url, "breast-cancer")
    tensor = InferInput("X", list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows, binary_data=binary)
    answer = await client.infer(url, InferRequest("breast-cancer", [tensor]), model_name="breast-cancer")
    plain = server.client.post("/v1/models/breast-cancer:predict", json={"instances": rows.tolist()}).json()
    found = next(output for output in answer.outputs if output.name == "probabilities")
    expected = [list(row["probabilities"].values()) for row in plain["predictions"]]
    np.testing.assert_allclose(found.as_numpy(), expected)
    await client.close()


@pytest.fixture
def deployable(serving: Any, repository: Repository) -> Iterator[triton.InferenceServerClient]:
    """A client that may load and unload, of a server that looks at the disk every 20 ms of its own accord too."""
    variables = {"TEMPERANCE_REPOSITORY_API": "true", "TEMPERANCE_RELOAD_SECONDS": "0.02"}
    with serving(repository.root, **variables) as server:
        address = f"{server.client.base_url.host}:{server.client.base_url.port}"
        with triton.InferenceServerClient(address) as running:
            yield running


def test_tritonclient_loads_and_unloads(deployable, repository: Repository, publish_again, rows) -> None:
    client = deployable
    assert [(m["name"], m["state"]) for m in client.get_model_repository_index()] == [("breast-cancer", "READY")]
    client.unload_model("breast-cancer")
    assert not client.is_model_ready("breast-cancer")
    assert not client.is_server_ready()
    assert client.is_server_live()
    with pytest.raises(InferenceServerException, match="was unloaded"):
        client.infer("breast-cancer", [as_input(rows)])
    (listed,) = client.get_model_repository_index()
    assert (listed["state"], "unloaded on request" in listed["reason"]) == ("UNAVAILABLE", True)

    publish_again()  # a deployment meanwhile: what was unloaded stays away
    set_alias(repository, "breast-cancer", "stable", 2)
    client.load_model("breast-cancer")
    assert client.is_model_ready("breast-cancer", "2")
    assert client.is_server_ready()
    assert client.infer("breast-cancer", [as_input(rows)]).get_response()["model_version"] == "2"


def test_tritonclient_hears_why_a_load_fails(deployable, repository: Repository, publish_again, rows) -> None:
    for given in ({"config": "{}"}, {"config": "{}", "headers": {"x": "y"}}):
        with pytest.raises(InferenceServerException, match="a load takes none"):
            deployable.load_model("breast-cancer", **given)
    with pytest.raises(InferenceServerException, match="no model of that name is published"):
        deployable.load_model("missing")
    (repository.root / "breast-cancer" / str(publish_again()) / "model.onnx").write_bytes(b"no graph")
    set_alias(repository, "breast-cancer", "stable", 2)
    with pytest.raises(InferenceServerException, match="does not match its sum"):
        deployable.load_model("breast-cancer")
    assert deployable.infer("breast-cancer", [as_input(rows)]).get_response()["model_version"] == "1"
    assert {m["version"]: m["state"] for m in deployable.get_model_repository_index()} == {
        "1": "READY",
        "2": "UNAVAILABLE",
    }

"""The stock clients of the Open Inference Protocol and a model of every kind, served by a real process."""

import importlib.util
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # theirs, at import
    import tritonclient.http as triton
    from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
    from tritonclient.utils import InferenceServerException

STAY_ROWS: list[Any] = [
    {"age": 3, "pulse": 60, "code": 12, "seen": True, "dose": 0.5, "place": "icu", "ids": [1, 2, 6]},
    {"age": 9, "pulse": None, "code": 2**53 + 1, "seen": False, "dose": 2, "place": "er", "ids": [4]},
]
STAY: dict[str, Any] = {
    "x": np.array([[3, 60], [9, np.nan]], dtype=np.float32),
    "code": np.array([[12], [2**53 + 1]], dtype=np.int64),
    "seen": np.array([[True], [False]]),
    "dose": np.array([[0.5], [2.0]], dtype=np.float16),
    "place": np.array([["icu"], ["er"]], dtype=object),
    "ids": np.array([[1, 2, 6], [4, 0, 0]], dtype=np.int64),
    "mask": np.array([[1, 1, 1], [1, 0, 0]], dtype=np.float32),
}
CASES: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "notes": ({"words": np.array([["icu", "walk"], ["er", "ä"]], dtype=object)}, [["icu", "walk"], ["er", "ä"]]),
    "picture": (
        {"pixels": np.arange(12, dtype=np.uint8).reshape(2, 2, 3)},
        np.arange(12).reshape(2, 2, 3).tolist(),
    ),
    "stay": (STAY, STAY_ROWS),
    "complaints": ({"x": np.array([[0.5], [-1.0]], dtype=np.float32)}, [[0.5], [-1.0]]),
    "motion": (
        {
            "steps": np.array([[1.0, -0.5, 2.0], [0.5, 0.0, 0.0]], dtype=np.float32),
            "lengths": np.array([3, 1], dtype=np.int64),
        },
        [[1.0, -0.5, 2.0], [0.5]],
    ),
}
DATATYPES = {"O": "BYTES", "b": "BOOL"}


def datatype(values: Any) -> str:
    kind = values.dtype.kind
    return DATATYPES.get(kind) or {"f": "FP", "i": "INT", "u": "UINT"}[kind] + str(8 * values.dtype.itemsize)


def expected(rows: list[Any]) -> Any:
    """Probabilities of the rows of `/v1`, NaN behind the end of a shorter sequence."""
    shares = [
        [list(p.values()) for p in row["probabilities"]]
        if isinstance(row["probabilities"], list)
        else list(row["probabilities"].values())
        for row in rows
    ]
    if not isinstance(shares[0][0], list):
        return np.array(shares)
    whole = np.full((len(shares), max(map(len, shares)), len(shares[0][0])), np.nan)
    for i, row in enumerate(shares):
        whole[i, : len(row)] = row
    return whole


# ------------------------------------------------------------------------------------------------------- tritonclient


@pytest.fixture
def client(kinds_server: Any) -> Iterator[triton.InferenceServerClient]:
    address = f"{kinds_server.client.base_url.host}:{kinds_server.client.base_url.port}"
    with triton.InferenceServerClient(address) as running:
        yield running


def triton_inputs(tensors: dict[str, Any], *, binary: bool = True) -> list[triton.InferInput]:
    made = []
    for name, values in tensors.items():
        tensor = triton.InferInput(name, list(values.shape), datatype(values))
        tensor.set_data_from_numpy(values, binary_data=binary)
        made.append(tensor)
    return made


@pytest.mark.parametrize("model", CASES)
def test_tritonclient_infers(client, plain, model) -> None:
    tensors, rows = CASES[model]
    answer = client.infer(model, triton_inputs(tensors))
    np.testing.assert_array_equal(answer.as_numpy("probabilities"), expected(plain(model, rows)))
    described = {entry["name"]: entry for entry in client.get_model_metadata(model)["outputs"]}
    assert described.keys() == {output["name"] for output in answer.get_response()["outputs"]}
    for output in answer.get_response()["outputs"]:
        shape = described[output["name"]]["shape"]
        assert output["datatype"] == described[output["name"]]["datatype"]
        assert [size for size in shape if size >= 0] == [
            own for own, size in zip(output["shape"], shape, strict=True) if size >= 0
        ]


@pytest.mark.parametrize("model", ["notes", "picture", "complaints", "motion"])
def test_tritonclient_infers_in_json(client, plain, model) -> None:
    tensors, rows = CASES[model]
    requested = [triton.InferRequestedOutput("probabilities", binary_data=False)]
    answer = client.infer(model, triton_inputs(tensors, binary=False), outputs=requested)
    np.testing.assert_array_equal(answer.as_numpy("probabilities").astype(float), expected(plain(model, rows)))


def test_tritonclient_reads_what_to_send_from_the_metadata(client) -> None:
    described = client.get_model_metadata("stay")
    inputs = {entry["name"]: (entry["datatype"], entry["shape"]) for entry in described["inputs"]}
    assert inputs == {
        "x": ("FP32", [-1, 2]),
        "code": ("INT64", [-1, 1]),
        "seen": ("BOOL", [-1, 1]),
        "dose": ("FP16", [-1, 1]),
        "place": ("BYTES", [-1, 1]),
        "ids": ("INT64", [-1, -1]),
    }
    optional = json.loads(described["properties"]["optional_inputs"])
    assert [entry["name"] for entry in optional] == ["mask", "kinds", "lengths", "subjects", "groups"]
    assert json.loads(described["properties"]["columns"])["x"] == ["age", "pulse"]


def test_tritonclient_understands_a_refusal_of_text(client) -> None:
    with pytest.raises(InferenceServerException, match=r"inputs\.0\.data: row 0, 'place': is none of the categories"):
        client.infer("notes", triton_inputs({"words": np.array([["pub", "walk"]], dtype=object)}))


def test_tritonclient_asks_for_the_likeliest_labels(client) -> None:
    requested = [triton.InferRequestedOutput("probabilities", class_count=1)]
    answer = client.infer("complaints", triton_inputs(CASES["complaints"][0]), outputs=requested)
    assert answer.as_numpy("probabilities").shape == (2, 1)
    assert answer.as_numpy("probabilities")[0, 0].split(b":")[2] == b"ache"


# ------------------------------------------------------------------------------------------------------------- kserve


def kserve_inputs(tensors: dict[str, Any], *, binary: bool) -> list[InferInput]:
    made = []
    for name, values in tensors.items():
        tensor = InferInput(name, list(values.shape), datatype(values))
        # In JSON it sends no FP16, and turns NaN into something that is no JSON.
        tensor.set_data_from_numpy(values, binary_data=binary or values.dtype == np.float16 or name == "x")
        made.append(tensor)
    return made


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("model", CASES)
async def test_kserves_rest_client_infers(kinds_server, plain, model, binary) -> None:
    tensors, rows = CASES[model]
    url = str(kinds_server.client.base_url).rstrip("/")
    client = InferenceRESTClient(RESTConfig(protocol="v2", verbose=False))
    answer = await client.infer(url, InferRequest(model, kserve_inputs(tensors, binary=binary)), model_name=model)
    await client.close()
    found = next(output for output in answer.outputs if output.name == "probabilities")
    np.testing.assert_array_equal(found.as_numpy().astype(float), expected(plain(model, rows)))


async def test_kserves_rest_client_sends_a_data_frame_by_column(kinds_server, plain) -> None:
    frame = pd.DataFrame(STAY_ROWS).drop(columns="ids").assign(pulse=[60.0, 71.0])
    inputs = [
        InferInput(str(name), [len(frame)], "BYTES" if series.dtype == object else datatype(series), series.tolist())
        for name, series in frame.items()
    ]
    inputs += kserve_inputs({"ids": STAY["ids"], "mask": STAY["mask"]}, binary=False)
    url = str(kinds_server.client.base_url).rstrip("/")
    client = InferenceRESTClient(RESTConfig(protocol="v2", verbose=False))
    answer = await client.infer(url, InferRequest("stay", inputs), model_name="stay")
    await client.close()
    found = next(output for output in answer.outputs if output.name == "probabilities")
    rows = [STAY_ROWS[0], {**STAY_ROWS[1], "pulse": 71.0}]
    np.testing.assert_array_equal(found.as_numpy(), expected(plain("stay", rows)))


# ----------------------------------------------------------------------------------------------------------- MLServer


@pytest.fixture(scope="module")
def mlserver() -> ModuleType:
    """MLServer's codecs and types, without its server, whose requirements contradict ours."""
    spec = importlib.util.find_spec("mlserver")
    if spec is None or spec.submodule_search_locations is None:
        pytest.skip("mlserver is not installed; the extra stock-clients names it")
    package = ModuleType("mlserver")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["mlserver"] = package
    codecs: ModuleType = importlib.import_module("mlserver.codecs")
    return codecs


@pytest.fixture
def infer(kinds_server: Any) -> Callable[..., Any]:
    """Sends a request of MLServer's as its client does, and reads the response with its types."""
    from mlserver.types import InferenceResponse

    def sent(model: str, request: Any) -> Any:
        answer = kinds_server.client.post(f"/v2/models/{model}/infer", content=request.model_dump_json())
        assert answer.status_code == 200, answer.text
        return InferenceResponse.model_validate_json(answer.content)

    return sent


def array_of(response: Any, name: str, mlserver: ModuleType) -> Any:
    output = next(output for output in response.outputs if output.name == name)
    return mlserver.NumpyCodec.decode_output(output)


def test_mlservers_pandas_codec_sends_a_data_frame(infer, mlserver, plain) -> None:
    frame = pd.DataFrame({"place": ["icu", "er"], "arrival": ["walk", "ambulance"]})
    response = infer("notes", mlserver.PandasCodec.encode_request(frame, use_bytes=False))
    rows = plain("notes", frame.to_numpy().tolist())
    np.testing.assert_array_equal(array_of(response, "probabilities", mlserver), expected(rows))
    labels = mlserver.StringCodec.decode_output(next(o for o in response.outputs if o.name == "label"))
    assert labels == [row["label"] for row in rows]


def test_mlservers_pandas_codec_sends_missing_values_and_booleans(infer, mlserver, plain) -> None:
    frame = pd.DataFrame(STAY_ROWS).drop(columns="ids")
    request = mlserver.PandasCodec.encode_request(frame, use_bytes=False)
    request.inputs += [mlserver.NumpyCodec.encode_input(name, STAY[name]) for name in ("ids", "mask")]
    response = infer("stay", request)
    np.testing.assert_array_equal(array_of(response, "probabilities", mlserver), expected(plain("stay", STAY_ROWS)))


@pytest.mark.parametrize("model", CASES)
def test_mlservers_codecs_send_and_read_arrays(infer, mlserver, plain, model) -> None:
    from mlserver.types import InferenceRequest

    tensors, rows = CASES[model]
    inputs = [mlserver.NumpyCodec.encode_input(name, _strings(values)) for name, values in tensors.items()]
    response = infer(model, InferenceRequest(inputs=inputs))
    assert response.model_name == model
    np.testing.assert_array_equal(
        array_of(response, "probabilities", mlserver).astype(float), expected(plain(model, rows))
    )


def _strings(values: Any) -> Any:
    return values.astype(str) if values.dtype == object else values


def test_mlservers_types_read_the_metadata(kinds_server, mlserver) -> None:
    from mlserver.types import MetadataModelResponse, MetadataServerResponse

    assert mlserver is not None
    assert MetadataServerResponse.model_validate(kinds_server.client.get("/v2").json()).name == "temperance"
    for model in CASES:
        described = MetadataModelResponse.model_validate(kinds_server.client.get(f"/v2/models/{model}").json())
        assert described.inputs
        assert described.outputs


@pytest.mark.parametrize("kind", ["base64", "pd_json"])
def test_text_in_another_encoding_is_refused(kinds_server, kind) -> None:
    tensor = {"name": "words", "shape": [1, 2], "datatype": "BYTES", "data": ["aWN1", "d2Fsaw=="]}
    body = {"inputs": [{**tensor, "parameters": {"content_type": kind}}]}
    refused = kinds_server.client.post("/v2/models/notes/infer", json=body)
    assert refused.status_code == 422
    assert refused.json()["error"].startswith("inputs.0.parameters.content_type: must be `str`")

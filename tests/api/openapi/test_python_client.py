"""openapi-python-client makes a client with every operation, and that client works against a real server."""

import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from service.api.openapi.document import operations

GENERATOR = Path(sys.executable).parent / "openapi-python-client"
NAME = "generated_client"
MODEL = "breast-cancer"


@pytest.fixture(scope="module")
def generated(server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The client's package, made from the document of the running server."""
    folder = tmp_path_factory.mktemp("client")
    (folder / "openapi.json").write_bytes(server.client.get("/openapi.json").content)
    (folder / "config.json").write_text(json.dumps({"post_hooks": []}))
    package = folder / NAME
    flags = ("--path", folder / "openapi.json", "--output-path", package, "--config", folder / "config.json")
    done = subprocess.run([GENERATOR, "generate", *flags, "--meta", "none"], capture_output=True, text=True, check=True)
    assert "Unable" not in done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr
    sys.path.insert(0, str(folder))
    yield package
    sys.path.remove(str(folder))
    for module in [name for name in sys.modules if name.partition(".")[0] == NAME]:
        del sys.modules[module]


@pytest.fixture
def module(generated: Path) -> Callable[[str], ModuleType]:
    """Imports a module of the client: ``module("api.v1.decide")``."""
    del generated
    return lambda name: importlib.import_module(f"{NAME}.{name}")


@pytest.fixture
def call(server: Any, module: Callable[[str], ModuleType]) -> Iterator[Callable[..., Any]]:
    """Calls an operation of the client: ``call("v1.decide", MODEL, body=…)``."""
    with module("client").Client(base_url=str(server.client.base_url)) as client:

        def called(operation: str, *path: str, **given: Any) -> Any:
            return module(f"api.{operation}").sync_detailed(*path, client=client, **given)

        yield called


@pytest.fixture
def body(module: Callable[[str], ModuleType]) -> Callable[..., Any]:
    """Makes a body of a model of the client: ``body("DecideRequest", instances=…)``."""
    return lambda name, **members: getattr(module("models"), name).from_dict(members)


def test_the_client_has_every_operation(generated: Path) -> None:
    made = {f"{path.parent.name}.{path.stem}" for path in generated.glob("api/*/*.py") if path.stem != "__init__"}
    assert made == {f"{operation.tag}.{operation.id}" for operation in operations()}


def test_it_imports_as_a_whole(generated: Path, module: Callable[[str], ModuleType]) -> None:
    for path in generated.glob("api/*/*.py"):
        assert module(f"api.{path.parent.name}.{path.stem}" if path.stem != "__init__" else f"api.{path.parent.name}")


@pytest.mark.parametrize("place", ["", "_version", "_alias"])
@pytest.mark.parametrize("verb", ["predict", "detect", "decide"])
def test_it_reads_answers_by_row(
    verb: str, place: str, call: Callable[..., Any], body: Callable[..., Any], test_rows: Any
) -> None:
    path = {"": (), "_version": ("1",), "_alias": ("stable",)}[place]
    answer = call(f"v1.{verb}{place}", MODEL, *path, body=body(f"{verb.title()}Request", instances=test_rows[:2]))
    assert answer.status_code == 200
    expected = json.loads(answer.content)
    assert [row.to_dict() for row in answer.parsed.predictions] == expected["predictions"]
    assert (answer.parsed.model, answer.parsed.version) == (MODEL, "1")


def test_it_reads_answers_by_column(call: Callable[..., Any], body: Callable[..., Any], test_rows: Any) -> None:
    sent = body("DecideRequest", instances=test_rows[:2], parameters={"layout": "columns", "ids": ["a", "b"]})
    answer = call("v1.decide", MODEL, body=sent)
    assert type(answer.parsed).__name__ == "MulticlassDecideColumns"
    assert answer.parsed.classes == ["benign", "malignant"]
    assert answer.parsed.columns.to_dict()["id"] == ["a", "b"]


def test_it_sends_row_objects_and_options(
    call: Callable[..., Any], body: Callable[..., Any], features: list[str], test_rows: Any
) -> None:
    rows = [dict(zip(features, test_rows[0], strict=True))]
    options = {"site": "screening", "policy": "biopsy", "coverage": 0.9}
    answer = call("v1.decide", MODEL, body=body("DecideRequest", instances=rows, parameters=options))
    assert answer.status_code == 200
    assert answer.parsed.prevalence.site == "screening"
    assert answer.parsed.predictions[0].decision.policy.name == "biopsy"
    assert answer.parsed.predictions[0].set_.coverage == 0.9


def test_it_reads_reports(
    call: Callable[..., Any], body: Callable[..., Any], test_rows: list[list[float]], test_labels: list[str]
) -> None:
    labelled = body("EvaluateRequest", instances=test_rows[:40], labels=test_labels[:40])
    assert call("v1.evaluate", MODEL, body=labelled).parsed.evaluation.rows == 40
    estimate = call("v1.estimate", MODEL, body=body("EstimateRequest", instances=test_rows[:40])).parsed.estimate
    assert estimate.all_rows.rows == 40


def test_a_wrong_request_is_a_problem(call: Callable[..., Any], body: Callable[..., Any], test_rows: Any) -> None:
    answer = call("v1.decide", MODEL, body=body("DecideRequest", instances=[test_rows[0][:-1]]))
    assert (answer.status_code, type(answer.parsed).__name__) == (422, "Problem")
    assert answer.parsed.errors[0].pointer == "/instances/0"
    missing = call("v1.decide", "unknown", body=body("DecideRequest", instances=test_rows[:1]))
    assert (missing.status_code, missing.parsed.type_) == (404, "urn:temperance:problem:model-not-found")


def test_it_describes_models(call: Callable[..., Any]) -> None:
    assert call("v1.list_models").parsed.models == [MODEL]
    described = call("v1.describe_model", MODEL).parsed
    assert (described.name, described.classes) == (MODEL, ["benign", "malignant"])
    assert described.policies["biopsy"].on_ood == "defer"
    assert (described.training.loss, described.training.inverse) == ("cross_entropy", None)
    assert described.calibration.status == "ok"


def test_it_speaks_v2(call: Callable[..., Any], body: Callable[..., Any], test_rows: Any) -> None:
    rows = test_rows[:2]
    tensor = {"name": "X", "shape": [2, 30], "datatype": "FP32", "data": rows}
    answer = call("v2.infer", MODEL, body=body("InferenceRequest", inputs=[tensor], outputs=[{"name": "label"}]))
    assert answer.status_code == 200
    assert [(output.name, output.shape) for output in answer.parsed.outputs] == [("label", [2])]
    refused = call("v2.infer", MODEL, body=body("InferenceRequest", inputs=[{**tensor, "shape": [2, 29]}]))
    assert (refused.status_code, type(refused.parsed).__name__) == (422, "InferenceError")
    assert call("v2.model_metadata", MODEL).parsed.inputs[0].shape == [-1, 30]
    assert call("operations.ready").parsed.status == "ready"


def test_every_example_of_a_request_is_accepted(server: Any) -> None:
    contract = server.client.get("/openapi.json").json()
    assert isinstance(server.client, httpx.Client)
    for path, item in contract["paths"].items():
        for method, operation in item.items():
            expected = 404 if "/predictions/" in path else 200  # of its example there is no record here
            if "/repository/" not in path:
                assert try_out(server.client, contract, path, method, operation) == expected, (method, path)


def try_out(client: httpx.Client, contract: dict[str, Any], path: str, method: str, operation: dict[str, Any]) -> int:
    """Status of the request that a page makes of an operation's examples."""
    values = {one["name"]: one["example"] for one in operation["parameters"] if one["in"] == "path"}
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    names = [reference["$ref"].rpartition("/")[2] for reference in content.get("examples", {}).values()]
    sent = {"json": contract["components"]["examples"][names[0]]["value"]} if names else {}
    return client.request(method, path.format(**values), **sent).status_code

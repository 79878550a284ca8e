"""Applications in process, and models whose instances are the logits themselves."""

import asyncio
import copy
import json
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
from jsonschema import Draft202012Validator
from onnx import TensorProto, helper, numpy_helper

from service.bundle.files import file_sha256
from service.bundle.manifest import MANIFEST_FILE
from service.bundle.record import RECORD_FILE
from service.bundle.repository import Repository
from service.bundle.state import STATE_FILE, dump_state, load_state
from service.bundle.sums import SUMS_FILE
from service.fitting.fit import FitRequest, fit
from service.fitting.publish import publish_draft
from service.importer.declared import Declared
from service.importer.import_model import import_model
from service.main import compose
from service.runtime.model import Model
from service.runtime.registry import Registry, load_registry
from service.settings import Settings
from tests.shipped_model import SHIPPED

ROWS = 300
HEAVY = 1500  # of a hidden layer


@pytest.fixture(scope="session")
def shipped() -> Registry:
    """The shipped models in memory."""
    return load_registry(Repository(SHIPPED))


@pytest.fixture(scope="session")
def shipped_model(shipped: Registry) -> Model:
    """The shipped model in memory."""
    return shipped.model("breast-cancer")


@pytest.fixture
def client_of() -> Callable[..., httpx.AsyncClient]:
    """A client of an application in process: ``client_of(registry, max_rows=…)``."""

    def make(registry: Registry, **settings: Any) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(compose(Settings(audit="off", **settings), registry))
        return httpx.AsyncClient(transport=transport, base_url="http://temperance")

    return make


@pytest.fixture
async def client(client_of: Callable[..., httpx.AsyncClient], shipped: Registry) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the shipped models in process."""
    async with client_of(shipped) as running:
        yield running


@pytest.fixture
async def first_release(
    client_of: Callable[..., httpx.AsyncClient], repository: Repository
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the shipped model as the first release fitted it: without label sets and estimates."""
    version = repository.root / "breast-cancer" / "1"
    old = Path(__file__).parent.parent / "bundle" / "record-of-the-first-release.json"
    shutil.copyfile(old, version / RECORD_FILE)
    state = load_state((version / STATE_FILE).read_bytes(), where=STATE_FILE)
    kept = {name: array for name, array in state.items() if not name.startswith("self_test.")}
    (version / STATE_FILE).write_bytes(dump_state(kept))
    names = sorted(path.name for path in version.iterdir() if path.name != SUMS_FILE)
    (version / SUMS_FILE).write_text("".join(f"{file_sha256(version / name)}  {name}\n" for name in names))
    async with client_of(load_registry(repository)) as running:
        yield running


@pytest.fixture
def ask(client: httpx.AsyncClient) -> Callable[..., Any]:
    """The answer of the shipped model to a verb, as a document: ``await ask("decide", rows, site="screening")``."""

    async def asked(verb: str, instances: Any, **parameters: Any) -> dict[str, Any]:
        body = {"instances": instances, "parameters": parameters}
        answer = await client.post(f"/v1/models/breast-cancer:{verb}", json=body)
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    return asked


@pytest.fixture
def publish_logits(tmp_path: Path, linear_graph: Callable[..., Path]) -> Callable[..., Registry]:
    """Publishes `logits`, a model that answers its own instances, and loads it.

    ``more`` is appended to its manifest. ``fitted`` gives it a calibration, by default the identity: thresholds
    and a prevalence, with probabilities as they are. ``data`` replaces its calibration rows.
    """

    def publish(
        classes: tuple[str, ...],
        *,
        more: str = "",
        fitted: bool = False,
        data: Path | None = None,
        calibrator: str = "identity",
        **options: Any,
    ) -> Registry:
        k = len(classes)
        repository = Repository(tmp_path / "repository")
        repository.root.mkdir()
        declared = Declared(output_kind="logits", classes=classes)
        draft = import_model(repository, "logits", linear_graph(np.eye(k).tolist(), [0.0] * k), declared).draft
        manifest = draft / MANIFEST_FILE
        manifest.write_text(f"{manifest.read_text()}\n{more}")
        if fitted:
            rows = data or _labelled(tmp_path / "cal.npz", k)
            fit(repository, "logits", FitRequest(rows, calibrator=calibrator, **options))
        else:
            publish_draft(repository, "logits")
        return load_registry(repository)

    return publish


@pytest.fixture(scope="session")
def heavy(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository with `heavy`, a network that takes some tenths of a second for many rows, on a thread of its own."""
    folder = tmp_path_factory.mktemp("heavy")
    rng = np.random.default_rng(0)
    sizes = [(2, HEAVY), (HEAVY, HEAVY), (HEAVY, 2)]
    weights = [rng.normal(size=size, scale=size[0] ** -0.5).astype(np.float32) for size in sizes]
    names = ["x", "first", "second", "logits"]
    nodes = [helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]]) for i in range(3)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 2]) for name in ("x", "logits")]
    constants = [numpy_helper.from_array(weight, f"w{i}") for i, weight in enumerate(weights)]
    graph = helper.make_graph(nodes, "heavy", ends[:1], ends[1:], constants)
    path = folder / "heavy.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    repository = Repository(folder / "models")
    repository.root.mkdir()
    draft = import_model(repository, "heavy", path, Declared(output_kind="logits", classes=("0", "1"))).draft
    manifest = draft / MANIFEST_FILE
    manifest.write_text(f'{manifest.read_text()}\n[runtime]\nexecution = "thread"\n')
    publish_draft(repository, "heavy")
    return repository


def _labelled(path: Path, k: int) -> Path:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(k), size=ROWS)
    labels = (p.cumsum(axis=1) > rng.random((ROWS, 1))).argmax(axis=1)
    np.savez(path, X=np.log(p), y=labels)
    return path


@pytest.fixture(scope="session")
def contract(shipped: Registry) -> dict[str, Any]:
    """The OpenAPI document of the shipped models."""

    async def requested() -> dict[str, Any]:
        transport = httpx.ASGITransport(compose(Settings(audit="off"), shipped))
        async with httpx.AsyncClient(transport=transport, base_url="http://temperance") as client:
            document: dict[str, Any] = (await client.get("/openapi.json")).json()
        return document

    return asyncio.run(requested())


@pytest.fixture(scope="session")
def conforms(contract: dict[str, Any]) -> Callable[..., list[str]]:
    """Where a document departs from what an operation answers, or from a component; an unnamed member departs too."""
    schemas = {name: _closed(schema) for name, schema in contract["components"]["schemas"].items()}
    operations = {one["operationId"]: one for path in contract["paths"].values() for one in path.values()}

    def departures(document: Any, name: str) -> list[str]:
        schema = {"$ref": f"#/components/schemas/{name}"}
        if name in operations:
            schema = operations[name]["responses"]["200"]["content"]["application/json"]["schema"]
        validator = Draft202012Validator({**schema, "components": {"schemas": schemas}})
        return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]

    return departures


def _closed(schema: Any) -> Any:
    """The same schema, without room for members that it does not name."""
    if isinstance(schema, list):
        return [_closed(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _closed(value) for key, value in schema.items()}
    return {**made, "additionalProperties": made.get("additionalProperties", False)} if "properties" in made else made


@pytest.fixture
def example_row(test_rows: list[list[float]]) -> list[float]:
    """Measurements of one patient, safe to change."""
    return copy.copy(test_rows[0])


@pytest.fixture
def fill(example_row: list[float], features: list[str]) -> Callable[[str | bytes], bytes]:
    """Puts a patient into a body: $ROW, $REST (all values but the first), $MEMBERS (all members but the first)."""
    rest = json.dumps(example_row[1:])[1:-1]
    members = json.dumps(dict(zip(features[1:], example_row[1:], strict=True)))[1:-1]

    def filled(body: str | bytes) -> bytes:
        raw = body if isinstance(body, bytes) else body.encode()
        pairs = ((b"$ROW", json.dumps(example_row)), (b"$REST", rest), (b"$MEMBERS", members))
        for name, text in pairs:
            raw = raw.replace(name, text.encode())
        return raw

    return filled

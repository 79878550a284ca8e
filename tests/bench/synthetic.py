"""Networks with seeded weights, brought into a repository as a user would bring them."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import tomlkit
from onnx import TensorProto, helper, numpy_helper

from service.bundle.drafts import open_draft
from service.bundle.manifest import MANIFEST_FILE
from service.bundle.repository import Repository
from service.bundle.writer import set_alias
from service.fitting.fit import FitRequest, fit
from service.fitting.publish import publish_draft
from service.importer.declared import Declared
from service.importer.import_model import import_model
from tests.bench.wrk import JSON, Request

Matrix = npt.NDArray[np.float32]

OPSET: Final = 17
OVERCONFIDENT: Final = 1.5  # labels are drawn at this temperature, so that there is something to calibrate


@dataclass(frozen=True, slots=True)
class Network:
    """Dense layers with ReLU between them.

    Attributes
    ----------
    name : str
    widths : tuple of int
        Of inputs, hidden layers and classes.
    actions : int
        In its one policy.
    rows : int
        That it is calibrated on.
    seed : int
    """

    name: str
    widths: tuple[int, ...]
    actions: int
    rows: int
    seed: int = 0

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in output order."""
        return tuple(f"class-{k}" for k in range(self.widths[-1]))

    def layers(self) -> list[tuple[Matrix, Matrix]]:
        """Weights and offsets, scaled so that signals neither fade nor grow, and logits spread by about three."""
        rng = np.random.default_rng(self.seed)
        pairs = list(zip(self.widths[:-1], self.widths[1:], strict=True))
        return [
            (
                rng.normal(0.0, np.sqrt((2.0 if i + 1 < len(pairs) else 9.0) / a), (a, b)).astype(np.float32),
                rng.normal(0.0, 0.1, b).astype(np.float32),
            )
            for i, (a, b) in enumerate(pairs)
        ]

    def graph(self) -> onnx.ModelProto:
        """As ONNX, with logits for its output."""
        layers, nodes, weights, last = self.layers(), [], [], "X"
        for i, (weight, offset) in enumerate(layers):
            name = "logits" if i + 1 == len(layers) else f"hidden{i}"
            weights += [numpy_helper.from_array(weight, f"w{i}"), numpy_helper.from_array(offset, f"b{i}")]
            nodes.append(helper.make_node("Gemm", [last, f"w{i}", f"b{i}"], [name]))
            if name != "logits":
                nodes.append(helper.make_node("Relu", [name], [f"{name}+"]))
            last = f"{name}+"
        ends = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", width])
            for name, width in (("X", self.widths[0]), ("logits", self.widths[-1]))
        ]
        graph = helper.make_graph(nodes, self.name, ends[:1], ends[1:], weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)

    def sample(self, rows: int, *, seed: int) -> Matrix:
        """Rows of numbers between 0 and 1 with four digits, as pixels are sent."""
        return np.random.default_rng(seed).random((rows, self.widths[0])).round(4).astype(np.float32)

    def labelled(self) -> tuple[Matrix, npt.NDArray[np.str_]]:
        """Rows to calibrate on, with labels that the network finds likely, though less so than its probabilities."""
        x = self.sample(self.rows, seed=self.seed + 1)
        logits = x
        for i, (weight, offset) in enumerate(self.layers()):
            logits = (np.maximum(logits, 0.0) if i else logits) @ weight + offset
        noise = np.random.default_rng(self.seed + 2).gumbel(size=logits.shape)
        return x, np.array(self.classes)[(logits / OVERCONFIDENT + noise).argmax(axis=1)]

    def costs(self) -> dict[str, dict[str, int]]:
        """Whole numbers from 0 to 9, seeded."""
        drawn = np.random.default_rng(self.seed + 3).integers(0, 10, (self.actions, len(self.classes)))
        return {f"action-{a}": dict(zip(self.classes, row, strict=True)) for a, row in enumerate(drawn.tolist())}

    def request(self, verb: str, rows: int, *, version: int | None = None, **parameters: Any) -> Request:
        """Rows to decide on, or for another verb."""
        instances = [[round(cell, 4) for cell in row] for row in self.sample(rows, seed=self.seed + 4).tolist()]
        body = {"instances": instances, **({"parameters": parameters} if parameters else {})}
        place = "" if version is None else f"/versions/{version}"
        return Request(f"/v1/models/{self.name}{place}:{verb}", json.dumps(body).encode(), JSON)


def publish(models: Path, network: Network) -> None:
    """Import, declare prices, fit: version 1, with nll for its OOD score and a temperature."""
    repository = Repository(models)
    with tempfile.TemporaryDirectory() as scratch:
        graph, data = Path(scratch) / "model.onnx", Path(scratch) / "calibration.npz"
        onnx.save(network.graph(), graph)
        x, labels = network.labelled()
        np.savez(data, X=x, y=labels)
        declared = Declared(output_kind="logits", classes=network.classes)
        draft = import_model(repository, network.name, graph, declared).draft
        policy = {"fixed": {"default": True, "costs": network.costs()}}
        _declare(draft, title=network.name, ood={"scores": ["nll"]}, policies=policy)
        fit(repository, network.name, FitRequest(data))


def publish_unbatched(models: Path, network: Network) -> int:
    """The same version again, except that no run joins requests; served as `apart`."""
    repository = Repository(models)
    _declare(open_draft(repository, network.name), runtime={"batch_rows": 1})
    version = publish_draft(repository, network.name).version
    set_alias(repository, network.name, "apart", version)
    if repository.bundle(network.name, version).record is None:
        raise SystemExit("the unbatched version lost its calibration; compare nothing")
    return version


def _declare(draft: Path, **sections: Any) -> None:
    manifest = draft / MANIFEST_FILE
    document = tomlkit.parse(manifest.read_text(encoding="utf-8"))
    for name, section in sections.items():
        document[name] = section
    manifest.write_text(tomlkit.dumps(document), encoding="utf-8")

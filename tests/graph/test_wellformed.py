"""No damage and no odd exporter ends in a traceback: whatever contradicts ONNX is a GraphError of one sentence."""

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import onnx
import pytest

from service.errors import ServiceError
from service.graph.inspect import inspect_graph
from service.graph.wellformed import faults
from service.importer.analysis import analyse
from service.importer.declared import Declared
from service.importer.sandbox import SandboxLimits
from tests.graph import mutants

MUTATE: list[Callable[[onnx.ModelProto], Iterator[onnx.ModelProto]]] = [
    mutants.with_other_attributes,
    mutants.with_other_wiring,
    mutants.with_other_tensors,
]
SEEDS = mutants.seeds()


def _refusal(path: Path, read: Callable[[Path], object]) -> str:
    try:
        read(path)
    except ServiceError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", SEEDS)
def test_sound_graphs_have_no_fault(name: str, tmp_path: Path) -> None:
    assert list(faults(SEEDS[name])) == []
    onnx.save(SEEDS[name], tmp_path / "m.onnx")
    if name != "recurrent":  # refused for the state that its row axis looks like
        inspect_graph(tmp_path / "m.onnx")


@pytest.mark.parametrize("mutate", MUTATE)
def test_no_reading_of_a_graph_ends_in_a_traceback(
    mutate: Callable[[onnx.ModelProto], Iterator[onnx.ModelProto]], tmp_path: Path
) -> None:
    path = tmp_path / "m.onnx"
    changed = list(chain.from_iterable(map(mutate, SEEDS.values())))
    for number in np.random.default_rng(0).choice(len(changed), 170, replace=False):
        path.write_bytes(changed[number].SerializeToString())
        assert "\n" not in _refusal(path, inspect_graph)


def test_no_damage_to_the_bytes_of_a_file_ends_in_a_traceback(tmp_path: Path) -> None:
    path, rng = tmp_path / "m.onnx", np.random.default_rng(1)
    for damaged in chain.from_iterable(mutants.with_other_bytes(sound, rng, 15) for sound in SEEDS.values()):
        path.write_bytes(damaged)
        assert "\n" not in _refusal(path, inspect_graph)


@pytest.mark.parametrize("depth", [20, 1000])
def test_branches_inside_branches_are_read_or_refused(depth: int, tmp_path: Path) -> None:
    inner = b""
    for _ in range(
        depth
    ):  # bytes of a NodeProto in a GraphProto in an AttributeProto: protobuf itself makes none so deep
        graph = _field(1, inner + _field(4, b"If"))
        inner = _field(5, _field(1, b"then_branch") + _field(6, graph) + b"\xa0\x01\x05")
    sound = SEEDS["softmax"].SerializeToString()
    (tmp_path / "m.onnx").write_bytes(sound + _field(7, _field(1, inner + _field(4, b"If"))))
    reason = _refusal(tmp_path / "m.onnx", inspect_graph)
    assert reason
    assert "\n" not in reason


def _field(number: int, content: bytes) -> bytes:
    """A field of a protobuf that holds bytes."""
    length, size = b"", len(content)
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def test_no_import_ends_in_a_traceback(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    trees = onnx.ModelProto.FromString(SEEDS["tree ensemble"].SerializeToString())
    trees.graph.node.append(trees.graph.node[0])
    path.write_bytes(trees.SerializeToString())
    assert _refusal(path, lambda path: analyse(path, Declared(), SandboxLimits(seconds=5)))
    rng = np.random.default_rng(0)
    for name, mutate in ((name, mutate) for name in ("mixed", "tree ensemble") for mutate in MUTATE):
        changed = list(mutate(SEEDS[name]))
        path.write_bytes(changed[rng.integers(len(changed))].SerializeToString())
        assert "\n" not in _refusal(path, lambda path: analyse(path, Declared(), SandboxLimits(seconds=5)))


@pytest.mark.parametrize(
    ("name", "attribute", "other", "reason"),
    [
        (
            "linear classifier",
            "post_transform",
            1,
            "LinearClassifier's post_transform is INT, ONNX defines it as STRING",
        ),
        ("trees", "nodes_modes", [1, 2, 3], "TreeEnsembleClassifier's nodes_modes is INTS, ONNX defines it as STRINGS"),
        ("trees", "classlabels_strings", [b"\xff", b"b"], "classlabels_strings does not hold what its type declares"),
        (
            "tree ensemble",
            "post_transform",
            "SOFTMAX",
            "TreeEnsemble's post_transform is STRING, ONNX defines it as INT",
        ),
        ("mixed", "axis", "1", "Flatten's axis is STRING, ONNX defines it as INT"),
    ],
)
def test_an_attribute_of_another_type_is_named(
    name: str, attribute: str, other: object, reason: str, tmp_path: Path
) -> None:
    (node, index) = next(
        (node, i) for node in SEEDS[name].graph.node for i, a in enumerate(node.attribute) if a.name == attribute
    )
    changed = onnx.ModelProto.FromString(SEEDS[name].SerializeToString())
    held = changed.graph.node[list(SEEDS[name].graph.node).index(node)].attribute
    del held[index]
    held.append(onnx.helper.make_attribute(attribute, other))
    assert any(reason in fault for fault in faults(changed))
    path = tmp_path / "m.onnx"
    path.write_bytes(changed.SerializeToString())
    with pytest.raises(ServiceError, match=r"check the file with onnx\.checker\.check_model"):
        inspect_graph(path)


def test_a_tensor_cut_short_is_named() -> None:
    changed = onnx.ModelProto.FromString(SEEDS["softmax"].SerializeToString())
    changed.graph.initializer[0].raw_data = changed.graph.initializer[0].raw_data[:-1]
    assert list(faults(changed)) == ["the tensor 'W' holds another number of elements than its shape declares"]

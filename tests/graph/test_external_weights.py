"""Every tensor lies within its file beside the graph: computed with whole numbers before anything is opened or made."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from service.errors import GraphError
from service.graph.loading import load_graph
from tests.graph import mutants

FILE = "weights.bin"
PLACES = {
    "a negative offset": ({"offset": "-4"}, "is negative"),
    "a negative length": ({"length": "-32"}, "is negative"),
    "an offset beyond the file": ({"offset": "4096"}, "is shorter than the weights 'W'"),
    "an offset beyond every file": ({"offset": str(2**62)}, "is shorter than the weights 'W'"),
    "an offset of many digits": ({"offset": "9" * 5000}, "is no number"),
    "an offset that is no number": ({"offset": "1e3"}, "is no number"),
    "a length beyond every file": ({"length": str(2**63)}, "their shape needs 32"),
    "another length": ({"length": "16"}, "have 16 bytes, and their shape needs 32"),
}
SHAPES = {"overflowing": (2**40, 2**40), "beyond the file": (2**20, 2), "of one huge axis": (2**62,)}


def _save(path: Path, place: dict[str, str], *, shape: tuple[int, ...] = (4, 2)) -> Path:
    changed = onnx.ModelProto.FromString(mutants.seeds()["softmax"].SerializeToString())
    weights = changed.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.dims[:] = shape
    for key, value in {"location": FILE, **place}.items():
        weights.external_data.add(key=key, value=value)
    path.write_bytes(changed.SerializeToString())
    return path


@pytest.mark.parametrize("name", PLACES)
def test_a_place_outside_its_file_is_refused(name: str, tmp_path: Path) -> None:
    place, reason = PLACES[name]
    (tmp_path / FILE).write_bytes(bytes(32))
    with pytest.raises(GraphError, match=f"{FILE}.*{reason}"):
        load_graph(_save(tmp_path / "m.onnx", place))


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_larger_than_its_file_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(bytes(32))
    with pytest.raises(GraphError, match=f"{FILE} is shorter than the weights 'W' in it; copy it again"):
        load_graph(_save(tmp_path / "m.onnx", {}, shape=SHAPES[name]))


def test_weights_within_their_file_are_read(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(bytes(8) + np.ones(8, np.float32).tobytes())
    load_graph(_save(tmp_path / "m.onnx", {"offset": "8", "length": "32"}))
    (tmp_path / FILE).write_bytes(bytes(8) + np.full(8, np.nan, np.float32).tobytes())
    with pytest.raises(GraphError, match="the weights 'W' hold NaN"):
        load_graph(tmp_path / "m.onnx")


@pytest.mark.parametrize("kind", ["pipe", "folder", "link to a device", "link to nothing"])
def test_weights_in_what_is_no_file_are_refused(kind: str, tmp_path: Path) -> None:
    made: dict[str, Callable[[Path], None]] = {
        "pipe": os.mkfifo,
        "folder": Path.mkdir,
        "link to a device": lambda path: path.symlink_to("/dev/zero"),
        "link to nothing": lambda path: path.symlink_to(tmp_path / "none"),
    }
    made[kind](tmp_path / FILE)
    with pytest.raises(GraphError, match="missing, or no regular file"):
        load_graph(_save(tmp_path / "m.onnx", {}))

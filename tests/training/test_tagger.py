"""The tagger of `service.training.networks`: padding changes nothing, in torch and as a graph."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch")

from service.training.export import export
from service.training.loop import outputs_of
from service.training.networks import Tagger
from service.training.pictures import tracks

LENGTHS = (5, 9, 12)


def tagger() -> Tagger:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Tagger(20, 3, channels=8)


def tokens() -> np.ndarray:
    rows = np.random.default_rng(0).integers(1, 21, (3, 12))
    return np.where(np.arange(12) < np.array(LENGTHS)[:, None], rows, 0)


def test_logits_do_not_depend_on_how_far_a_sequence_is_padded() -> None:
    network, rows = tagger(), tokens()
    padded = outputs_of(network, np.pad(rows, ((0, 0), (0, 40))))
    for row, length in enumerate(LENGTHS):
        alone = outputs_of(network, rows[row : row + 1, :length])
        np.testing.assert_allclose(padded[row, :length], alone[0], rtol=0, atol=1e-5)


def test_the_graph_takes_any_batch_and_any_length_and_answers_what_torch_does(tmp_path: Path) -> None:
    network, rows = tagger(), tokens()
    export(network, tmp_path / "tagger.onnx", rows, dynamic=("batch", "length"))
    session = onnxruntime.InferenceSession(tmp_path / "tagger.onnx", providers=["CPUExecutionProvider"])
    for part in (rows, rows[:1, :5], np.pad(rows, ((0, 0), (0, 7)))):
        np.testing.assert_allclose(session.run(None, {"x": part})[0], outputs_of(network, part), rtol=0, atol=1e-5)


def test_a_tagger_without_a_window_reads_every_position_by_itself() -> None:
    alone = Tagger(20, 3, window=1, dilations=(), channels=8)
    rows = tokens()
    before, rows[2, 6] = outputs_of(alone, rows), 1 + rows[2, 6] % 20
    changed = np.abs(outputs_of(alone, rows) - before).max(axis=2) > 0.0
    assert np.argwhere(changed).tolist() == [[2, 6]]


def test_tracks_draw_one_bar_for_every_segment() -> None:
    shorter = tracks({"true": np.array([0, 0, 1, 1])}, ("loop", "helix"))
    longer = tracks({"true": np.array([0, 0, 1, 1]), "predicted": np.array([0, 1, 0, 1])}, ("loop", "helix"))
    assert longer.startswith("<svg")
    assert len(shorter) < len(longer) < 60_000
    assert longer.count("<path") >= shorter.count("<path") + 4

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from service.bundle.repository import Repository
from service.errors import InvalidInstances, ModelOutputInvalid
from service.prediction.bulk import CHUNK_ROWS, posterior_of, raw_of
from service.runtime.model import Model, load_model

ROWS = np.random.default_rng(0).normal(size=(2 * CHUNK_ROWS + 100, 2)).astype(np.float32).astype(np.float64)


@pytest.fixture
def model(toy: Callable[..., Repository]) -> Model:
    return load_model(toy(2, "[features.f1]\nallowed = [-50, 50]\n").draft("toy"))


def test_rows_in_chunks_have_the_posterior_of_rows_at_once(model: Model) -> None:
    raw = raw_of(model, ROWS)
    np.testing.assert_array_equal(raw.columns, ROWS)
    np.testing.assert_array_equal(raw.logits, ROWS)
    whole = model.posterior(ROWS)
    chunked = posterior_of(model, ROWS)
    np.testing.assert_array_equal(chunked.log_probs, whole.log_probs)
    np.testing.assert_array_equal(chunked.scores, whole.scores)


def test_progress_sees_the_start_of_every_chunk(model: Model) -> None:
    seen: list[int] = []

    def track(starts: Iterable[int]) -> Iterable[int]:
        for start in starts:
            seen.append(start)
            yield start

    posterior_of(model, ROWS, track=track)
    assert seen == [0, CHUNK_ROWS, 2 * CHUNK_ROWS]


@pytest.mark.parametrize("row", [0, CHUNK_ROWS - 1, CHUNK_ROWS, 2 * CHUNK_ROWS + 99])
def test_a_row_at_fault_has_its_place_among_all_rows(row: int, model: Model) -> None:
    rows = ROWS.copy()
    rows[row, 1] = 51.0
    with pytest.raises(InvalidInstances) as error:
        raw_of(model, rows)
    assert str(error.value) == f"row {row} (rows count from 0), column 'f1' must lie between -50 and 50"
    assert [fault.path for fault in error.value.faults] == [("instances", row, "f1")]


def test_an_answer_at_fault_has_its_row_s_place_among_all_rows(
    toy: Callable[..., Repository], linear_graph: Callable[..., Path]
) -> None:
    repository = toy()
    path = repository.root / "toy" / "draft"
    path.joinpath("model.onnx").write_bytes(linear_graph([[3e38, 0.0], [3e38, 1.0]], [0.0, 0.0]).read_bytes())
    rows = np.zeros_like(ROWS)
    rows[5000] = 2.0
    with pytest.raises(ModelOutputInvalid) as error:
        raw_of(load_model(repository.draft("toy")), rows)
    assert str(error.value) == "row 5000 (rows count from 0): the model's output is not a finite number"

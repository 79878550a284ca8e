"""Columns of scored files: those of the members of an answer, for every task that has one line per row."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from service.core.numerics import Array
from service.errors import DataError
from service.prediction.answer import Part
from service.runtime.model import Model
from service.runtime.registry import Registry
from service.scoring.score import score
from service.scoring.score_request import ScoreRequest
from tests.every_task import ROWS, Case, Json, answer_of, rows_of, written


def scored(model: Model, folder: Path, *, suffix: str = ".parquet", policy: str | None = None) -> pl.DataFrame:
    """A file of scored rows, read back."""
    rows: Array = rows_of(model)
    np.savez(folder / "rows.npz", X=rows)
    out = folder / f"out{suffix}"
    score(model, ScoreRequest(folder / "rows.npz", out, policy=policy))
    return pl.read_parquet(out) if suffix == ".parquet" else pl.read_csv(out)


def responded(registry: Registry, name: str) -> list[Json]:
    """The same rows, decided over HTTP."""
    query = Case(name, "decide").query(registry)
    rows: list[Json] = written(query, answer_of(query, rows_of(query.model)), "decide", "rows", [Part("r", ROWS)])[0][
        "predictions"
    ]
    return rows


def cells(row: Json, path: str = "") -> Json:
    """A row's values by column; lists of names are flags, evidence is text."""
    found: Json = {}
    for step, value in row.items():
        name = f"{path}.{step}" if path else step
        if step == "evidence":
            found[name] = json.dumps(value)
        elif isinstance(value, dict):
            found |= cells(value, name)
        elif not isinstance(value, list):
            found[name] = value
    return found


@pytest.mark.parametrize("name", ["letters", "complaints", "raw"])
def test_a_file_holds_what_a_response_holds(every_task: Registry, name: str, tmp_path: Path) -> None:
    frame = scored(every_task.model(name), tmp_path)
    for line, row in zip(frame.iter_rows(named=True), responded(every_task, name), strict=True):
        expected = cells(row)
        del expected["prediction_id"]
        assert {column: line[column] for column in expected} == expected
        lacking = line.keys() - expected.keys() - {"row", "model", "version", "digest"}
        rest = {column for column in lacking if not column.startswith(("calibration.", "labels."))}
        assert all(line[column] is None for column in rest), rest


def test_labels_are_flags_by_name(every_task: Registry, tmp_path: Path) -> None:
    frame = scored(every_task.model("complaints"), tmp_path)
    rows = responded(every_task, "complaints")
    for label in every_task.model("complaints").classes:
        assert frame[f"labels.{label}"].to_list() == [label in row["labels"] for row in rows]


def test_a_csv_file_holds_the_same_values(every_task: Registry, tmp_path: Path) -> None:
    names = ["label", "probabilities.b.c", "ood.flagged", "decision.action", "decision.overridden.action"]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    model = every_task.model("letters")
    as_parquet, as_csv = scored(model, tmp_path / "a"), scored(model, tmp_path / "b", suffix=".csv")
    assert as_csv.columns == as_parquet.columns
    assert as_csv.select(names).rows() == as_parquet.select(names).rows()


def test_every_row_states_the_version_that_answered_it(every_task: Registry, tmp_path: Path) -> None:
    model = every_task.model("letters")
    frame = scored(model, tmp_path, policy="fly")
    stated = ["model", "version", "digest", "calibration.method", "calibration.status", "decision.policy.name"]
    expected = ("letters", "1", model.bundle.digest, "temperature", "ok", "fly")
    assert frame.select(stated).unique().rows() == [expected]


def test_sequences_are_refused(every_task: Registry, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="one line per row"):
        scored(every_task.model("motion"), tmp_path)
    assert not (tmp_path / "out.parquet").exists()

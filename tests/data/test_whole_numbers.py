"""64-bit integers of a file arrive in the graph as they stand there: when fitted, evaluated and scored."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from service.data.dataset import read_dataset
from service.errors import ServiceError
from service.prediction.bulk import raw_of
from service.runtime.model import Model, load_model
from service.scoring.score import score
from service.scoring.score_request import ScoreRequest
from tests.runtime.test_integers import CODE, bits_repository, read_back

SMALL = [(i - 5, i) for i in range(12)]
LARGE = [(CODE + i, 2**63 + i) for i in range(6)] + [(-(2**63), 2**64 - 1), (2**63 - 1, 2**53 + 1)]
PAIRS = SMALL + LARGE
KINDS = ["csv", "parquet", "npz"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_model(bits_repository(tmp_path_factory.mktemp("bits")).bundle("bits", 1))


def written(path: Path, pairs: list[tuple[int, int]]) -> Path:
    columns = {
        "n": np.array([n for n, _ in pairs], dtype=np.int64),
        "u": np.array([u for _, u in pairs], dtype=np.uint64),
        "y": np.zeros(len(pairs), dtype=np.int64),
    }
    if path.suffix == ".npz":
        np.savez(path, allow_pickle=False, **columns)
    elif path.suffix == ".csv":
        pl.DataFrame(columns).write_csv(path)
    else:
        pl.DataFrame(columns).write_parquet(path)
    return path


def scored(model: Model, data: Path, *, chunk_rows: int) -> list[tuple[int, int]]:
    out = data.with_name("out.parquet")
    score(model, ScoreRequest(data, out, chunk_rows=chunk_rows))
    answers = pl.read_parquet(out)
    return read_back(np.log(answers.select([f"probabilities.{k}" for k in range(9)]).to_numpy()))


@pytest.mark.parametrize("kind", KINDS)
def test_fit_and_evaluate_read_integers_as_integers(kind: str, model: Model, tmp_path: Path) -> None:
    data = read_dataset(written(tmp_path / f"rows.{kind}", PAIRS), model.manifest, inputs=model.inputs)
    assert read_back(raw_of(model, data.rows).logits) == PAIRS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunk_rows", [5, 100])
def test_score_reads_integers_as_integers(kind: str, chunk_rows: int, model: Model, tmp_path: Path) -> None:
    assert scored(model, written(tmp_path / f"rows.{kind}", PAIRS), chunk_rows=chunk_rows) == PAIRS


def test_whole_decimals_are_integers(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("n,u,y\n1.0,2,0\n3.0,4.0,0\n", encoding="utf-8")
    data = read_dataset(path, model.manifest, inputs=model.inputs)
    assert read_back(raw_of(model, data.rows).logits) == [(1, 2), (3, 4)]
    assert scored(model, path, chunk_rows=9) == [(1, 2), (3, 4)]


@pytest.mark.parametrize("kind", ["parquet", "npz"])
def test_doubles_that_may_be_several_integers_are_refused(kind: str, model: Model, tmp_path: Path) -> None:
    path = tmp_path / f"rows.{kind}"
    columns = {"n": np.array([1.0, float(CODE)]), "u": np.array([1.0, 2.0]), "y": np.array([0, 0])}
    if kind == "npz":
        np.savez(path, allow_pickle=False, **columns)
    else:
        pl.DataFrame(columns).write_parquet(path)
    with pytest.raises(ServiceError, match=r"row 1.*'n'"):
        raw_of(model, read_dataset(path, model.manifest, inputs=model.inputs).rows)
    with pytest.raises(ServiceError, match=r"row 1.*'n'"):
        scored(model, path, chunk_rows=9)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_integers_beside_gaps_stay_integers(kind: str, tmp_path: Path) -> None:
    more = f"[features.n]\nmissing = {{ impute = {CODE + 5} }}\n"
    imputing = load_model(bits_repository(tmp_path, more=more).bundle("bits", 1))
    frame = pl.DataFrame({"n": [CODE + 1, None], "u": [1, 2], "y": [0, 0]})
    path = tmp_path / f"rows.{kind}"
    frame.write_csv(path) if kind == "csv" else frame.write_parquet(path)
    expected = [(CODE + 1, 1), (CODE + 5, 2)]
    data = read_dataset(path, imputing.manifest, inputs=imputing.inputs)
    assert read_back(raw_of(imputing, data.rows).logits) == expected
    assert scored(imputing, path, chunk_rows=9) == expected

"""Batch scoring of the shipped model."""

import resource
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from service.bundle.repository import Repository
from service.core.pipeline import act
from service.errors import DataError, InvalidParameters, ServiceError
from service.evaluation.score import ScoreRequest, score
from service.runtime.model import Model, load_model


@pytest.fixture
def model(repository: Repository) -> Model:
    return load_model(repository.bundle("breast-cancer", 1))


@pytest.fixture
def request_(data_folder: Path, tmp_path: Path) -> ScoreRequest:
    return ScoreRequest(data_folder / "test.csv", tmp_path / "out.parquet", chunk_rows=50)


class Interrupted(Exception):
    """Somebody pulled the plug."""


def interrupted_after(chunks: int):
    def track(starts: Iterable[int]) -> Iterable[int]:
        for i, start in enumerate(starts):
            if i == chunks:
                raise Interrupted
            yield start

    return track


def test_every_row_is_answered_as_the_core_answers_it(
    model: Model, request_: ScoreRequest, test_rows: list[list[float]]
) -> None:
    done = score(model, request_)
    answers = pl.read_parquet(request_.out)
    posterior = model.posterior(np.array(test_rows))
    log_probs, made = act(posterior, model.policies["biopsy"])
    assert (done.rows, done.reused, len(answers)) == (len(test_rows), 0, len(test_rows))
    assert answers["row"].to_list() == list(range(len(test_rows)))
    np.testing.assert_allclose(answers["probability malignant"], np.exp(log_probs[:, 1]), rtol=1e-6)
    np.testing.assert_allclose(answers["risk dismiss"], made.risks[:, 0], rtol=1e-6)
    assert answers["action"].to_list() == [model.policies["biopsy"].actions[a] for a in made.action]
    assert posterior.flagged is not None
    assert answers["flagged"].to_list() == posterior.flagged.tolist()
    assert answers["digest"].unique().to_list() == [model.bundle.digest]


def test_an_interrupted_run_goes_on_where_it_ended(model: Model, request_: ScoreRequest, tmp_path: Path) -> None:
    score(model, replace(request_, out=tmp_path / "whole.parquet"))
    with pytest.raises(Interrupted):
        score(model, request_, track=interrupted_after(2))
    assert not request_.out.exists()
    done = score(model, request_)
    assert done.reused == 100
    assert pl.read_parquet(request_.out).equals(pl.read_parquet(tmp_path / "whole.parquet"))
    assert not request_.out.with_name("out.parquet.parts").exists()


def test_parts_of_another_job_are_not_mixed_in(model: Model, request_: ScoreRequest) -> None:
    with pytest.raises(Interrupted):
        score(model, request_, track=interrupted_after(1))
    with pytest.raises(DataError, match="holds the answers of another job"):
        score(model, replace(request_, site="screening"))


def test_what_was_refused_at_its_first_rows_does_not_stand_in_the_way(model: Model, request_: ScoreRequest) -> None:
    with pytest.raises(DataError, match="has no column 'nobody'"):
        score(model, replace(request_, id_column="nobody"))
    assert score(model, request_).reused == 0


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_data_set_without_rows_is_refused(suffix: str, model: Model, request_: ScoreRequest, tmp_path: Path) -> None:
    (tmp_path / "none.csv").write_text(request_.data.read_text().splitlines()[0] + "\n")
    with pytest.raises(DataError, match=r"none\.csv has no rows"):
        score(model, replace(request_, data=tmp_path / "none.csv", out=tmp_path / f"out{suffix}"))
    assert [path.name for path in tmp_path.glob("out*")] == []


def test_an_answer_is_never_overwritten(model: Model, request_: ScoreRequest) -> None:
    score(model, request_)
    with pytest.raises(DataError, match="exists; remove it"):
        score(model, request_)


def test_a_row_at_fault_has_its_place_in_the_file(
    model: Model, request_: ScoreRequest, data_folder: Path, tmp_path: Path, features: list[str]
) -> None:
    frame = pl.read_csv(data_folder / "test.csv")
    broken = frame.with_columns(
        pl.when(pl.int_range(pl.len()) == 120).then(None).otherwise(pl.col(features[3])).alias(features[3])
    )
    broken.write_parquet(tmp_path / "broken.parquet")
    with pytest.raises(ServiceError, match=rf"row 120 \(rows count from 0\), column '{features[3]}' is missing"):
        score(model, replace(request_, data=tmp_path / "broken.parquet"))


def test_a_prevalence_a_policy_and_ids_are_as_asked(
    model: Model, request_: ScoreRequest, data_folder: Path, tmp_path: Path
) -> None:
    frame = pl.read_csv(data_folder / "test.csv").with_columns(who=pl.format("patient-{}", pl.int_range(pl.len())))
    frame.write_csv(tmp_path / "rows.csv")
    asked = replace(
        request_,
        data=tmp_path / "rows.csv",
        site="screening",
        policy="biopsy",
        id_column="who",
        out=tmp_path / "out.csv",
    )
    score(model, asked)
    score(model, replace(request_, out=tmp_path / "plain.parquet"))
    moved, plain = pl.read_csv(tmp_path / "out.csv"), pl.read_parquet(tmp_path / "plain.parquet")
    assert moved["id"].to_list() == frame["who"].to_list()
    assert (moved["probability malignant"] < plain["probability malignant"]).all()


@pytest.mark.parametrize(
    ("change", "words"), [({"policy": "zq7canary"}, "no policy of that name"), ({"site": "zq7canary"}, "no site")]
)
def test_an_unknown_policy_or_site_is_refused_before_anything_is_written(
    change: dict[str, str], words: str, model: Model, request_: ScoreRequest
) -> None:
    with pytest.raises(InvalidParameters, match=words):
        score(model, replace(request_, **change))  # type: ignore[arg-type]  # strings by name
    assert [path.name for path in request_.out.parent.iterdir()] == ["models"]


@pytest.mark.parametrize("out", ["out.xlsx", "nowhere/out.csv"])
def test_a_place_that_cannot_be_written_to_is_refused_first(
    out: str, model: Model, request_: ScoreRequest, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"written as one of|is not a directory"):
        score(model, replace(request_, out=tmp_path / out))


def test_memory_does_not_grow_with_the_file(model: Model, tmp_path: Path, test_rows: list[list[float]]) -> None:
    x = np.tile(np.array(test_rows), (700, 1))  # 100 100 rows: 24 MB of numbers, and far more of answers
    np.savez(tmp_path / "rows.npz", X=x)
    score(model, ScoreRequest(tmp_path / "rows.npz", tmp_path / "warm.parquet", chunk_rows=4096))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    np.savez(tmp_path / "four.npz", X=np.tile(x, (4, 1)))
    between = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    score(model, ScoreRequest(tmp_path / "four.npz", tmp_path / "out.parquet", chunk_rows=4096))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - max(before, between) < 60_000  # KiB
    assert pl.scan_parquet(tmp_path / "out.parquet").select(pl.len()).collect().item() == 4 * len(x)

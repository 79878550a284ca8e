"""Batch scoring of the shipped model."""

import resource
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from service.bundle.repository import Repository
from service.core.pipeline import choose
from service.errors import DataError, InvalidParameters, ServiceError
from service.runtime.model import Model, load_model
from service.scoring.score import score
from service.scoring.score_request import ScoreRequest


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
    log_probs = posterior.log_probs
    made = choose(log_probs, model.policies["biopsy"], flagged=posterior.flagged)
    assert (done.rows, done.reused, len(answers)) == (len(test_rows), 0, len(test_rows))
    assert answers["row"].to_list() == list(range(len(test_rows)))
    np.testing.assert_allclose(answers["probabilities.malignant"], np.exp(log_probs[:, 1]), rtol=1e-6)
    np.testing.assert_allclose(answers["decision.risks.dismiss"], made.risks[:, 0], rtol=1e-6)
    assert answers["decision.action"].to_list() == [model.policies["biopsy"].actions[a] for a in made.action]
    assert posterior.flagged is not None
    assert answers["ood.flagged"].to_list() == posterior.flagged.tolist()
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


def copy_of(request_: ScoreRequest, folder: Path, name: str = "rows.csv", *, reverse: bool = False) -> Path:
    """The rows under a name of their own, or others under the same name."""
    header, *lines = request_.data.read_text().splitlines()
    (folder / name).write_text("\n".join([header, *(reversed(lines) if reverse else lines)]) + "\n")
    return folder / name


def test_another_file_of_the_same_name_is_another_job(model: Model, request_: ScoreRequest, tmp_path: Path) -> None:
    job = replace(request_, data=copy_of(request_, tmp_path))
    with pytest.raises(Interrupted):
        score(model, job, track=interrupted_after(2))
    copy_of(request_, tmp_path, reverse=True)
    with pytest.raises(DataError, match="holds the answers of another job"):
        score(model, job)
    copy_of(request_, tmp_path)
    assert score(model, job).reused == 100, "the same bytes are the same job again"


@pytest.mark.parametrize(
    "change", [{"policy": "biopsy"}, {"site": "screening"}, {"id_column": "y"}, {"on_error": "skip"}]
)
def test_other_options_are_another_job(change: dict[str, str], model: Model, request_: ScoreRequest) -> None:
    with pytest.raises(Interrupted):
        score(model, request_, track=interrupted_after(1))
    with pytest.raises(DataError, match="holds the answers of another job"):
        score(model, replace(request_, **change))  # type: ignore[arg-type]  # strings by name


def test_a_file_that_moved_is_the_same_job(model: Model, request_: ScoreRequest, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        score(model, request_, track=interrupted_after(2))
    moved = tmp_path / "moved.csv"
    moved.write_bytes(request_.data.read_bytes())
    assert score(model, replace(request_, data=moved, chunk_rows=30)).reused == 100


@pytest.mark.parametrize("at", [0, 1])
def test_a_file_that_changes_while_it_is_read_is_refused(
    at: int, model: Model, request_: ScoreRequest, tmp_path: Path
) -> None:
    job = replace(request_, data=copy_of(request_, tmp_path))

    def track(starts: Iterable[int]) -> Iterable[int]:
        for i, start in enumerate(starts):
            if i == at:
                copy_of(request_, tmp_path, reverse=True)
            yield start

    with pytest.raises(DataError, match="changed while it was read; nothing was written: score it again"):
        score(model, job, track=track)
    assert [path.name for path in tmp_path.glob("out*")] == []


def test_a_directory_of_parts_is_one_data_set(model: Model, request_: ScoreRequest, tmp_path: Path) -> None:
    frame = pl.read_csv(request_.data)
    for suffix, write in ((".parquet", pl.DataFrame.write_parquet), (".csv", pl.DataFrame.write_csv)):
        folder = tmp_path / f"parts{suffix}"
        folder.mkdir()
        write(frame[:70], folder / f"part-0{suffix}")
        write(frame[70:], folder / f"part-1{suffix}")
        (folder / "_SUCCESS").touch()
        job = replace(request_, data=folder, out=tmp_path / f"out-{suffix[1:]}.parquet")
        with pytest.raises(Interrupted):
            score(model, job, track=interrupted_after(2))
        assert score(model, job).reused == 70, "chunks do not reach across files"
    score(model, request_)
    whole, parts = pl.read_parquet(request_.out), pl.read_parquet(tmp_path / "out-csv.parquet")
    assert_frame_equal(parts.drop("file", "line"), whole.drop("line"))
    assert_frame_equal(parts.drop("file", "line"), pl.read_parquet(tmp_path / "out-parquet.parquet").drop("file"))
    assert parts.select("file", "line").row(70) == ("part-1.csv", 2)


def test_a_row_that_cannot_be_answered_need_not_end_the_run(
    model: Model, request_: ScoreRequest, tmp_path: Path
) -> None:
    header, *lines = request_.data.read_text().splitlines()
    spoilt = {3: "high" + lines[3][lines[3].index(",") :], 60: "", 61: "1,2", 62: lines[62][lines[62].index(",") :]}
    (tmp_path / "rows.csv").write_text("\n".join([header, *(spoilt.get(i, line) for i, line in enumerate(lines))]))
    job = replace(request_, data=tmp_path / "rows.csv", on_error="skip")
    with pytest.raises(ServiceError, match=r"rows\.csv: line 5, column 'mean radius' is not a number"):
        score(model, replace(job, on_error="stop"))
    done = score(model, job)
    score(model, replace(request_, out=tmp_path / "whole.parquet"))
    answers, whole = pl.read_parquet(job.out), pl.read_parquet(tmp_path / "whole.parquet")
    assert (done.rows, done.skipped) == (len(lines), 4)
    assert answers["row"].to_list() == list(range(len(lines)))
    assert answers["line"].to_list() == list(range(2, 2 + len(lines)))
    assert {i: text for i, text in enumerate(answers["error"]) if text is not None} == {
        3: "column 'mean radius' is not a number; a missing value is an empty cell",
        60: "is blank; remove it, or write the row's separators",
        61: "has 2 cells, and the header names 31 columns",
        62: "column 'mean radius' has no value; the manifest can declare what a missing value means",
    }
    good = ~answers["row"].is_in(list(spoilt))
    assert_frame_equal(answers.filter(good).drop("error"), whole.filter(good))
    assert answers.filter(~good)["label"].null_count() == 4
    assert answers.filter(~good)["version"].null_count() == 0


def test_rows_that_the_model_refuses_are_skipped_too(toy: Callable[..., Repository], tmp_path: Path) -> None:
    repository = toy(2, "[features.f1]\nallowed = [-50.0, 50.0]\n")
    x = np.zeros((9000, 2))
    x[[0, 4095, 4096, 8999], 1] = 51.0
    x[100:160] = 99.0
    np.savez(tmp_path / "rows.npz", X=x)
    job = ScoreRequest(tmp_path / "rows.npz", tmp_path / "out.csv", on_error="skip")
    done = score(load_model(repository.draft("toy")), job)
    errors = pl.read_csv(job.out)["error"]
    assert (done.rows, done.skipped) == (9000, 64)
    assert errors.is_not_null().to_list() == (x[:, 1] > 50.0).tolist()
    assert errors[0] == "column 'f1' must lie between -50 and 50"


def test_a_chunk_of_which_no_row_can_be_answered_is_written(toy: Callable[..., Repository], tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("f0,f1\n" + "x,1\n" * 5 + "1,1\n" * 5)
    job = ScoreRequest(tmp_path / "rows.csv", tmp_path / "out.parquet", on_error="skip", chunk_rows=5)
    score(load_model(toy().draft("toy")), job)
    assert pl.read_parquet(job.out)["label"].is_null().to_list() == [True] * 5 + [False] * 5


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


@pytest.mark.parametrize("name", ["out.parquet", "_out.parquet", "deeper/out.parquet"])
def test_answers_are_not_written_among_the_parts_that_are_read(
    name: str, model: Model, request_: ScoreRequest, tmp_path: Path
) -> None:
    (tmp_path / "parts" / "deeper").mkdir(parents=True)
    with pytest.raises(DataError, match="lies inside the data"):
        score(model, replace(request_, data=tmp_path / "parts", out=tmp_path / "parts" / name))
    assert [path.name for path in (tmp_path / "parts").rglob("*")] == ["deeper"], "nothing was written"


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
    with pytest.raises(ServiceError, match=rf"row 120 \(rows count from 0\), column '{features[3]}' has no value"):
        score(model, replace(request_, data=tmp_path / "broken.parquet"))


def test_a_prevalence_a_policy_and_ids_are_as_requested(
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
    assert (moved["probabilities.malignant"] < plain["probabilities.malignant"]).all()


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

"""The folder of finished chunks: what is left, what is removed, and what is never mixed in."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from service.bundle.repository import Repository
from service.data.reader import Stretch
from service.errors import DataError
from service.runtime.model import Model, load_model
from service.scoring.finished_chunks import DataChanged, FinishedChunks
from service.scoring.score import answered, score
from service.scoring.score_request import ScoreRequest
from service.scoring.scored_chunks import ChunkScorer

MARK = "kept as it was"
Opened = tuple[ChunkScorer, FinishedChunks]


@pytest.fixture
def model(repository: Repository) -> Model:
    return load_model(repository.bundle("breast-cancer", 1))


@pytest.fixture
def request_(data_folder: Path, tmp_path: Path) -> ScoreRequest:
    """Two parts, of 70 and 73 rows."""
    frame, folder = pl.read_csv(data_folder / "test.csv"), tmp_path / "parts"
    folder.mkdir()
    frame[:70].write_parquet(folder / "a.parquet")
    frame[70:].write_parquet(folder / "b.parquet")
    return ScoreRequest(folder, tmp_path / "out.parquet", chunk_rows=30)


@pytest.fixture
def opened(model: Model, request_: ScoreRequest) -> Opened:
    """A run that has answered nothing yet."""
    scorer = ChunkScorer.of(model, request_)
    return scorer, FinishedChunks.open(model, request_, [])


def spans(finished: FinishedChunks) -> list[tuple[int, int, int]]:
    return [(span.part, span.start, span.stop) for span in finished.spans()]


def left(finished: FinishedChunks) -> list[tuple[int, int, int | None]]:
    return [(stretch.part, stretch.start, stretch.stop) for stretch in finished.left()]


def answer(opened: Opened, part: int, start: int, stop: int) -> None:
    """Answer rows of a part as one chunk."""
    scorer, finished = opened
    stretch = Stretch(part, finished.data.parts[part], start, stop, several=True)
    assert sum(answered(replace(scorer, request=replace(scorer.request, chunk_rows=100)), finished, stretch)) > 0


def interrupted(model: Model, request_: ScoreRequest) -> FinishedChunks:
    """A run whose last step failed: all chunks are there."""

    def engine(scorer: ChunkScorer, finished: FinishedChunks, track: object) -> None:
        del track
        for stretch in finished.left():
            for _ in answered(scorer, finished, stretch):
                pass
        kept.append(finished)
        raise KeyboardInterrupt

    kept: list[FinishedChunks] = []
    with pytest.raises(KeyboardInterrupt):
        score(model, request_, engine=engine)
    return kept[0]


def test_what_is_left_lies_between_the_chunks(opened: Opened) -> None:
    finished = opened[1]
    assert left(finished) == [(0, 0, 70), (1, 0, 73)]
    answer(opened, 0, 20, 40)
    answer(opened, 1, 0, 73)
    assert left(finished) == [(0, 0, 20), (0, 40, 70)]
    answer(opened, 0, 40, 70)
    answer(opened, 0, 0, 20)
    assert left(finished) == []


def test_a_worker_goes_on_behind_the_chunks_of_the_one_before_it(opened: Opened) -> None:
    stretch = opened[1].left()[0]
    assert opened[1].behind(stretch) == stretch
    answer(opened, 0, 0, 20)
    answer(opened, 0, 20, 30)
    answer(opened, 0, 40, 70)
    assert opened[1].behind(stretch) == replace(stretch, start=30)


def test_a_chunk_of_another_length_from_a_worker_that_outlived_its_run_is_removed(opened: Opened) -> None:
    answer(opened, 0, 0, 30)
    answer(opened, 0, 20, 50)
    answer(opened, 0, 50, 70)
    assert spans(opened[1]) == [(0, 0, 30), (0, 50, 70)]
    assert left(opened[1]) == [(0, 30, 50), (1, 0, 73)]


def test_a_gap_in_the_middle_is_filled_and_what_is_around_it_stays(model: Model, request_: ScoreRequest) -> None:
    whole = replace(request_, out=request_.out.with_name("whole.parquet"))
    score(model, whole)
    finished = interrupted(model, request_)
    for span in finished.spans():
        marked = pl.read_parquet(span.path).with_columns(label=pl.lit(MARK))
        marked.write_parquet(span.path)
    gone, damaged = finished.spans()[1], finished.spans()[3]
    gone.path.unlink()
    damaged.path.write_bytes(damaged.path.read_bytes()[:100])
    done = score(model, request_)
    answers, expected = pl.read_parquet(request_.out), pl.read_parquet(whole.out)
    fresh = (answers["label"] != MARK).to_numpy().nonzero()[0].tolist()
    assert fresh == [*range(30, 60), *range(70, 100)]
    assert (done.rows, done.reused) == (143, 83)
    assert answers.drop("label").equals(expected.drop("label"))


def test_a_file_is_not_written_while_a_chunk_is_missing(model: Model, request_: ScoreRequest) -> None:
    with pytest.raises(DataError, match=r"answers are missing in .*out\.parquet\.parts: run the same command again"):
        score(model, request_, engine=lambda *_: None)
    assert not request_.out.exists()
    assert score(model, request_).rows == 143


def changing(at: int, change: Callable[[], object]) -> Callable[[Iterable[int]], Iterable[int]]:
    """A change of the data before a chunk is read."""

    def track(starts: Iterable[int]) -> Iterable[int]:
        for i, start in enumerate(starts):
            if i == at:
                change()
            yield start

    return track


@pytest.mark.parametrize("at", [0, 1, 4, 5])
def test_a_part_that_vanishes_ends_the_run_as_a_change(at: int, model: Model, request_: ScoreRequest) -> None:
    gone = request_.data / "b.parquet"
    with pytest.raises(DataError, match="changed while it was read; nothing was written: score it again"):
        score(model, request_, track=changing(at, gone.unlink))
    assert not list(request_.out.parent.glob("out*"))


@pytest.mark.parametrize("content", ["", "more rows"])
def test_a_part_that_is_added_or_emptied_ends_the_run_as_a_change(
    content: str, model: Model, request_: ScoreRequest
) -> None:
    def change() -> None:
        (request_.data / "ab.parquet").write_bytes((request_.data / "a.parquet").read_bytes() if content else b"")

    with pytest.raises(DataError, match="changed while it was read"):
        score(model, request_, track=changing(2, change))
    assert not list(request_.out.parent.glob("out*"))


def test_parts_without_rows_are_read_over(model: Model, request_: ScoreRequest, tmp_path: Path) -> None:
    score(model, replace(request_, out=tmp_path / "whole.parquet"))
    none = pl.read_parquet(request_.data / "a.parquet").clear()
    for name in ("0.parquet", "aa.parquet", "c.parquet"):
        none.write_parquet(request_.data / name)
    assert score(model, request_).rows == 143
    assert pl.read_parquet(request_.out).equals(pl.read_parquet(tmp_path / "whole.parquet"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda part: part.write_bytes(b""), r"b\.parquet is empty: write a data set there"),
        (lambda part: part.write_bytes(part.read_bytes()[:90]), r"b\.parquet cannot be read: it is damaged"),
        (lambda part: pl.read_parquet(part).drop("mean area").write_parquet(part), r"b\.parquet .*'mean area'"),
    ],
)
def test_a_part_that_cannot_be_read_is_named_before_a_row_is_answered(
    damage: Callable[[Path], object], message: str, model: Model, request_: ScoreRequest
) -> None:
    damage(request_.data / "b.parquet")
    with pytest.raises(DataError, match=message) as error:
        score(model, request_, engine=lambda *_: pytest.fail("a row was answered"))
    assert "\n" not in str(error.value)


def test_a_part_with_other_types_is_refused_with_its_name(model: Model, request_: ScoreRequest) -> None:
    part = request_.data / "b.parquet"
    pl.read_parquet(part).with_columns(pl.col("mean area").cast(pl.String)).write_parquet(part)
    with pytest.raises(DataError, match=r"b\.parquet: column 'mean area' "):
        score(model, request_)


def test_a_chunk_looks_at_its_own_part_alone_however_many_there_are(opened: Opened) -> None:
    (opened[1].data.parts[1]).touch()
    answer(opened, 0, 0, 70)
    with pytest.raises(DataChanged):
        answer(opened, 1, 0, 73)


def test_many_hundred_parts_are_put_together_in_order(model: Model, request_: ScoreRequest, tmp_path: Path) -> None:
    rows = pl.read_parquet(request_.data / "a.parquet")
    many = replace(request_, data=tmp_path / "many", out=tmp_path / "many.csv")
    many.data.mkdir()
    for i in range(600):
        rows[i % 70 : i % 70 + 1].write_parquet(many.data / f"{i:04d}.parquet")
    assert score(model, many).rows == 600
    score(model, request_)
    answers = pl.read_csv(many.out)
    assert answers["row"].to_list() == list(range(600))
    assert answers["file"].to_list() == [f"{i:04d}.parquet" for i in range(600)]
    assert answers["label"].to_list() == [pl.read_parquet(request_.out)["label"][i % 70] for i in range(600)]

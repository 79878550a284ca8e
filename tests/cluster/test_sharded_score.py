"""Batch scoring by a Ray cluster of two nodes on this machine, and what a process of a node does, without Ray."""

import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from service.bundle.repository import Repository
from service.cluster.sharded_score import (
    MOST_ATTEMPTS,
    Job,
    RayEngine,
    answer_shard,
    as_table,
    check_answered,
    scorer_of,
    shards_of,
    stretches_of,
)
from service.errors import DataError, ServiceError, SettingsInvalid
from service.runtime.model import Model, load_model
from service.scoring.finished_chunks import FinishedChunks
from service.scoring.score import score
from service.scoring.score_request import ScoreRequest
from tests.cluster.ray_nodes import Nodes, head_node

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")  # it warns of its own defaults
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install 'temperance[ray]'")
NAME = "breast-cancer"
MARK = "kept as it was"


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with head_node() as started:
        started.add_the_second()
        yield started


@pytest.fixture
def model(repository: Repository) -> Iterator[Model]:
    yield load_model(repository.bundle(NAME, 1))
    scorer_of.cache_clear()


@pytest.fixture
def frame(data_folder: Path) -> pl.DataFrame:
    return pl.read_csv(data_folder / "test.csv")


@pytest.fixture
def request_(frame: pl.DataFrame, tmp_path: Path) -> ScoreRequest:
    """Three parts of 286, 30 and 113 rows."""
    folder = tmp_path / "parts"
    folder.mkdir()
    pl.concat([frame, frame]).write_parquet(folder / "a.parquet")
    frame[:30].write_parquet(folder / "b.parquet")
    frame[30:].write_parquet(folder / "c.parquet")
    return ScoreRequest(folder, tmp_path / "out.parquet", chunk_rows=60)


@pytest.fixture
def job(model: Model, request_: ScoreRequest) -> Job:
    return Job.of(model.bundle, FinishedChunks.open(model, request_, []))


def here(model: Model, request_: ScoreRequest, name: str = "here.parquet") -> pl.DataFrame:
    """The answers of one process."""
    request_ = replace(request_, out=request_.out.with_name(name))
    score(model, request_)
    return pl.read_parquet(request_.out)


def error_of(job: Job) -> str:
    """What a process of a node reports of the first shard."""
    (error,) = answer_shard(as_table(shards_of(job.finished)[0]), job)["error"]
    return str(error)


def in_process(scorer: Any, finished: FinishedChunks, track: object) -> None:
    """Ray's work without Ray: shard after shard, the last first."""
    del track
    job = Job.of(scorer.model.bundle, finished)
    for shard in reversed(shards_of(finished)):
        assert answer_shard(as_table(shard), job) == {"error": [""]}


# ---------------------------------------------------------------- without Ray


def test_an_error_of_any_shard_ends_the_run_and_so_does_a_shard_that_does_not_come_back() -> None:
    check_answered(iter(["", ""]), range(2))
    with pytest.raises(DataError, match="row 5"):
        check_answered(iter(["", "row 5"]), range(2))
    with pytest.raises(DataError, match="left out a part of the rows"):
        check_answered(iter([""]), range(2))


def test_shards_have_the_chunks_of_one_process_and_small_parts_are_put_together(job: Job) -> None:
    shards = [[(one.part, one.start, one.stop) for one in shard] for shard in shards_of(job.finished)]
    assert shards == [
        [(0, 0, 60)],
        [(0, 60, 120)],
        [(0, 120, 180)],
        [(0, 180, 240)],
        [(0, 240, 286), (1, 0, 30)],
        [(2, 0, 60)],
        [(2, 60, 113)],
    ]


def test_a_file_that_can_only_be_read_from_its_beginning_is_one_piece(
    model: Model, request_: ScoreRequest, frame: pl.DataFrame
) -> None:
    frame.write_csv(request_.data.with_name("rows.csv"))
    np.savez(request_.data.with_name("rows.npz"), X=frame.drop("y").to_numpy())
    for name, stop in (("rows.csv", None), ("rows.npz", 143)):
        asked = replace(request_, data=request_.data.with_name(name), out=request_.out.with_name(f"{name}.parquet"))
        (shard,) = shards_of(FinishedChunks.open(model, asked, []))
        assert [(one.start, one.stop) for one in shard] == [(0, stop)]
        score(model, asked, engine=in_process)
        assert pl.read_parquet(asked.out).equals(here(model, asked, f"here-{name}.parquet"))


def test_a_shard_survives_the_way_through_a_table(job: Job) -> None:
    for shard in shards_of(job.finished):
        assert stretches_of(pl.DataFrame(as_table(shard)).to_dict(as_series=False), job.finished) == shard


@pytest.mark.parametrize("on_error", ["stop", "skip"])
@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_shards_in_any_order_give_the_file_of_one_process(
    suffix: str, on_error: str, model: Model, request_: ScoreRequest, frame: pl.DataFrame
) -> None:
    if suffix == ".csv":
        for part in request_.data.iterdir():
            pl.read_parquet(part).write_csv(part.with_suffix(".csv"))
            part.unlink()
    if on_error == "skip":
        gap = pl.when(pl.int_range(pl.len()) == 7).then(None).otherwise(pl.col("mean area"))
        faulty = request_.data / f"d{suffix}"
        changed = frame.with_columns(gap.alias("mean area"))
        changed.write_csv(faulty) if suffix == ".csv" else changed.write_parquet(faulty)
    asked = replace(request_, on_error=on_error, id_column="mean radius")
    score(model, asked, engine=in_process)
    answers = pl.read_parquet(asked.out)
    assert answers.equals(here(model, asked))
    assert (on_error == "stop") or answers["error"].is_not_null().sum() == 1


def test_a_process_that_repeats_a_shard_does_not_answer_it_again(job: Job) -> None:
    shard = as_table(shards_of(job.finished)[0])
    assert answer_shard(shard, job) == {"error": [""]}
    (span,) = job.finished.spans()
    state = span.path.stat()
    assert answer_shard(shard, job) == {"error": [""]}
    assert span.path.stat() == state


def test_a_shard_whose_processes_always_die_ends_the_run(job: Job) -> None:
    file = job.finished.folder / "000000-000000000000000.attempts"
    file.write_bytes(b"." * MOST_ATTEMPTS)
    assert "5 processes died, one after another, at" in error_of(job)
    assert "from row 0 on (rows count from 0): the memory of a node may be too small" in error_of(job)


def test_a_node_with_another_version_is_refused(job: Job) -> None:
    message = error_of(replace(job, digest="sha256:0"))
    assert "has another breast-cancer version 1 in" in message
    assert message.endswith("copy the version there anew")


def test_a_node_without_the_version_is_refused(job: Job, tmp_path: Path) -> None:
    message = error_of(replace(job, root=tmp_path / "nowhere"))
    assert message.startswith("node ")
    assert "cannot use breast-cancer version 1: " in message


def test_a_node_with_another_release_is_refused(job: Job) -> None:
    assert "this command is 0.0.0: install the same" in error_of(replace(job, service="0.0.0"))


def test_a_node_that_does_not_see_the_answers_or_the_data_is_refused(job: Job, request_: ScoreRequest) -> None:
    other = replace(job.finished, request=replace(job.finished.request, out=request_.out.with_name("other.parquet")))
    assert "other.parquet.parts: every node needs the" in error_of(replace(job, finished=other))
    stats = ((1, 1), *job.finished.data.stats[1:])
    moved = replace(job.finished, data=replace(job.finished.data, stats=stats))
    assert "a.parquet with the size and time that it has here" in error_of(replace(job, finished=moved))


def test_a_draft_has_nothing_that_nodes_could_compare(toy: Callable[..., Repository], request_: ScoreRequest) -> None:
    (request_.data.parent / "rows.csv").write_text("f0,f1\n1,1\n")
    draft, asked = load_model(toy().draft("toy")), replace(request_, data=request_.data.parent / "rows.csv")
    with pytest.raises(DataError, match="toy draft has no digest that nodes could compare: publish it first"):
        score(draft, asked, engine=RayEngine())


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:1", "the Ray cluster at 127.0.0.1:1 cannot be reached: Connection refused"),
        ("no-such-host.invalid:6379", "the Ray cluster at no-such-host.invalid:6379 cannot be reached: "),
        ("ray://127.0.0.1:10001", "ray://127.0.0.1:10001 is not the head of a Ray cluster: HOST:PORT, from a machine"),
        ("10.0.0.1", "10.0.0.1 is not the head of a Ray cluster: HOST:PORT"),
    ],
)
@needs_ray
def test_a_cluster_that_is_not_there_is_refused_at_once(
    address: str, words: str, model: Model, request_: ScoreRequest
) -> None:
    with pytest.raises(SettingsInvalid) as error:
        score(model, request_, engine=RayEngine(address))
    assert str(error.value).startswith(words)


# ---------------------------------------------------------------- with Ray


@needs_ray
def test_two_nodes_write_the_file_of_one_process(nodes: Nodes, model: Model, request_: ScoreRequest) -> None:
    done = score(model, request_, engine=RayEngine(nodes.address))
    assert (done.rows, done.reused) == (429, 0)
    assert pl.read_parquet(request_.out).equals(here(model, request_))
    assert not request_.out.with_name("out.parquet.parts").exists()


@pytest.mark.long
@needs_ray
def test_the_first_row_at_fault_is_named_as_one_process_names_it(
    nodes: Nodes, model: Model, request_: ScoreRequest
) -> None:
    for part in ("b", "c"):
        gap = pl.when(pl.int_range(pl.len()) == 20).then(None).otherwise(pl.col("mean area")).alias("mean area")
        pl.read_parquet(request_.data / f"{part}.parquet").with_columns(gap).write_parquet(
            request_.data / f"{part}.parquet"
        )
    with pytest.raises(ServiceError, match=r"b\.parquet: row 20 .*'mean area'") as expected:
        score(model, replace(request_, out=request_.out.with_name("here.parquet")))
    with pytest.raises(DataError) as error:
        score(model, request_, engine=RayEngine(nodes.address))
    assert str(error.value) == str(expected.value)


@pytest.mark.long
@needs_ray
def test_nodes_with_another_version_than_the_command_are_refused(
    nodes: Nodes, model: Model, request_: ScoreRequest
) -> None:
    other = replace(model, bundle=replace(model.bundle, digest="sha256:of-another-version"))
    with pytest.raises(DataError, match=r"has another breast-cancer version 1 in .*: copy the version there anew"):
        score(other, request_, engine=RayEngine(nodes.address))
    assert not request_.out.exists()


def chunks(request_: ScoreRequest) -> list[Path]:
    return sorted(request_.out.with_name(f"{request_.out.name}.parts").glob("*.parquet"))


def wait_for(condition: Callable[[], bool], process: Any) -> None:
    """Until something happened in a process that works."""
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def mark(request_: ScoreRequest) -> dict[str, int]:
    """Change the label in chunks that are finished, so that they are known again; their rows."""
    marked = {}
    for path in chunks(request_):
        frame, aside = pl.read_parquet(path), path.with_suffix(".marking")
        frame.with_columns(label=pl.lit(MARK)).write_parquet(aside)
        aside.replace(path)
        marked[path.name] = len(frame)
    return marked


@needs_ray
def test_what_is_finished_survives_the_command_a_process_and_a_node(
    nodes: Nodes, model: Model, request_: ScoreRequest, repository: Repository
) -> None:
    small = replace(request_, chunk_rows=2)
    line = ("score", NAME, "--models", repository.root, "--data", small.data, "--out", small.out, "--chunk-rows", 2)
    with nodes.command(*line) as first:
        wait_for(lambda: len(chunks(small)) > 4, first)
        first.kill()
    kept = mark(small)
    with nodes.command(*line) as second:
        wait_for(lambda: len(chunks(small)) > len(kept) + 8, second)
        wait_for(nodes.lose_a_process, second)
        nodes.lose_the_second()
        wait_for(lambda: len(chunks(small)) > len(kept) + 20, second)
        second.send_signal(signal.SIGSTOP)  # it does not put the file together meanwhile
        kept |= mark(small)
        second.send_signal(signal.SIGCONT)
        out, err = second.communicate()
    assert second.returncode == 0, err
    answers = pl.read_parquet(small.out)
    assert out.startswith(f"Wrote {small.out}: 429 rows, ")
    assert answers.drop("label").equals(here(model, small).drop("label"))
    assert (answers["label"] == MARK).sum() == sum(kept.values())

"""`score --engine ray`: chunks of a data set are answered by the processes of a Ray cluster, by way of Ray Data.

Ray places the work and repeats what a dead process or node leaves. Rows and answers do not travel through it: every
process reads its rows from the shared folder and writes its chunks there, by the function that one process uses.

Tested in tests/cluster/test_sharded_score.py.
"""

import logging
import socket
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, redirect_stdout
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import polars as pl

from service.bundle.repository import Bundle, Repository
from service.cluster.connection import connected
from service.data.reader import Stretch
from service.errors import BundleError, DataError, ServiceError
from service.prediction.bulk import Track
from service.runtime.model import load_model
from service.scoring.finished_chunks import FinishedChunks
from service.scoring.score import answered
from service.scoring.scored_chunks import ChunkScorer

MOST_ATTEMPTS: Final = 5
"""At a shard whose process dies, until the run ends: a dead node is one, rows that fill the memory are many."""
_MISSING: Final = "the Ray cluster left out a part of the rows; what is finished is kept, run the same command again"
PROCESS: Final = {"POLARS_MAX_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
"""Variables of a process that answers: it has one processor, as Ray counts them."""
Table = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Job:
    """What a process of another machine needs to know.

    Attributes
    ----------
    root : Path
        The model repository.
    name, digest, service : str
        The model, the version's digest, and the version of this package.
    version : int
    finished : FinishedChunks
    """

    root: Path
    name: str
    version: int
    digest: str | None
    finished: FinishedChunks
    service: str

    @classmethod
    def of(cls, bundle: Bundle, finished: FinishedChunks) -> "Job":
        """The same under absolute paths: a process of another machine has another working directory."""
        if bundle.version is None:
            raise DataError(f"{bundle.title} has no digest that nodes could compare: publish it first")
        request, data = finished.request, finished.data
        request = replace(request, data=request.data.absolute(), out=request.out.absolute())
        data = replace(data, path=request.data, parts=tuple(part.absolute() for part in data.parts))
        root = bundle.path.parent.parent.absolute()
        known = FinishedChunks(request, data, finished.job)
        return cls(root, bundle.name, bundle.version, bundle.digest, known, version("temperance"))


@dataclass(frozen=True, slots=True)
class RayEngine:
    """An engine of `service.scoring.score.score`.

    Attributes
    ----------
    address : str or None
        Of the cluster's head; None: a cluster on this machine that ends with the run.
    parallel : int or None
        Processes at a time; None: as many as the cluster has processors.
    """

    address: str | None = None
    parallel: int | None = None

    def __call__(self, scorer: ChunkScorer, finished: FinishedChunks, track: Track) -> None:
        """Answer what is left.

        Raises
        ------
        SettingsInvalid
            If Ray is not installed, or the cluster cannot be reached.
        DataError
            As one process does, for the first row at fault; if a node lacks the data, the folder of the answers or
            the version, or has another; if processes die again and again.
        """
        job, shards = Job.of(scorer.model.bundle, finished), shards_of(finished)
        if not shards:
            return
        for file in finished.folder.glob("*.attempts"):
            file.unlink()
        with (
            redirect_stdout(sys.stderr),  # where Ray says that a node died; the command's own output stays a program's
            connected(self.address, log_to_driver=False, logging_level=logging.CRITICAL),
            closing(self._errors(job, shards)) as errors,
        ):
            check_answered(errors, track(range(len(shards))))

    def _errors(self, job: Job, shards: Sequence[Sequence[Stretch]]) -> Generator[str]:
        """Of every shard, in order, the error that ended it; empty where none did."""
        import ray.data  # noqa: PLC0415  # Ray reads its variables when it is imported

        _quieten(ray.data.DataContext.get_current())
        answers = ray.data.from_arrow([pl.DataFrame(as_table(shard)).to_arrow() for shard in shards]).map_batches(
            partial(answer_shard, job=job),
            batch_size=None,
            concurrency=self.parallel,
            num_cpus=1,
            runtime_env={"env_vars": PROCESS},
        )
        try:
            for answer in answers.iter_rows():
                yield answer["error"]
        except ray.exceptions.RayError as error:
            raise DataError(_failed(error)) from error


def check_answered(errors: Iterator[str], shards: Iterable[int]) -> None:
    """Raise DataError for the first error, or where fewer shards come back than were given out."""
    for _ in shards:
        if error := next(errors, _MISSING):
            raise DataError(error)


def answer_shard(table: Table, job: Job) -> Table:
    """Answer a shard, in a process of any node; an error is a value, so that its words arrive as they are."""
    try:
        stretches, scorer = stretches_of(table, job.finished), scorer_of(job)
        _begin(job, stretches[0])
        for stretch in stretches:
            _check_part(job, stretch)
            for _ in answered(scorer, job.finished, job.finished.behind(stretch)):
                pass
    except (ServiceError, OSError) as error:
        return {"error": [str(error)]}
    return {"error": [""]}


@lru_cache(maxsize=1)
def scorer_of(job: Job) -> ChunkScorer:
    """The model, loaded once in a process: its digest is compared, and it passes its self-test here.

    Raises
    ------
    DataError
        If this node is not fit for the job.
    """
    _check_place(job)
    try:
        bundle = Repository(job.root).bundle(job.name, job.version)
        if bundle.digest != job.digest:
            raise DataError(f"{_node()} has another {bundle.title} in {job.root}: copy the version there anew")
        return ChunkScorer.of(load_model(bundle), job.finished.request)
    except (BundleError, OSError) as error:
        raise DataError(f"{_node()} cannot use {job.name} version {job.version}: {error}") from None


def shards_of(finished: FinishedChunks) -> list[list[Stretch]]:
    """What is left, in shards of about a chunk: small parts together, large ones cut as one process cuts them."""
    rows = finished.request.chunk_rows
    pieces = [piece for stretch in finished.left() for piece in _cut(stretch, rows)]
    full, shard_of = 0, []
    for piece in pieces:
        shard_of.append(full // rows)
        full += rows if piece.stop is None else piece.stop - piece.start
    return [[piece for _, piece in group] for _, group in groupby(zip(shard_of, pieces, strict=True), lambda p: p[0])]


def as_table(shard: Sequence[Stretch]) -> dict[str, list[int | None]]:
    """A shard as the columns of a table, one line per stretch."""
    return {
        "part": [stretch.part for stretch in shard],
        "start": [stretch.start for stretch in shard],
        "stop": [-1 if stretch.stop is None else stretch.stop for stretch in shard],
    }


def stretches_of(table: Table, finished: FinishedChunks) -> list[Stretch]:
    """The shard back from its table."""
    parts = finished.data.parts
    lines = zip(*(map(int, table[name]) for name in ("part", "start", "stop")), strict=True)
    return [
        Stretch(part, parts[part], start, None if stop < 0 else stop, several=len(parts) > 1)
        for part, start, stop in lines
    ]


def _quieten(context: Any) -> None:
    """No output of Ray Data's own; results in order, so that the first error is that of the first rows."""
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    for handler in logging.getLogger("ray.data").handlers:
        handler.setLevel(logging.CRITICAL)


def _check_place(job: Job) -> None:
    shared = "every node needs the data, the answers' folder and the models under the same paths, in a shared folder"
    if job.service != (here := version("temperance")):
        raise DataError(f"{_node()} has temperance {here}, and this command is {job.service}: install the same")
    if not job.finished.is_seen():
        raise DataError(f"{_node()} does not see {job.finished.folder}: {shared}")


def _begin(job: Job, first: Stretch) -> None:
    """Count an attempt, beside the chunks: Ray repeats what a process left that died, without end."""
    with job.finished.folder.joinpath(f"{first.part:06d}-{first.start:015d}.attempts").open("ab") as file:
        file.write(b".")
        attempts = file.tell()
    if attempts > MOST_ATTEMPTS:
        raise DataError(
            f"{MOST_ATTEMPTS} processes died, one after another, at {first.path} from row {first.start} on (rows count "
            "from 0): the memory of a node may be too small; lower --chunk-rows or --parallel"
        )


def _check_part(job: Job, stretch: Stretch) -> None:
    if not job.finished.data.is_same(stretch.part):
        raise DataError(
            f"{_node()} does not see {stretch.path} with the size and time that it has here: every node needs the same "
            "files under the same paths, in a shared folder"
        )


def _failed(error: Exception) -> str:
    """What ended the run that is no error of ours, in one line: the last of Ray's, which names the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return f"the Ray cluster failed: {lines[-1][:300]}; what is finished is kept, run the same command again"


def _node() -> str:
    return f"node {socket.gethostname()}"


def _cut(stretch: Stretch, rows: int) -> Iterable[Stretch]:
    if stretch.stop is None or stretch.path.suffix.lower() != ".parquet":  # others are read from their beginning on
        return [stretch]
    starts = range(stretch.start, stretch.stop, rows)
    return [replace(stretch, start=start, stop=min(start + rows, stretch.stop)) for start in starts]

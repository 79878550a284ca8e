"""Chunks of a run that are done, beside the file that they will make: they survive an interruption.

A chunk is a file under the place of its part and of its first row in it. Every process that scores it writes the same
file, at once, on any machine and as often as it likes; so these files are the whole record of what is done.

Tested in tests/scoring/test_score.py and tests/scoring/test_finished_chunks.py.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby
from operator import attrgetter
from pathlib import Path
from typing import Final, Self
from uuid import uuid4

import polars as pl

from service.data.formats import digest_of, parts_of
from service.data.reader import Stretch, ended
from service.errors import DataError
from service.runtime.model import Model
from service.scoring.score_request import ScoreRequest, ScoreResult

JOB_FILE: Final = "job.json"
CHUNK_FILE: Final = re.compile(r"(\d{6,})-(\d{15})\.parquet")
Stats = tuple[int, int]


@dataclass(frozen=True, slots=True)
class DataState:
    """A data set as it was when the run began.

    Attributes
    ----------
    path : Path
    digest : str
    parts : tuple of Path
        Its files in order.
    stats : tuple of (int, int)
        Size and time of change of every file.
    """

    path: Path
    digest: str
    parts: tuple[Path, ...]
    stats: tuple[Stats, ...]

    @classmethod
    def of(cls, path: Path) -> Self:
        """The state now; DataError for no data set."""
        parts = parts_of(path)
        return cls(path, digest_of(path), parts, tuple(map(_stats, parts)))

    def is_same(self, part: int) -> bool:
        """Whether a file is as it was, at a glance; never, if it cannot be seen."""
        try:
            return _stats(self.parts[part]) == self.stats[part]
        except OSError:
            return False

    def looks_changed(self) -> bool:
        """At a glance: files, sizes and times."""
        try:
            return parts_of(self.path) != self.parts or not all(map(self.is_same, range(len(self.parts))))
        except (DataError, OSError):
            return True

    def is_changed(self) -> bool:
        """For certain, by its bytes."""
        try:
            return digest_of(self.path) != self.digest
        except (DataError, OSError):
            return True


class DataChanged(DataError):
    """The data is not what it was when the run began."""


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A finished chunk: rows of a part from the first to before the last, and its file."""

    part: int
    start: int
    stop: int
    path: Path


@dataclass(frozen=True, slots=True)
class FinishedChunks:
    """The directory with the finished chunks of a run.

    Attributes
    ----------
    request : ScoreRequest
    data : DataState
    job : str
        What makes two runs the same, as JSON.
    """

    request: ScoreRequest
    data: DataState
    job: str

    @classmethod
    def open(cls, model: Model, request: ScoreRequest, columns: Sequence[str]) -> Self:
        """Make the directory, or take up that of an interrupted run of the same job.

        Raises
        ------
        DataError
            If the answers are there already, or the directory belongs to another job.
        """
        data = DataState.of(request.data)
        opened = cls(request, data, json.dumps(_job(model, request, data, columns), indent=2))
        folder = opened.folder
        if request.out.exists():
            raise DataError(f"{request.out} exists; remove it, or choose another file")
        if not any(folder.glob("*.parquet")):  # what was refused before its first part leaves nothing to mix up
            folder.mkdir(exist_ok=True)
            (folder / JOB_FILE).write_text(opened.job, encoding="utf-8")
        elif not opened.is_seen():
            raise DataError(
                f"{folder} holds the answers of another job (other data, version or options); remove it to start anew"
            )
        return opened

    @property
    def folder(self) -> Path:
        """Where the chunks lie."""
        return self.request.out.with_name(f"{self.request.out.name}.parts")

    def is_seen(self) -> bool:
        """Whether the directory is there, and is this job's."""
        file = self.folder / JOB_FILE
        return file.is_file() and file.read_text(encoding="utf-8") == self.job

    def spans(self) -> list[Span]:
        """The finished chunks in order; one that is damaged or overlaps is removed."""
        spans: list[Span] = []
        for found in sorted(self._found()):
            if spans and found.part == spans[-1].part and found.start < spans[-1].stop:
                found.path.unlink()  # chunks of another length, from a worker that outlived its run
            else:
                spans.append(found)
        return spans

    def left(self) -> list[Stretch]:
        """What is not answered yet, in order."""
        spans, several = by_part(self.spans()), len(self.data.parts) > 1
        parts = [ended(Stretch(place, part, several=several)) for place, part in enumerate(self.data.parts)]
        return [gap for part in parts for gap in _gaps(part, spans.get(part.part, []))]

    def behind(self, stretch: Stretch) -> Stretch:
        """A stretch without the chunks at its beginning that are finished; no other file is looked at."""
        start = stretch.start
        while rows := _height(self._file(stretch.part, start)):
            start += rows
        return replace(stretch, start=start)

    def put(self, frame: pl.DataFrame, *, part: int, first: int) -> None:
        """Keep the answers of a chunk; DataChanged if its part changed meanwhile."""
        if not self.data.is_same(part):
            raise self.changed()
        aside = self.folder / f"{uuid4().hex}.writing"  # two may write the same chunk: one of them is given up already
        frame.with_columns(part=pl.lit(part, dtype=pl.Int64())).write_parquet(aside)
        aside.replace(self._file(part, first))

    def finish(self, *, reused: int) -> ScoreResult:
        """Write the file, and remove the directory; DataChanged if the data changed meanwhile."""
        if self.data.is_changed():
            raise self.changed()
        request, aside = self.request, self.folder / f"{self.request.out.name}.writing"
        frame = self._whole()
        failed = pl.col("error").is_not_null().sum() if request.on_error == "skip" else pl.lit(0)
        rows, skipped = frame.select(pl.len(), failed.alias("skipped")).collect().row(0)
        WRITERS[request.out.suffix.lower()](frame, aside)
        aside.replace(request.out)
        self.discard()
        return ScoreResult(rows, reused, skipped)

    def discard(self) -> None:
        """Remove the directory; what others still write there is theirs to lose."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def changed(self) -> DataChanged:
        """The error; it is unknown then which of the answers belong to which of the rows."""
        return DataChanged(f"{self.request.data} changed while it was read; nothing was written: score it again")

    def _file(self, part: int, first: int) -> Path:
        return self.folder / f"{part:06d}-{first:015d}.parquet"

    def _found(self) -> Iterator[Span]:
        for path in self.folder.glob("*.parquet"):
            if (name := CHUNK_FILE.fullmatch(path.name)) is None:
                continue
            rows, first = _height(path), int(name[2])
            if rows is None:
                path.unlink()
            else:
                yield Span(int(name[1]), first, first + rows, path)

    def _whole(self) -> pl.LazyFrame:
        """All answers in order, their rows numbered through; DataError if some are missing in between."""
        if any(gap.stop is not None for gap in self.left()):
            raise DataError(f"answers are missing in {self.folder}: run the same command again, it goes on there")
        spans = self.spans()
        ends = {part: own[-1].stop for part, own in by_part(spans).items()}
        firsts = dict(zip(ends, accumulate(ends.values(), initial=0), strict=False))
        moved = pl.col("row") + pl.col("part").replace_strict(firsts, return_dtype=pl.Int64())
        # One scan: of a thousand scans put together, polars has a thread each.
        return pl.scan_parquet([span.path for span in spans], glob=False).with_columns(row=moved).drop("part")


def check_out(out: Path) -> None:
    """Raise DataError for a place where no answers can be written."""
    if out.suffix.lower() not in WRITERS:
        raise DataError(f"{out}: answers are written as one of {', '.join(WRITERS)}")
    if not out.parent.is_dir():
        raise DataError(f"{out.parent} is not a directory")


def by_part(spans: Sequence[Span]) -> dict[int, list[Span]]:
    """Chunks under the place of their part, in order."""
    return {part: list(own) for part, own in groupby(sorted(spans), key=attrgetter("part"))}


def _gaps(stretch: Stretch, spans: Sequence[Span]) -> Iterator[Stretch]:
    """What of a stretch no chunk of its part covers."""
    start = stretch.start
    for span in spans:
        if stretch.stop is not None and span.start >= stretch.stop:
            break
        if span.start > start:
            yield replace(stretch, start=start, stop=span.start)
        start = max(start, span.stop)
    if stretch.stop is None or start < stretch.stop:
        yield replace(stretch, start=start)


def _stats(path: Path) -> Stats:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _job(model: Model, request: ScoreRequest, data: DataState, columns: Sequence[str]) -> dict[str, object]:
    """What makes two runs the same: never a path, because another file may have the name."""
    return {
        "model": model.name,
        "version": model.version,
        "digest": model.bundle.digest,
        "data": data.digest,
        "policy": request.policy,
        "site": request.site,
        "id_column": request.id_column,
        "on_error": request.on_error,
        "columns": list(columns),
    }


def _height(path: Path) -> int | None:
    try:
        rows: int = pl.scan_parquet(path, glob=False).select(pl.len()).collect().item()
    except (pl.exceptions.PolarsError, OSError):
        return None
    return rows


WRITERS: Final[dict[str, Callable[[pl.LazyFrame, Path], None]]] = {
    ".parquet": lambda frame, path: frame.sink_parquet(path),
    ".csv": lambda frame, path: frame.sink_csv(path),
}

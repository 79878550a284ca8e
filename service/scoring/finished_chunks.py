"""Chunks of a run that are done, beside the file that they will make: they survive an interruption.

Tested in tests/scoring/test_score.py.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from service.data.formats import digest_of, parts_of
from service.errors import DataError
from service.runtime.model import Model
from service.scoring.score_request import ScoreRequest, ScoreResult

JOB_FILE: Final = "job.json"


@dataclass(frozen=True, slots=True)
class DataState:
    """A data set as it was when the run began.

    Attributes
    ----------
    path : Path
    digest : str
    stats : tuple of (int, int, int)
        Size, time of change and inode of every file.
    """

    path: Path
    digest: str
    stats: tuple[tuple[int, int, int], ...]

    @classmethod
    def of(cls, path: Path) -> "DataState":
        """The state now."""
        stats = _stats(path)
        return cls(path, digest_of(path), stats)

    def looks_changed(self) -> bool:
        """At a glance: sizes, times and the files themselves."""
        return _stats(self.path) != self.stats

    def is_changed(self) -> bool:
        """For certain, by its bytes."""
        return digest_of(self.path) != self.digest


@dataclass(frozen=True, slots=True)
class FinishedChunks:
    """The directory with the finished chunks of a run.

    Attributes
    ----------
    request : ScoreRequest
    data : DataState
    folder : Path
    """

    request: ScoreRequest
    data: DataState
    folder: Path

    @classmethod
    def open(cls, model: Model, request: ScoreRequest, columns: Sequence[str]) -> "FinishedChunks":
        """Make the directory, or take up that of an interrupted run of the same job.

        Raises
        ------
        DataError
            If the answers are there already, or the directory belongs to another job.
        """
        data, folder = DataState.of(request.data), request.out.with_name(f"{request.out.name}.parts")
        job = json.dumps(_job(model, request, data, columns), indent=2)
        if request.out.exists():
            raise DataError(f"{request.out} exists; remove it, or choose another file")
        if not any(folder.glob("*.parquet")):  # what was refused before its first part leaves nothing to mix up
            folder.mkdir(exist_ok=True)
            (folder / JOB_FILE).write_text(job, encoding="utf-8")
        elif not (folder / JOB_FILE).is_file() or (folder / JOB_FILE).read_text(encoding="utf-8") != job:
            raise DataError(
                f"{folder} holds the answers of another job (other data, version or options); remove it to start anew"
            )
        return cls(request, data, folder)

    def done(self) -> int:
        """Rows from the first on that are answered; what comes after a gap, or is damaged, is removed."""
        rows = 0
        for path in sorted(self.folder.glob("*.parquet")):
            height = _height(path) if int(path.stem) == rows else None
            if height is None:
                path.unlink()
            else:
                rows += height
        return rows

    def put(self, frame: pl.DataFrame, *, first: int) -> None:
        """Keep the answers of a chunk; DataError if the data changed meanwhile."""
        if self.data.looks_changed():
            raise self._changed()
        aside = self.folder / f"{first:015d}.writing"
        frame.write_parquet(aside)
        aside.replace(aside.with_suffix(".parquet"))

    def finish(self, *, reused: int) -> ScoreResult:
        """Write the file, and remove the directory; DataError if the data changed meanwhile."""
        if self.data.is_changed():
            raise self._changed()
        request, aside = self.request, self.folder / f"{self.request.out.name}.writing"
        frame = pl.scan_parquet(sorted(self.folder.glob("*.parquet")), glob=False)
        failed = pl.col("error").is_not_null().sum() if request.on_error == "skip" else pl.lit(0)
        rows, skipped = frame.select(pl.len(), failed.alias("skipped")).collect().row(0)
        WRITERS[request.out.suffix.lower()](frame, aside)
        aside.replace(request.out)
        shutil.rmtree(self.folder)
        return ScoreResult(rows, reused, skipped)

    def _changed(self) -> DataError:
        shutil.rmtree(self.folder)  # it is unknown which of the answers belong to which of the rows
        return DataError(f"{self.request.data} changed while it was read; nothing was written: score it again")


def check_out(out: Path) -> None:
    """Raise DataError for a place where no answers can be written."""
    if out.suffix.lower() not in WRITERS:
        raise DataError(f"{out}: answers are written as one of {', '.join(WRITERS)}")
    if not out.parent.is_dir():
        raise DataError(f"{out.parent} is not a directory")


def _stats(path: Path) -> tuple[tuple[int, int, int], ...]:
    found = [part.stat() for part in parts_of(path)]
    return tuple((stat.st_size, stat.st_mtime_ns, stat.st_ino) for stat in found)


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

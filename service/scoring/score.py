"""Batch scoring: a data set of any size in, one answer per row out, in chunks that survive an interruption."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from service.core.decision import REASONS
from service.core.numerics import Array, Flags
from service.core.pipeline import Policy, Posterior, act, at_prevalence
from service.data.column_roles import Selection
from service.data.formats import digest_of, parts_of
from service.data.reader import Chunk, bound_of, read_chunks
from service.errors import DataError, InvalidInstances, ModelOutputInvalid
from service.prediction.bulk import Track, posterior_of, untracked
from service.prediction.options import Options, choose_policy, choose_target
from service.runtime.model import Model

JOB_FILE = "job.json"
ON_ERROR: Final = ("stop", "skip")


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """What to score, and where the answers go.

    Attributes
    ----------
    data, out : Path
        CSV, Parquet or NPZ, or a directory of parts, in; CSV or Parquet out.
    policy : str or None
        A policy of the manifest; None means its default, or no decisions where it has none.
    site : str or None
    id_column : str or None
        A column that is copied to the answers, as text.
    chunk_rows : int
        Rows in memory at a time.
    on_error : str
        What a row does that cannot be answered: ``stop`` ends the run; ``skip`` leaves its answers null and says the
        reason in a column `error`.
    """

    data: Path
    out: Path
    policy: str | None = None
    site: str | None = None
    id_column: str | None = None
    chunk_rows: int = 65_536
    on_error: str = "stop"


@dataclass(frozen=True, slots=True)
class Scored:
    """What was done; ``reused`` rows were scored by a run that had been interrupted, ``skipped`` have no answer."""

    rows: int
    reused: int
    skipped: int = 0


def score(model: Model, request: ScoreRequest, *, track: Track = untracked) -> Scored:
    """Answer every row of a data set.

    Chunks are written beside ``out`` as they are done, each at once; the same call after an interruption goes on where
    it ended. The same means the same bytes of data, the same version and the same options. ``out`` appears when it is
    complete.

    Parameters
    ----------
    model : Model
    request : ScoreRequest
    track : callable
        Progress over the chunks.

    Raises
    ------
    DataError
        If the data has no rows or does not fit the model, with the row's place in the file; if ``out`` cannot be
        written to; if the parts beside it belong to another job; or if the data changes while it is read.
    InvalidParameters
        If the manifest has no such policy or site.
    """
    if model.task != "multiclass":
        raise DataError(f"score writes one class a row; a {model.task} model answers over HTTP, and to `evaluate`")
    write = _writer(request.out)
    if request.data.is_dir() and request.out.parent.resolve().is_relative_to(request.data.resolve()):
        raise DataError(
            f"{request.out} lies inside the data {request.data}, and would be read as a part: write elsewhere"
        )
    judge = _Judge.of(model, request)
    data = _Data.of(request.data)
    _refuse_unreadable(judge)
    parts = _open_parts(model, request, data)
    first = _done(parts)
    for chunk in _tracked(judge, first, track):
        frame = judge.answers(chunk)
        if data.looks_changed():
            raise _changed(request, parts)
        _put(frame, parts / f"{chunk.first:015d}.parquet")
    return _finish(request, parts, data, write, reused=first)


@dataclass(frozen=True, slots=True)
class _Data:
    """A data set as it was when the run began."""

    path: Path
    digest: str
    stats: tuple[tuple[int, int, int], ...]

    @classmethod
    def of(cls, path: Path) -> "_Data":
        stats = _stats(path)
        return cls(path, digest_of(path), stats)

    def looks_changed(self) -> bool:
        """At a glance: sizes, times and the files themselves."""
        return _stats(self.path) != self.stats

    def is_changed(self) -> bool:
        """For certain, by its bytes."""
        return digest_of(self.path) != self.digest


def _stats(path: Path) -> tuple[tuple[int, int, int], ...]:
    found = [part.stat() for part in parts_of(path)]
    return tuple((stat.st_size, stat.st_mtime_ns, stat.st_ino) for stat in found)


def _changed(request: ScoreRequest, parts: Path) -> DataError:
    shutil.rmtree(parts)  # nobody can say which of the answers speak of which rows
    return DataError(f"{request.data} changed while it was read; nothing was written: score it again")


def _refuse_unreadable(judge: "_Judge") -> None:
    """Raise DataError for a data set that lacks rows or columns, before anything is written."""
    if next(read_chunks(judge.request.data, judge.model.manifest, judge.selection, rows=1), None) is None:
        raise DataError(f"{judge.request.data} has no rows")


def _tracked(judge: "_Judge", first: int, track: Track) -> Iterator[Chunk]:
    """Chunks from a row on; a file of text tells how many there are only when it ends."""
    request = judge.request
    chunks = read_chunks(request.data, judge.model.manifest, judge.selection, rows=request.chunk_rows, first=first)
    chunk = next(chunks, None)
    for _ in track(range(first, bound_of(request.data), request.chunk_rows)):
        if chunk is None:
            return
        yield chunk
        chunk = next(chunks, None)
    if chunk is not None:
        yield chunk
    yield from chunks


@dataclass(frozen=True, slots=True)
class _Judge:
    model: Model
    request: ScoreRequest
    policy: Policy | None
    target: Array | None

    @classmethod
    def of(cls, model: Model, request: ScoreRequest) -> "_Judge":
        wanted = request.policy or model.manifest.default_policy
        policy = None if wanted is None else choose_policy(model, wanted)
        return cls(model, request, policy, choose_target(model, Options("score", site=request.site)))

    @property
    def selection(self) -> Selection:
        """What is read of the data."""
        return Selection(self.model.inputs, id_column=self.request.id_column)

    def answers(self, chunk: Chunk) -> pl.DataFrame:
        """An answer for every row of a chunk, or the reason why there is none."""
        if self.request.on_error == "stop":
            chunk.refuse_faults()
            answered = self._judged(posterior_of(self.model, chunk.rows, place=chunk.places.where))
            return pl.concat([self._places(chunk), answered], how="horizontal").with_columns(**self._identity())
        reasons = {row: detail.removeprefix(", ").strip() for row, detail in sorted(chunk.faults, reverse=True)}
        kept = np.array([row not in reasons for row in range(len(chunk))], dtype=np.bool_)
        answered = self._answered(chunk, kept, reasons)
        error = pl.Series("error", [reasons.get(row) for row in range(len(chunk))], dtype=pl.String())
        places = self._places(chunk).with_columns(error)
        answered = answered.with_columns(row=pl.Series(chunk.first + np.flatnonzero(kept), dtype=pl.Int64()))
        joined = places.join(answered, on="row", how="left", maintain_order="left")
        return joined.with_columns(**self._identity())

    def _answered(self, chunk: Chunk, kept: Flags, reasons: dict[int, str]) -> pl.DataFrame:
        """Answers for the rows that have one; the others are taken off ``kept``, their reasons added."""
        index, rejected = np.flatnonzero(kept), dict[int, str]()
        rows = chunk.rows[kept]
        try:
            posterior = posterior_of(self.model, rows, rejected=rejected) if len(rows) else None
        except (InvalidInstances, ModelOutputInvalid):
            if len(rejected) < len(rows):
                raise
            posterior = None
        reasons |= {int(index[row]): detail for row, detail in rejected.items()}
        kept[[*reasons]] = False
        if posterior is None:
            return self._judged(posterior_of(self.model, self.model.inputs.synthetic())).clear()
        return self._judged(posterior)

    def _places(self, chunk: Chunk) -> pl.DataFrame:
        columns: dict[str, Any] = {"row": np.arange(chunk.first, chunk.first + len(chunk), dtype=np.int64)}
        if (lines := chunk.places.lines) is not None:
            columns["line"] = np.array(lines, dtype=np.int64)
        if chunk.places.several:
            columns["file"] = [chunk.path.name] * len(chunk)
        if "id" in chunk.columns:
            columns["id"] = pl.Series(chunk.columns["id"].tolist(), dtype=pl.String())
        return pl.DataFrame(columns)

    def _judged(self, posterior: Posterior) -> pl.DataFrame:
        source = self.model.source
        if self.policy is None:
            log_probs = at_prevalence(posterior.log_probs, source=source, target=self.target)
            return pl.DataFrame(_beliefs(log_probs, self.model) | _trust(posterior, self.model))
        log_probs, made = act(posterior, self.policy, source=source, target=self.target)
        decided = {
            "action": np.array(self.policy.actions)[made.action],
            "risk": np.take_along_axis(made.risks, made.action[:, None], axis=1)[:, 0],
            "reason": np.array(REASONS)[made.reason],
        }
        risks = {f"risk {name}": made.risks[:, i] for i, name in enumerate(self.policy.actions)}
        return pl.DataFrame(_beliefs(log_probs, self.model) | _trust(posterior, self.model) | decided | risks)

    def _identity(self) -> dict[str, pl.Expr]:
        model = self.model
        said = {
            "model": model.name,
            "version": model.version,
            "digest": model.bundle.digest,
            "calibration": f"{model.method} ({model.status})",
        }
        return {name: pl.lit(value, dtype=pl.String()) for name, value in said.items()}


def _beliefs(log_probs: Array, model: Model) -> dict[str, Any]:
    probabilities, names = np.exp(log_probs), np.array(model.classes)
    said = {"label": names[log_probs.argmax(axis=1)]}
    return said | {f"probability {name}": probabilities[:, k] for k, name in enumerate(model.classes)}


def _trust(posterior: Posterior, model: Model) -> dict[str, Any]:
    scores = {f"score {d.name}": posterior.scores[:, i] for i, d in enumerate(model.chain.detectors)}
    n = len(posterior.scores)
    return {
        "flagged": pl.Series(values=[None] * n if posterior.flagged is None else posterior.flagged, dtype=pl.Boolean()),
        "p_value": pl.Series(values=[None] * n if posterior.p_value is None else posterior.p_value, dtype=pl.Float64()),
        **scores,
    }


def _open_parts(model: Model, request: ScoreRequest, data: _Data) -> Path:
    parts = request.out.with_name(f"{request.out.name}.parts")
    job = json.dumps(_job(model, request, data), indent=2)
    if request.out.exists():
        raise DataError(f"{request.out} exists; remove it, or write elsewhere")
    if not any(parts.glob("*.parquet")):  # what was refused before its first part leaves nothing to mix up
        parts.mkdir(exist_ok=True)
        (parts / JOB_FILE).write_text(job, encoding="utf-8")
    elif not (parts / JOB_FILE).is_file() or (parts / JOB_FILE).read_text(encoding="utf-8") != job:
        raise DataError(
            f"{parts} holds the answers of another job (other data, version or options); remove it to start anew"
        )
    return parts


def _job(model: Model, request: ScoreRequest, data: _Data) -> dict[str, str | None]:
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
    }


def _done(parts: Path) -> int:
    """Rows from the first on that are answered; what comes after a gap, or is damaged, is done again."""
    rows = 0
    for path in sorted(parts.glob("*.parquet")):
        height = _height(path) if int(path.stem) == rows else None
        if height is None:
            path.unlink()
        else:
            rows += height
    return rows


def _height(path: Path) -> int | None:
    try:
        rows: int = pl.scan_parquet(path, glob=False).select(pl.len()).collect().item()
    except (pl.exceptions.PolarsError, OSError):
        return None
    return rows


def _put(frame: pl.DataFrame, path: Path) -> None:
    aside = path.with_suffix(".writing")
    frame.write_parquet(aside)
    aside.replace(path)


def _finish(
    request: ScoreRequest, parts: Path, data: _Data, write: Callable[[pl.LazyFrame, Path], None], *, reused: int
) -> Scored:
    if data.is_changed():
        raise _changed(request, parts)
    aside = parts / f"{request.out.name}.writing"
    frame = pl.scan_parquet(sorted(parts.glob("*.parquet")), glob=False)
    failed = pl.col("error").is_not_null().sum() if request.on_error == "skip" else pl.lit(0)
    rows, skipped = frame.select(pl.len(), failed.alias("skipped")).collect().row(0)
    write(frame, aside)
    aside.replace(request.out)
    shutil.rmtree(parts)
    return Scored(rows, reused, skipped)


def _writer(out: Path) -> Callable[[pl.LazyFrame, Path], None]:
    if out.suffix.lower() not in WRITERS:
        raise DataError(f"{out}: answers are written as one of {', '.join(WRITERS)}")
    if not out.parent.is_dir():
        raise DataError(f"{out.parent} is not a directory")
    return WRITERS[out.suffix.lower()]


WRITERS: Final[dict[str, Callable[[pl.LazyFrame, Path], None]]] = {
    ".parquet": lambda frame, path: frame.sink_parquet(path),
    ".csv": lambda frame, path: frame.sink_csv(path),
}

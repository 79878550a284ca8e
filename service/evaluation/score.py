"""Batch scoring: a data set of any size in, one answer per row out, in chunks that survive an interruption."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from service.choices import Options, choose_policy, choose_target
from service.core.decision import REASONS
from service.core.numerics import Array
from service.core.pipeline import Policy, Posterior, act, at_prevalence
from service.errors import DataError
from service.evaluation.chunks import Chunks, count_rows, read_chunks
from service.evaluation.scoring import Track, posterior_of, untracked
from service.evaluation.table import rows_of
from service.runtime.model import Model

JOB_FILE = "job.json"


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """What to score, and where the answers go.

    Attributes
    ----------
    data, out : Path
        CSV, Parquet or NPZ in; CSV or Parquet out.
    policy : str or None
        A policy of the manifest; None means its default, or no decisions where it has none.
    site : str or None
    id_column : str or None
        A column that is copied to the answers.
    chunk_rows : int
        Rows in memory at a time.
    """

    data: Path
    out: Path
    policy: str | None = None
    site: str | None = None
    id_column: str | None = None
    chunk_rows: int = 65_536


@dataclass(frozen=True, slots=True)
class Scored:
    """What was done; ``reused`` rows were scored by a run that had been interrupted."""

    rows: int
    reused: int


def score(model: Model, request: ScoreRequest, *, track: Track = untracked) -> Scored:
    """Answer every row of a data set.

    Chunks are written beside ``out`` as they are done, each at once; the same call after an interruption goes on where
    it ended. ``out`` appears when it is complete.

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
        written to; or if the parts beside it belong to another job.
    InvalidParameters
        If the manifest has no such policy or site.
    """
    if model.task != "multiclass":
        raise DataError(f"score writes one class a row; a {model.task} model answers over HTTP, and to `evaluate`")
    write = _writer(request.out)
    judge = _Judge.of(model, request)
    rows = _some_rows(request.data)
    parts = _open_parts(model, request)
    first = _done(parts, request)
    whole = tuple(one.name for one in model.inputs.wide)
    chunks = Chunks(request.chunk_rows, first, model.inputs.columns, _others(model, request), whole)
    tables = read_chunks(request.data, chunks)
    for start in track(range(first, rows, request.chunk_rows)):
        _put(judge.answers(next(tables), start), parts / f"{start:015d}.parquet")
    _finish(parts, request.out, write)
    return Scored(rows, first)


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

    def answers(self, table: dict[str, Any], start: int) -> pl.DataFrame:
        model, path = self.model, self.request.data
        rows = rows_of(table, model.manifest, path, inputs=model.inputs, first=start)
        posterior = posterior_of(self.model, rows, first=start)
        columns: dict[str, Any] = {"row": np.arange(start, start + len(rows))}
        if (name := self.request.id_column) is not None:
            if name not in table:
                raise DataError(f"{self.request.data} has no array {name!r}")
            columns["id"] = table[name]
        columns |= self._judged(posterior)
        return pl.DataFrame(columns).with_columns(**self._identity())

    def _judged(self, posterior: Posterior) -> dict[str, Any]:
        source = self.model.source
        if self.policy is None:
            log_probs = at_prevalence(posterior.log_probs, source=source, target=self.target)
            return _beliefs(log_probs, self.model) | _trust(posterior, self.model)
        log_probs, made = act(posterior, self.policy, source=source, target=self.target)
        decided = {
            "action": np.array(self.policy.actions)[made.action],
            "risk": np.take_along_axis(made.risks, made.action[:, None], axis=1)[:, 0],
            "reason": np.array(REASONS)[made.reason],
        }
        risks = {f"risk {name}": made.risks[:, i] for i, name in enumerate(self.policy.actions)}
        return _beliefs(log_probs, self.model) | _trust(posterior, self.model) | decided | risks

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


def _others(model: Model, request: ScoreRequest) -> tuple[str, ...]:
    cells = [name for entry in model.inputs.entries for name in entry.cells if name not in model.inputs.columns]
    return tuple(dict.fromkeys([*cells, *([] if request.id_column is None else [request.id_column])]))


def _some_rows(data: Path) -> int:
    rows = count_rows(data)
    if rows == 0:
        raise DataError(f"{data} has no rows")
    return rows


def _open_parts(model: Model, request: ScoreRequest) -> Path:
    parts = request.out.with_name(f"{request.out.name}.parts")
    job = json.dumps(_job(model, request), indent=2)
    if request.out.exists():
        raise DataError(f"{request.out} exists; remove it, or write elsewhere")
    if not any(parts.glob("*.parquet")):  # what was refused before its first part leaves nothing to mix up
        parts.mkdir(exist_ok=True)
        (parts / JOB_FILE).write_text(job, encoding="utf-8")
    elif (parts / JOB_FILE).read_text(encoding="utf-8") != job:
        raise DataError(f"{parts} holds the parts of another job (other data, version or options); remove it")
    return parts


def _job(model: Model, request: ScoreRequest) -> dict[str, Any]:
    options = {name: str(value) for name, value in asdict(request).items() if value is not None}
    with request.data.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"model": model.name, "version": model.version, "digest": model.bundle.digest, "data": digest, **options}


def _done(parts: Path, request: ScoreRequest) -> int:
    starts = sorted(int(path.stem) for path in parts.glob("*.parquet"))
    whole = [start for i, start in enumerate(starts) if start == i * request.chunk_rows]
    return len(whole) * request.chunk_rows


def _put(frame: pl.DataFrame, path: Path) -> None:
    aside = path.with_suffix(".writing")
    frame.write_parquet(aside)
    aside.replace(path)


def _finish(parts: Path, out: Path, write: Callable[[pl.LazyFrame, Path], None]) -> None:
    aside = parts / out.name
    write(pl.scan_parquet(sorted(parts.glob("*.parquet"))), aside)
    aside.replace(out)
    shutil.rmtree(parts)


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

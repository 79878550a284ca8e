"""Chunks of a data set, answered.

Tested in tests/scoring/test_score.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from service.core.numerics import Flags
from service.core.pipeline import Posterior
from service.data.column_roles import Selection
from service.data.reader import Chunk, Stretch, read_chunks, read_stretch
from service.data.sources import open_source
from service.errors import DataError, InvalidInstances, ModelOutputInvalid
from service.prediction.answer_member import Plan
from service.prediction.bulk import posterior_of
from service.prediction.options import Options
from service.prediction.query import Query
from service.runtime.model import Model
from service.scoring.answer_columns import TOPICS, frame_of, stated
from service.scoring.score_request import ScoreRequest


@dataclass(frozen=True, slots=True)
class ChunkScorer:
    """Answers the chunks of a data set.

    Attributes
    ----------
    request : ScoreRequest
    query : Query
    plan : Plan
        Members of an answer that are written.
    """

    request: ScoreRequest
    query: Query
    plan: Plan

    @classmethod
    def of(cls, model: Model, request: ScoreRequest) -> "ChunkScorer":
        """Check policy and site; InvalidParameters if the manifest has none of that name."""
        policy = request.policy or model.manifest.default_policy
        query = Query.of(model, Options("score", decide=policy is not None, policy=policy, site=request.site))
        return cls(request, query, query.plan(TOPICS))

    @property
    def model(self) -> Model:
        """The model that answers."""
        return self.query.model

    @property
    def selection(self) -> Selection:
        """What is read of the data."""
        return Selection(self.model.inputs, id_column=self.request.id_column)

    def check_readable(self) -> None:
        """Raise DataError for a data set that lacks rows or columns."""
        if next(read_chunks(self.request.data, self.model.manifest, self.selection, rows=1), None) is None:
            raise DataError(f"{self.request.data} has no rows")

    def chunks(self, stretch: Stretch) -> Iterator[Chunk]:
        """The rows of a stretch; they count from the first of their file."""
        return read_stretch(stretch, self.model.manifest, self.selection, rows=self.request.chunk_rows)

    def most_chunks(self, stretch: Stretch) -> int:
        """An upper bound of a stretch's chunks; how many rows a text file has is known only at its end."""
        stop = open_source(stretch.path).bound() if stretch.stop is None else stretch.stop
        return max(0, -(-(stop - stretch.start) // self.request.chunk_rows))

    def scored(self, chunk: Chunk) -> pl.DataFrame:
        """An answer for every row of a chunk, or the reason why there is none."""
        if self.request.on_error == "stop":
            chunk.refuse_faults()
            answered = self._frame(posterior_of(self.model, chunk.rows, place=chunk.places.where))
            return pl.concat([_places(chunk), answered], how="horizontal").with_columns(**stated(self.model))
        reasons = {row: detail.removeprefix(", ").strip() for row, detail in sorted(chunk.faults, reverse=True)}
        kept = np.array([row not in reasons for row in range(len(chunk))], dtype=np.bool_)
        answered = self._answered(chunk, kept, reasons)
        error = pl.Series("error", [reasons.get(row) for row in range(len(chunk))], dtype=pl.String())
        answered = answered.with_columns(row=pl.Series(chunk.first + np.flatnonzero(kept), dtype=pl.Int64()))
        joined = _places(chunk).with_columns(error).join(answered, on="row", how="left", maintain_order="left")
        return joined.with_columns(**stated(self.model))

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
            return self._frame(posterior_of(self.model, self.model.inputs.synthetic())).clear()
        return self._frame(posterior)

    def _frame(self, posterior: Posterior) -> pl.DataFrame:
        return frame_of(self.plan, self.query.conclude(posterior))


def _places(chunk: Chunk) -> pl.DataFrame:
    columns: dict[str, Any] = {"row": np.arange(chunk.first, chunk.first + len(chunk), dtype=np.int64)}
    if (lines := chunk.places.lines) is not None:
        columns["line"] = np.array(lines, dtype=np.int64)
    if chunk.places.several:
        columns["file"] = [chunk.path.name] * len(chunk)
    if "id" in chunk.columns:
        columns["id"] = pl.Series(chunk.columns["id"].tolist(), dtype=pl.String())
    return pl.DataFrame(columns)

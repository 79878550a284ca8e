"""Batch scoring: a data set of any size in, one answer per row out, in chunks that survive an interruption."""

from service.errors import DataError
from service.prediction.bulk import Track, untracked
from service.runtime.model import Model
from service.scoring.answer_columns import column_names
from service.scoring.finished_chunks import FinishedChunks, check_out
from service.scoring.score_request import ScoreRequest, ScoreResult
from service.scoring.scored_chunks import ChunkScorer


def score(model: Model, request: ScoreRequest, *, track: Track = untracked) -> ScoreResult:
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
        If the model is of sequences; if the data has no rows or does not fit the model, with the row's place in the
        file; if ``out`` cannot be written to; if the parts beside it belong to another job; or if the data changes
        while it is read.
    InvalidParameters
        If the manifest has no such policy or site.
    """
    _refuse_sequences(model)
    check_out(request.out)
    _refuse_inside(request)
    scorer = ChunkScorer.of(model, request)
    scorer.check_readable()
    parts = FinishedChunks.open(model, request, column_names(scorer.plan))
    first = parts.done()
    for chunk in scorer.chunks(first, track):
        parts.put(scorer.scored(chunk), first=chunk.first)
    return parts.finish(reused=first)


def _refuse_sequences(model: Model) -> None:
    if model.task == "sequence":
        raise DataError(
            "score writes one line per row, and a sequence model has a class at every position: send sequences to the "
            "HTTP API, or measure the model with `temperance evaluate`"
        )


def _refuse_inside(request: ScoreRequest) -> None:
    if request.data.is_dir() and request.out.parent.resolve().is_relative_to(request.data.resolve()):
        raise DataError(
            f"{request.out} lies inside the data {request.data}, and would be read as a part: choose another place"
        )

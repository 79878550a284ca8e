"""Batch scoring: a data set of any size in, one answer per row out, in chunks that survive an interruption."""

from collections.abc import Callable, Iterator
from itertools import chain

from service.data.reader import Stretch
from service.errors import DataError, ServiceError
from service.prediction.bulk import Track, untracked
from service.runtime.model import Model
from service.scoring.answer_columns import column_names
from service.scoring.finished_chunks import DataChanged, FinishedChunks, check_out
from service.scoring.score_request import ScoreRequest, ScoreResult
from service.scoring.scored_chunks import ChunkScorer

Engine = Callable[[ChunkScorer, FinishedChunks, Track], None]
"""Answers all rows that are not answered yet: this process, or those of other machines."""


def score_here(scorer: ChunkScorer, finished: FinishedChunks, track: Track) -> None:
    """The engine of one process: chunk after chunk."""
    stretches = finished.left()
    chunks = chain.from_iterable(answered(scorer, finished, stretch) for stretch in stretches)
    for _ in track(range(sum(map(scorer.most_chunks, stretches)))):
        next(chunks, None)
    for _ in chunks:
        pass


def answered(scorer: ChunkScorer, finished: FinishedChunks, stretch: Stretch) -> Iterator[int]:
    """Answer a stretch of rows, chunk by chunk, each kept at once: the one way, for every engine.

    Yields
    ------
    int
        Rows of a chunk that is now finished.
    """
    for chunk in scorer.chunks(stretch):
        finished.put(scorer.scored(chunk), part=stretch.part, first=chunk.first)
        yield len(chunk)


def score(model: Model, request: ScoreRequest, *, engine: Engine = score_here, track: Track = untracked) -> ScoreResult:
    """Answer every row of a data set.

    Chunks are written beside ``out`` as they are done, each at once; the same call after an interruption goes on where
    it ended, with whichever engine. The same means the same bytes of data, the same version and the same options.
    ``out`` appears when it is complete.

    Parameters
    ----------
    model : Model
    request : ScoreRequest
    engine : callable
        Who computes.
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
    finished = FinishedChunks.open(model, request, column_names(scorer.plan))
    reused = sum(span.stop - span.start for span in finished.spans())
    try:
        engine(scorer, finished, track)
        return finished.finish(reused=reused)
    except (ServiceError, OSError) as error:
        if not isinstance(error, DataChanged) and not finished.data.looks_changed():
            raise
        finished.discard()
        raise finished.changed() from None


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

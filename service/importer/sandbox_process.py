"""The dry run's own process: graphs of unknown origin are loaded and run here, under limits, and nowhere else.

Arrays travel in .npz files, which are read without pickle.

Tested in tests/importer/test_refusals.py.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from service.runtime.limited_process import Message, answer_requests
from service.runtime.session import Feeds, Session


def main() -> None:
    """Answer requests until standard input ends."""
    answer_requests(_answer)


def _answer(request: Message) -> Message:
    session = Session(Path(request["graph"]))
    answers: dict[str, npt.NDArray[Any]] = {}
    for number, file in enumerate(request["feeds"]):
        with np.load(file, allow_pickle=False) as stored:
            feeds = {name: _as_fed(stored[name]) for name in stored.files}
        probe = _one_by_one if request["alone"] else Session.probe
        values = probe(session, request["outputs"], feeds, seconds=request["seconds"])
        answers |= {f"{number}.{i}": _as_stored(value) for i, value in enumerate(values)}
    np.savez(request["answers"], allow_pickle=False, **answers)
    return {}


def _one_by_one(session: Session, outputs: list[str], feeds: Feeds, *, seconds: float) -> list[npt.NDArray[Any]]:
    """As `Session.probe`, every row by itself; a graph of a fixed batch size is filled up with the same row."""
    whole = session.probe(outputs, feeds, seconds=seconds)
    rows = len(next(iter(feeds.values())))
    size = session.batch or 1
    parts = []
    for row in range(rows):
        own = {name: np.repeat(feed[row : row + 1], size, axis=0) for name, feed in feeds.items()}
        parts.append(session.probe(outputs, own, seconds=seconds))
    return [_joined(value, [part[i] for part in parts], rows, size) for i, value in enumerate(whole)]


def _joined(whole: npt.NDArray[Any], parts: list[npt.NDArray[Any]], rows: int, size: int) -> npt.NDArray[Any]:
    """Rows along the axis that follows their number; an output without one is what the batch made it."""
    pairs = list(zip(whole.shape, parts[0].shape, strict=False))
    if whole.ndim != parts[0].ndim or (rows, size) not in pairs:
        return whole
    axis = pairs.index((rows, size))
    return np.concatenate([np.take(part, [0], axis=axis) for part in parts], axis=axis)


def _as_fed(value: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return value.astype(object) if value.dtype.kind == "U" else value


def _as_stored(value: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return value.astype(str) if value.dtype.kind == "O" else value


if __name__ == "__main__":
    main()

"""Rows that must not depend on each other: checked when a model is loaded, and run one by one where they would."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from service.core.numerics import Array, Indices
from service.errors import ManifestInvalid, ModelOutputInvalid, ServiceError
from service.runtime.fields import FieldInputs
from service.runtime.rows import stack
from service.runtime.session import Feeds, Session

EXTREME: Final = 1000.0  # times the size of other rows
TOLERANCE: Final = 1e-4  # beside other rows of the same number nothing is computed differently, not even its rounding
STEPS: Final = 16.0  # of the output's own precision, where that is coarser

Values = npt.NDArray[Any]
Answers = Callable[[Feeds, Indices], tuple[Array, Array | None]]
"""Logits of rows of these lengths, and features where scores look at a tensor."""


def check_independence(session: Session, output: str, feeds: Feeds) -> None:
    """Run the first and the last of some rows beside several others.

    Parameters
    ----------
    session : Session
    output : str
        The tensor of scores, rows first.
    feeds : dict of str to ndarray
        Synthetic rows as the graph takes them.

    Raises
    ------
    ManifestInvalid
        If their answers depend on them.
    """
    known: Values | None = None
    for beside in _beside(feeds):
        try:
            answer = session.run(output, beside)[[0, -1]]
        except ModelOutputInvalid:  # there may be no such rows
            continue
        if known is not None and not _same(known, answer):
            raise ManifestInvalid(
                "graph.rows: the graph answers a row otherwise beside other rows, so rows cannot run together; import "
                'the model again: where it quantises by the batch, rows = "alone" under [graph] runs them one by one'
            )
        known = answer if known is None else known


def each_alone(run: Answers, inputs: FieldInputs, feeds: Feeds, lengths: Indices) -> tuple[Array, Array | None]:
    """What a run makes of every row by itself, as long as it is: without the padding that longer rows bring.

    Raises
    ------
    ServiceError
        Whatever the run raises, faults in the row's own place.
    """
    parts = list(_each(run, inputs, feeds, lengths))
    features = [part for _, part in parts if part is not None]
    return stack([logits for logits, _ in parts]), np.concatenate(features) if features else None


def _each(run: Answers, inputs: FieldInputs, feeds: Feeds, lengths: Indices) -> Iterator[tuple[Array, Array | None]]:
    for row, length in enumerate(lengths.tolist()):
        try:
            yield run(inputs.cut(feeds, row, length), lengths[row : row + 1])
        except ServiceError as error:
            raise _moved(error, row) from None


def _moved(error: ServiceError, row: int) -> ServiceError:
    faults = [replace(fault, path=(fault.path[0], row, *fault.path[2:])) for fault in error.faults]
    return type(error)(error.detail, faults) if faults else error


def _beside(feeds: Feeds) -> Iterator[Feeds]:
    yield feeds
    yield {name: _with(np.repeat(values[:1], len(values), axis=0), values) for name, values in feeds.items()}
    yield {name: _with(_extreme(values), values) for name, values in feeds.items()}


def _extreme(values: Values) -> Values:
    if values.dtype.kind != "f":
        return values
    size = values.dtype.type(EXTREME)
    with np.errstate(over="ignore"):
        larger: Values = values * size + size
    return larger


def _with(others: Values, values: Values) -> Values:
    """Other rows between the first and the last."""
    kept = others.copy()
    kept[[0, -1]] = values[[0, -1]]
    return kept


def _same(one: Values, other: Values) -> bool:
    if one.shape != other.shape:
        return False
    most = max(TOLERANCE, STEPS * float(np.finfo(one.dtype).eps))
    a, b = one.astype(np.float64), other.astype(np.float64)
    with np.errstate(invalid="ignore"):
        near = np.abs(a - b) <= most * (1.0 + np.abs(a))
    return bool(np.all(near | (a == b) | (np.isnan(a) & np.isnan(b))))

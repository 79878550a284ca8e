"""An answer as columns of a file, under the dotted names of its members: `probabilities.benign`, `decision.action`.

A member with a value for every name of an axis is one column per name. A member that holds several names is one column
of flags per name. What only JSON can express is its JSON as text.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np
import polars as pl

from service.core.numerics import Flags, Indices
from service.prediction.answer import Answer
from service.prediction.answer_member import ABSENT, Column, Plan
from service.prediction.header import Head, headed
from service.runtime.model import Model

TOPICS: Final = ("probabilities", "ood", "decision")
STATED: Final = ("model", "version", "digest", "calibration.method", "calibration.status")
"""What a response states once, and a file in every row."""


def frame_of(plan: Plan, answer: Answer) -> pl.DataFrame:
    """The columns of an answer, one line per row.

    Parameters
    ----------
    plan : Plan
        Of `TOPICS`, without lists.
    answer : Answer
    """
    columns = zip(plan.columns, plan.all_values(answer, ()), strict=True)
    return pl.DataFrame([series for column, found in columns for series in _series(column, found, len(answer))])


def column_names(plan: Plan) -> list[str]:
    """Names of the columns, in the order of the file."""
    return [name for column in plan.columns for name in _names(column)]


def stated(model: Model) -> dict[str, pl.Expr]:
    """What every row states about the model that answered it."""
    head = Head(model, None, None, None, "", "")
    return {name: pl.lit(value, dtype=pl.String()) for name, value in headed(head, STATED).items()}


def _series(column: Column, found: Any, rows: int) -> Iterator[pl.Series]:
    names, kind = _names(column), column.member.kind
    if found is None or isinstance(found, str | float):
        yield from (pl.repeat(found, rows, dtype=DTYPES[kind], eager=True).alias(name) for name in names)
    elif kind == "names" or column.axis is not None:
        yield from (SERIES[kind](column, found[:, i]).alias(name) for i, name in enumerate(names))
    else:
        yield SERIES[kind](column, found).alias(column.name)


def _names(column: Column) -> Sequence[str]:
    axis = column.names if column.member.kind == "names" else column.axis
    return [column.name] if axis is None else [f"{column.name}.{name}" for name in axis]


def _numbers(column: Column, found: Any) -> pl.Series:
    del column
    return pl.Series(np.ascontiguousarray(found), nan_to_null=True)


def _flags(column: Column, found: Flags) -> pl.Series:
    del column
    return pl.Series(np.ascontiguousarray(found))


def _named(column: Column, found: Indices) -> pl.Series:
    places = pl.Series(found, dtype=pl.Int64()).replace(ABSENT, None)
    return pl.Series(column.names, dtype=pl.String()).gather(places)


def _texts(column: Column, found: list[Any]) -> pl.Series:
    del column
    return pl.Series(found, dtype=pl.String())


def _as_json(column: Column, found: list[Any]) -> pl.Series:
    return _texts(column, [json.dumps(value, ensure_ascii=False) for value in found])


DTYPES: Final[dict[str, pl.DataType]] = {
    "number": pl.Float64(),
    "count": pl.Int64(),
    "flag": pl.Boolean(),
    "name": pl.String(),
    "names": pl.Boolean(),
    "text": pl.String(),
    "value": pl.String(),
}
SERIES: Final[dict[str, Callable[[Column, Any], pl.Series]]] = {
    "number": _numbers,
    "count": _numbers,
    "flag": _flags,
    "name": _named,
    "names": _flags,
    "text": _texts,
    "value": _as_json,
}

"""Rows of numbers that all have the same form, read at once."""

from collections.abc import Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, Final

import numpy as np

from service.core.numerics import Array
from service.runtime.integers import Wide, among, rows_with
from service.runtime.rows import Rows

NUMBERS_OR_NULL: Final[frozenset[type]] = frozenset({int, float, type(None)})


class UniformRows:
    """Reads rows of numbers at once where all have the same form; None for all others, which are read one by one.

    Parameters
    ----------
    names : tuple of str
        Columns, in manifest order.
    wide : tuple of Wide
        Those of 64-bit integers.

    Examples
    --------
    >>> reader = UniformRows(("a", "b"), ())
    >>> reader.rows([[1, 2.5], [3, None]]).tolist()
    [[1.0, 2.5], [3.0, nan]]
    >>> reader.rows([{"b": 2, "a": 1}]).tolist()
    [[1.0, 2.0]]
    >>> reader.rows([[1, True]]), reader.rows([[1]]), reader.rows([{"a": 1, "c": 2}])
    (None, None, None)
    """

    def __init__(self, names: tuple[str, ...], wide: tuple[Wide, ...]) -> None:
        self._width = len(names)
        self._wide = wide
        self._cells = itemgetter(*names) if len(names) > 1 else None

    def rows(self, instances: Sequence[Any]) -> Rows | None:
        """Rows of instances: lists of cells, or objects by column, of numbers and null."""
        kinds = set(map(type, instances))
        cells = instances if kinds == {list} else self._by_name(instances) if kinds == {dict} else None
        if cells is None or set(map(len, instances)) != {self._width}:
            return None
        return self.table(cells) if NUMBERS_OR_NULL.issuperset(map(type, chain.from_iterable(cells))) else None

    def table(self, cells: Sequence[Any]) -> Rows | None:
        """Rows of lists whose cells are known to be numbers or None."""
        try:
            table: Array = np.array(cells, dtype=np.float64)
        except (ValueError, TypeError, OverflowError):  # ragged, or beyond a double
            return None
        if table.ndim != 2 or table.shape[1] != self._width:
            return None
        return rows_with(table, among(cells, table, self._wide)) if self._wide else table

    def _by_name(self, instances: Sequence[Any]) -> Sequence[Any] | None:
        try:
            return None if self._cells is None else list(map(self._cells, instances))
        except KeyError:
            return None

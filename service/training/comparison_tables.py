"""Tables of a card: rows of every split, measures over seeds, paired differences.

Measures have names such as ``focal | temperature | log_loss``: what is measured, and the measure last.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from service.training.cards import table
from service.training.example_sets import Examples
from service.training.seeds import BETWEEN, Spread, paired


def split_table(parts: Mapping[str, Examples], classes: Sequence[str]) -> str:
    """Rows of every split, in all and by class.

    Parameters
    ----------
    parts : mapping of str to Examples
        Of one class per row.
    classes : sequence of str
    """
    counts = {name: np.bincount(part.labels, minlength=len(classes)) for name, part in parts.items()}
    return table(["split", "rows", *classes], [[name, *map(str, (n.sum(), *n))] for name, n in counts.items()])


def spread_table(
    found: Mapping[str, Spread], header: Sequence[str], rows: Iterable[str], measures: Mapping[str, str]
) -> str:
    """Means with standard deviations.

    Parameters
    ----------
    found : mapping of str to Spread
        As `seeds.over_seeds` returns it.
    header : sequence of str
        What the parts of a row's name are.
    rows : iterable of str
        Names without the measure, such as ``focal | temperature``.
    measures : mapping of str to str
        Titles of the columns by measure.

    Examples
    --------
    >>> print(spread_table({"a | loss": Spread((0.1, 0.2))}, ["with"], ["a"], {"loss": "log loss"}))
    | with | log loss |
    |---|---|
    | a | 0.150 (0.071) |
    """
    lines = [[*row.split(BETWEEN), *(found[_name(row, measure)].text() for measure in measures)] for row in rows]
    return table([*header, *measures.values()], lines)


def difference_table(
    found: Mapping[str, Spread],
    compared: Iterable[tuple[str, str]],
    measures: Mapping[str, str],
    *,
    test_over_training: float = 0.0,
) -> str:
    """First less second, seed by seed, with 95 % intervals.

    Parameters
    ----------
    found : mapping of str to Spread
    compared : iterable of (str, str)
        Names without the measure.
    measures : mapping of str to str
        Titles of the columns by measure.
    test_over_training : float
        See `seeds.paired`.
    """
    lines = [
        [f"{_written(first)} less {_written(second)}", *_gaps(found, first, second, measures, test_over_training)]
        for first, second in compared
    ]
    return table(["difference", *measures.values()], lines)


def grouped(found: Mapping[str, Spread], rows: Iterable[str], measure: str) -> dict[str, dict[str, Spread]]:
    """One measure by the first and by the second part of the rows' names, as `pictures.bars` draws it.

    Examples
    --------
    >>> grouped({"a | b | loss": Spread((0.1,)), "a | c | loss": Spread((0.2,))}, ["a | b", "a | c"], "loss")
    {'a': {'b': Spread(values=(0.1,)), 'c': Spread(values=(0.2,))}}
    """
    groups: dict[str, dict[str, Spread]] = {}
    for row in rows:
        group, series = row.split(BETWEEN)
        groups.setdefault(group, {})[series] = found[_name(row, measure)]
    return groups


def _gaps(
    found: Mapping[str, Spread], first: str, second: str, measures: Iterable[str], test_over_training: float
) -> list[str]:
    pairs = ((found[_name(first, measure)], found[_name(second, measure)]) for measure in measures)
    return [paired(a, b, test_over_training=test_over_training).text() for a, b in pairs]


def _name(row: str, measure: str) -> str:
    return f"{row}{BETWEEN}{measure}"


def _written(row: str) -> str:
    return row.replace(BETWEEN, ", ")

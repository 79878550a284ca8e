"""The end of a chain, and where the next entries go.

Tested in tests/store/test_promises.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from service.store import canonical
from service.store.entries import Outcome, Prediction, Write, entries_of
from service.store.statements import event_values, outcome_values, place_of, prediction_values
from service.store.streams import Head


@dataclass(frozen=True, slots=True)
class Placed:
    """Entries with their places and links, as rows of their tables.

    Attributes
    ----------
    head : Head
        Of the stream behind them.
    predictions, outcomes, events : list of tuple
        ``place, link`` and the values.
    """

    head: Head
    predictions: list[tuple[Any, ...]]
    outcomes: list[tuple[Any, ...]]
    events: list[tuple[Any, ...]]


def placed(writes: Sequence[Write], head: Head) -> Placed:
    """Entries in the order of the writes, behind the head of their stream."""
    predictions: list[tuple[Any, ...]] = []
    outcomes: list[tuple[Any, ...]] = []
    events: list[tuple[Any, ...]] = []
    link, sequence = head.link, head.sequence
    for write in writes:
        for entry in entries_of(write):
            sequence += 1
            link = canonical.link(link, entry)
            place = (place_of(head.stream, sequence), link)
            if isinstance(entry, Prediction):
                predictions.append((*place, *prediction_values(entry)))
            elif isinstance(entry, Outcome):
                outcomes.append((*place, *outcome_values(entry)))
            else:
                events.append((*place, *event_values(entry)))
    return Placed(replace(head, sequence=sequence, link=link), predictions, outcomes, events)

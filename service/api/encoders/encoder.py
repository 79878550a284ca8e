"""What writes the answers to one query: compiled once, used for every answer."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, Protocol

from service.api.encoders.column_layout import ColumnEncoder
from service.api.encoders.row_layout import RowEncoder
from service.prediction.answer import Answer, Part
from service.prediction.query import Query


class Encoder(Protocol):
    """Writes the answers to one query."""

    def write(self, answer: Answer, parts: Sequence[Part], *, created: datetime) -> list[bytes]:
        """Body of the response to every request.

        Parameters
        ----------
        answer : Answer
            Of the rows of all parts, in order.
        parts : sequence of Part
            Several only if the query `joins`.
        created : datetime
        """


def encoder_of(query: Query, *, topics: Sequence[str], layout: str) -> Encoder:
    """The encoder of a query's answers.

    Parameters
    ----------
    query : Query
    topics : sequence of str
        Members of every row, as `Query.plan`.
    layout : str
        In `LAYOUTS`.
    """
    return LAYOUTS[layout](query, topics)


LAYOUTS: Final[dict[str, Callable[[Query, Sequence[str]], Encoder]]] = {"rows": RowEncoder, "columns": ColumnEncoder}

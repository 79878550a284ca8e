"""What writes the answers to one query: compiled once, used for every answer."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import orjson

from service.api.v1 import answers, columns
from service.api.v1.templates import Templates
from service.prediction.answer import Answer, Part, Prediction, parted
from service.prediction.call import Call
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
        created : datetime
        """


def encoder_of(query: Query, *, verb: str, layout: str) -> Encoder:
    """The encoder of a query's answers.

    Parameters
    ----------
    query : Query
    verb : str
        ``predict``, ``detect`` or ``decide``.
    layout : str
        ``rows`` or ``columns``.
    """
    if layout == "rows" and query.options.top_k is None and Templates.suits(query):
        return _Compiled(query, verb)
    return _ByPart(query, verb, layout)


class _ByPart:
    def __init__(self, query: Query, verb: str, layout: str) -> None:
        self._top_k, self._verb, self._layout = query.options.top_k, verb, layout

    def write(self, answer: Answer, parts: Sequence[Part], *, created: datetime) -> list[bytes]:
        """One part after the other."""
        return [self._body(own, part, created) for own, part in parted(answer, parts)]

    def _body(self, own: Answer, part: Part, created: datetime) -> bytes:
        prediction = Prediction.of(own, call=Call(part.request_id), created=created)
        if self._layout == "columns":
            return self._columns(prediction, part.ids)
        header, session = answers.header(prediction), answers.session_member(prediction)
        return orjson.dumps({**header, "predictions": self._rows(prediction, part.ids), **session})

    def _columns(self, prediction: Prediction, ids: Sequence[str] | None) -> bytes:
        if self._verb == "detect":
            return columns.detect_columns(prediction, ids)
        write = columns.predict_columns if self._verb == "predict" else columns.decide_columns
        return write(prediction, ids, self._top_k)

    def _rows(self, prediction: Prediction, ids: Sequence[str] | None) -> list[answers.Json]:
        if self._verb == "detect":
            return answers.detect_rows(prediction, ids)
        rows = answers.predict_rows if self._verb == "predict" else answers.decide_rows
        return rows(prediction, ids, self._top_k)


class _Compiled(_ByPart):
    def __init__(self, query: Query, verb: str) -> None:
        super().__init__(query, verb, "rows")
        self._templates = Templates(query)

    def write(self, answer: Answer, parts: Sequence[Part], *, created: datetime) -> list[bytes]:
        """All parts at once, where none of them has ids."""
        if any(part.ids is not None for part in parts):
            return super().write(answer, parts, created=created)
        ids, sizes = [part.request_id for part in parts], [part.rows for part in parts]
        return self._templates.write(answer, ids, sizes, at=created)

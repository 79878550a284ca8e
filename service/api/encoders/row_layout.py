"""Responses by row, `layout = "rows"`: `predictions` holds one object for every row.

Tested in tests/api/encoders/test_encoder.py.
"""

from collections.abc import Sequence
from datetime import datetime

import orjson

from service.api.encoders.row_json import RowWriter, Texts
from service.api.encoders.templates import Template, place
from service.prediction.answer import Answer, Part
from service.prediction.answer_member import Json
from service.prediction.header import head_of_query, header, session_of, timestamp
from service.prediction.query import Query


class RowEncoder:
    """Writes responses by row.

    Parameters
    ----------
    query : Query
    topics : sequence of str
        As `Query.plan`.
    """

    def __init__(self, query: Query, topics: Sequence[str]) -> None:
        self._writers = [RowWriter(own.plan(topics)) for own in query.by_policy()]
        head = header(head_of_query(query, request_id=place(0), created=place(1)))
        session: Json = {} if query.options.session is None else {"session": place(3)}
        self._body = Template({**head, "predictions": [place(2)], **session})

    def write(self, answer: Answer, parts: Sequence[Part], *, created: datetime) -> list[bytes]:
        """Body of every response; as `Encoder.write`."""
        rows, session = self._rows(answer, parts), orjson.dumps(session_of(answer))
        moment = orjson.dumps(timestamp(created))
        bodies, end = [], 0
        for part in parts:
            start, end = end, end + part.rows
            values = [orjson.dumps(part.request_id), moment, b",".join(rows[start:end]), session]
            bodies.append(self._body.filled(values))
        return bodies

    def _rows(self, answer: Answer, parts: Sequence[Part]) -> Texts:
        if len(self._writers) == 1:
            return self._writers[0].write(answer, parts)
        return _by_policy(self._writers, answer, parts[0])


def _by_policy(writers: Sequence[RowWriter], answer: Answer, part: Part) -> Texts:
    rows = [b""] * part.rows
    for writer, own in zip(writers, answer.by_policy(), strict=True):
        places = own.decided[0].rows.tolist()
        for at, text in zip(places, writer.write(own, [part.of(places)]), strict=True):
            rows[at] = text
    return rows

"""Answers as text, without an object for any number: what many answers have in common is written once.

A template is the JSON of a row, made of the same shapes as any other row's, with places for its numbers and for what
is one of many texts. Its flags and its action choose the template; all numbers become text in one call.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import count, islice, repeat
from typing import Any, Final, Protocol

import numpy as np
import orjson

from service.api.v1 import answers, shapes
from service.core.decision import REASONS
from service.core.numerics import Array
from service.core.pipeline import Policy
from service.prediction.answer import Answer
from service.prediction.options import choose_policy
from service.prediction.query import Query
from service.runtime.model import Model

Json = dict[str, Any]
Words = tuple[Any, ...]

PLACE: Final = "%" * 201  # no name is as long, so none can be mistaken for it
PLACE_TEXT: Final = re.compile(rb'"' + PLACE.encode() + rb'(\d+)"')
NOTHING: Final = b"[]"
MOST_PLACES: Final = 1 << 16  # in the templates of one lane


class Part(Protocol):
    """Some members of a row.

    Attributes
    ----------
    text_places, number_places : int
        How many a row has for them.
    """

    text_places: int
    number_places: int

    def texts(self, judgement: Answer) -> list[list[bytes]]:
        """JSON of every row, column by column."""

    def numbers(self, judgement: Answer) -> list[Array]:
        """Columns (N,) or (N, M)."""

    def words(self, judgement: Answer) -> Iterable[Words]:
        """What every row says besides; hashable, and one of few."""

    def members(self, words: Words, places: Sequence[str]) -> Json:
        """The members of a row that says this, with places for its texts, then for its numbers."""


class Belief:
    """Label and probabilities."""

    def __init__(self, model: Model) -> None:
        self._classes = model.classes
        self._labels = list(map(orjson.dumps, model.classes))
        self.text_places, self.number_places = 1, len(model.classes)

    def texts(self, judgement: Answer) -> list[list[bytes]]:
        """Label."""
        return [[self._labels[k] for k in judgement.log_probs.argmax(axis=1).tolist()]]

    def numbers(self, judgement: Answer) -> list[Array]:
        """Probabilities."""
        return [judgement.probabilities]

    def words(self, judgement: Answer) -> Iterable[Words]:
        """Nothing."""
        return repeat((), len(judgement.log_probs))

    def members(self, words: Words, places: Sequence[str]) -> Json:
        """Label and probabilities."""
        del words
        label, *probabilities = places
        return shapes.belief(label, dict(zip(self._classes, probabilities, strict=True)))


class Trust:
    """Flags, p-values and scores."""

    def __init__(self, model: Model) -> None:
        self._chain = model.chain
        self._scores = len(model.chain.detectors)
        self._joint = model.chain.calibrated and bool(model.chain.gate)
        self.text_places = 1
        self.number_places = self._joint + self._scores * (2 if model.chain.calibrated else 1)

    def texts(self, judgement: Answer) -> list[list[bytes]]:
        """Evidence."""
        found = {row: orjson.dumps(said) for row, said in answers.evidence_of(judgement).items()}
        return [[found.get(row, NOTHING) for row in range(len(judgement.log_probs))]]

    def numbers(self, judgement: Answer) -> list[Array]:
        """Scores, their p-values, and the joint one."""
        posterior = judgement.posterior
        columns = (posterior.scores, posterior.p_values, posterior.p_value)
        return [column for column in columns if column is not None]

    def words(self, judgement: Answer) -> Iterable[Words]:
        """The row's flag, and every detector's."""
        posterior = judgement.posterior
        if posterior.flagged is None or posterior.flags is None:
            return repeat((None, (None,) * self._scores), len(judgement.log_probs))
        return zip(posterior.flagged.tolist(), map(tuple, posterior.flags.tolist()), strict=True)

    def members(self, words: Words, places: Sequence[str]) -> Json:
        """How far the row lies within what the model knows."""
        (flagged, flags), (evidence, *numbers) = words, places
        s, detectors = self._scores, self._chain.detectors
        p_values = numbers[s : 2 * s] if self._chain.calibrated else [None] * s
        columns = zip(detectors, numbers[:s], p_values, flags, strict=True)
        scores = {d.name: shapes.score(value, d.threshold, p, own) for d, value, p, own in columns}
        return {"ood": shapes.trust(flagged, numbers[-1] if self._joint else None, evidence, scores)}


class Decision:
    """What to do."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._actions = len(policy.actions)
        self.text_places, self.number_places = 0, self._actions + (2 if policy.on_ood is None else 3)

    def texts(self, judgement: Answer) -> list[list[bytes]]:
        """None."""
        del judgement
        return []

    def numbers(self, judgement: Answer) -> list[Array]:
        """Risks, margin, and what it is worth to know or to hand over."""
        (decided,) = judgement.decided
        taken = decided.decisions
        columns = (taken.risks, taken.margin, taken.information, taken.deferral)
        return [column for column in columns if column is not None]

    def words(self, judgement: Answer) -> Iterable[Words]:
        """Indices of the action taken, of that of least cost, and of the reason."""
        (decided,) = judgement.decided
        taken = decided.decisions
        return zip(taken.action.tolist(), taken.least_cost.tolist(), taken.reason.tolist(), strict=True)

    def members(self, words: Words, places: Sequence[str]) -> Json:
        """The decision."""
        action, least_cost, reason = words
        margin, information, *deferral = places[self._actions :]
        decision = shapes.decision(
            self._policy,
            action,
            least_cost,
            REASONS[reason],
            risks=places[: self._actions],
            margin=margin,
            information=information,
            deferral=deferral[0] if deferral else None,
        )
        return {"decision": decision}


class Template:
    """A document's JSON with places.

    Parameters
    ----------
    document : dict
        With `_place` for every value that is not known yet; not all numbers need have one.
    """

    def __init__(self, document: Json) -> None:
        self._pieces = PLACE_TEXT.split(orjson.dumps(document))
        self._places = list(map(int, self._pieces[1::2]))

    def filled(self, values: list[bytes]) -> bytes:
        """The text with values in their places."""
        pieces = self._pieces.copy()
        pieces[1::2] = map(values.__getitem__, self._places)
        return b"".join(pieces)


class Templates:
    """Writes what is answered to one query.

    Parameters
    ----------
    query : Query
        One that `suits`.
    """

    def __init__(self, query: Query) -> None:
        self._parts = _PARTS[query.options.verb](query)
        head = answers.head(query.model, query.target, query.options.site, request_id=_place(0), created=_place(1))
        self._body = Template({**head, "predictions": [_place(2)]})
        self._first_number = 1 + sum(part.text_places for part in self._parts)
        places = self._first_number + sum(part.number_places for part in self._parts)
        self._row = lru_cache(maxsize=max(1, MOST_PLACES // places))(self._row_of)

    @staticmethod
    def suits(query: Query) -> bool:
        """Whether all rows have the same members: one threshold, policy and prevalence for all, and no more asked."""
        model, options = query.model, query.options
        plain = model.task == "multiclass" and all(d.by_class is None for d in model.chain.detectors)
        lists = isinstance(options.policy, tuple) or isinstance(options.prevalence, tuple)
        more = (options.coverage, options.fdr, options.session)
        return plain and not lists and not isinstance(options.site, tuple) and more == (None,) * len(more)

    def write(self, judgement: Answer, ids: Sequence[str], sizes: Sequence[int], *, at: datetime) -> list[bytes]:
        """The body of every call's answer.

        Parameters
        ----------
        judgement : Answer
            Of the rows of all calls.
        ids : sequence of str
            Of the calls.
        sizes : sequence of int
            How many of the rows are each call's.
        at : datetime
            When the answers are made.
        """
        rows, moment = self._rows(judgement), orjson.dumps(answers.timestamp(at))
        bodies = []
        for name, size in zip(map(orjson.dumps, ids), sizes, strict=True):
            own = [
                template.filled([b'%b.%d"' % (name[:-1], i), *texts, *numbers])
                for i, (template, texts, numbers) in zip(range(size), rows, strict=False)
            ]
            bodies.append(self._body.filled([name, moment, b",".join(own)]))
        return bodies

    def _rows(self, judgement: Answer) -> Iterator[tuple[Template, tuple[bytes, ...], list[bytes]]]:
        # A template of every row, and what goes into it.
        numbers = _numbers([column for part in self._parts for column in part.numbers(judgement)])
        texts = zip(*(column for part in self._parts for column in part.texts(judgement)), strict=True)
        words = zip(*(part.words(judgement) for part in self._parts), strict=True)
        for template, own, line in zip(map(self._row, words), texts, numbers, strict=True):
            yield template, own, line.split(b",")

    def _row_of(self, words: tuple[Words, ...]) -> Template:
        row: Json = {"prediction_id": _place(0)}
        texts, numbers = map(_place, count(1)), map(_place, count(self._first_number))
        for part, said in zip(self._parts, words, strict=True):
            row |= part.members(said, [*islice(texts, part.text_places), *islice(numbers, part.number_places)])
        return Template(row)


def _place(number: int) -> str:
    return f"{PLACE}{number}"


def _numbers(columns: Sequence[Array]) -> list[bytes]:
    if len(columns[0]) == 1:  # for one row a list is made sooner than an array
        return [orjson.dumps([number for column in columns for number in column.ravel().tolist()])[1:-1]]
    # One array, so that one call writes all numbers: b"[[1.0,2.0],[3.0,4.0]]".
    parts = [column if column.ndim == 2 else column[:, None] for column in columns]
    table = np.empty((len(parts[0]), sum(part.shape[1] for part in parts)))
    np.concatenate(parts, axis=1, out=table)
    return orjson.dumps(table, option=orjson.OPT_SERIALIZE_NUMPY)[2:-2].split(b"],[")


def _policy(query: Query) -> Policy:
    wanted = query.options.policy
    return choose_policy(query.model, None if isinstance(wanted, tuple) else wanted)


_PARTS: Final[dict[str, Callable[[Query], list[Part]]]] = {
    "predict": lambda asked: [Belief(asked.model)],
    "detect": lambda asked: [Trust(asked.model)],
    "decide": lambda asked: [Belief(asked.model), Trust(asked.model), Decision(_policy(asked))],
}

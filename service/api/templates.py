"""Answers as text, without an object for any number: what many answers have in common is written once.

A template is the JSON of a row, made of the same shapes as any other row's, with places for its numbers. What a row
says in words (its label, flags, evidence, action) chooses the template; all numbers become text in one call.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, Protocol

import numpy as np
import orjson

from service.api import answers, shapes
from service.choices import choose_policy
from service.core.decision import REASONS
from service.core.numerics import Array
from service.core.pipeline import Policy
from service.inference import Inquiry, Judgement
from service.runtime.model import Model

Json = dict[str, Any]
Words = tuple[Any, ...]

PLACE: Final = "%" * 201  # no name is as long, so none can be mistaken for it
PLACE_TEXT: Final = re.compile(rb'"' + PLACE.encode() + rb'(\d+)"')
NOTHING: Final = b"[]"
MOST_TEMPLATES: Final = 4096


class Part(Protocol):
    """Some members of a row.

    Attributes
    ----------
    width : int
        How many numbers a row has for them.
    """

    width: int

    def numbers(self, judgement: Judgement) -> list[Array]:
        """Columns (N,) or (N, M)."""

    def words(self, judgement: Judgement) -> Iterable[Words]:
        """What every row says that is no number; hashable."""

    def members(self, words: Words, places: Sequence[str]) -> Json:
        """The members of a row that says this, with places for the numbers in the order of the columns."""


class Belief:
    """Label and probabilities."""

    def __init__(self, model: Model) -> None:
        self._classes = model.classes
        self.width = len(model.classes)

    def numbers(self, judgement: Judgement) -> list[Array]:
        """Probabilities."""
        return [judgement.probabilities]

    def words(self, judgement: Judgement) -> Iterable[Words]:
        """Index of the label."""
        return zip(judgement.log_probs.argmax(axis=1).tolist(), strict=True)

    def members(self, words: Words, places: Sequence[str]) -> Json:
        """Label and probabilities."""
        (label,) = words
        return shapes.belief(self._classes[label], dict(zip(self._classes, places, strict=True)))


class Trust:
    """Flags, p-values and scores."""

    def __init__(self, model: Model) -> None:
        self._chain = model.chain
        self._scores = len(model.chain.detectors)
        self._joint = model.chain.calibrated and bool(model.chain.gate)
        self.width = self._joint + self._scores * (2 if model.chain.calibrated else 1)

    def numbers(self, judgement: Judgement) -> list[Array]:
        """Scores, their p-values, and the joint one."""
        posterior = judgement.posterior
        columns = (posterior.scores, posterior.p_values, posterior.p_value)
        return [column for column in columns if column is not None]

    def words(self, judgement: Judgement) -> Iterable[Words]:
        """The row's flag, every detector's, and evidence as text."""
        posterior = judgement.posterior
        found = {row: orjson.dumps(said) for row, said in answers.evidence_of(judgement).items()}
        evidence = [found.get(row, NOTHING) for row in range(len(posterior.scores))]
        if posterior.flagged is None or posterior.flags is None:
            return ((None, (None,) * self._scores, said) for said in evidence)
        return zip(posterior.flagged.tolist(), map(tuple, posterior.flags.tolist()), evidence, strict=True)

    def members(self, words: Words, places: Sequence[str]) -> Json:
        """How far the row lies within what the model knows."""
        flagged, flags, evidence = words
        s, detectors = self._scores, self._chain.detectors
        p_values = places[s : 2 * s] if self._chain.calibrated else [None] * s
        columns = zip(detectors, places[:s], p_values, flags, strict=True)
        scores = {d.name: shapes.score(value, d.threshold, p, own) for d, value, p, own in columns}
        joint = places[-1] if self._joint else None
        return {"ood": shapes.trust(flagged, joint, orjson.Fragment(evidence), scores)}


class Decision:
    """What to do."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._actions = len(policy.actions)
        self.width = self._actions + (2 if policy.on_ood is None else 3)

    def numbers(self, judgement: Judgement) -> list[Array]:
        """Risks, margin, and what it is worth to know or to hand over."""
        (decided,) = judgement.decided
        taken = decided.decisions
        columns = (taken.risks, taken.margin, taken.information, taken.deferral)
        return [column for column in columns if column is not None]

    def words(self, judgement: Judgement) -> Iterable[Words]:
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
    """Writes what is answered to one inquiry.

    Parameters
    ----------
    inquiry : Inquiry
        One that `suits`.
    """

    def __init__(self, inquiry: Inquiry) -> None:
        self._parts = _PARTS[inquiry.options.verb](inquiry)
        head = answers.head(
            inquiry.model, inquiry.target, inquiry.options.site, request_id=_place(0), created=_place(1)
        )
        self._body = Template({**head, "predictions": [_place(2)]})
        self._row = lru_cache(maxsize=MOST_TEMPLATES)(self._row_of)

    @staticmethod
    def suits(inquiry: Inquiry) -> bool:
        """Whether all rows have the same members: one threshold, policy and prevalence for all, and no more asked."""
        model, options = inquiry.model, inquiry.options
        plain = model.task == "multiclass" and all(d.by_class is None for d in model.chain.detectors)
        lists = isinstance(options.policy, tuple) or isinstance(options.prevalence, tuple)
        more = (options.coverage, options.fdr, options.session)
        return plain and not lists and not isinstance(options.site, tuple) and more == (None,) * len(more)

    def write(self, judgement: Judgement, ids: Sequence[str], sizes: Sequence[int], *, at: datetime) -> list[bytes]:
        """The body of every call's answer.

        Parameters
        ----------
        judgement : Judgement
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
                template.filled([b'%b.%d"' % (name[:-1], i), *numbers])
                for i, (template, numbers) in zip(range(size), rows, strict=False)
            ]
            bodies.append(self._body.filled([name, moment, b",".join(own)]))
        return bodies

    def _rows(self, judgement: Judgement) -> Iterator[tuple[Template, list[bytes]]]:
        # A template of every row, and its numbers as text.
        texts = _texts([column for part in self._parts for column in part.numbers(judgement)])
        words = zip(*(part.words(judgement) for part in self._parts), strict=True)
        for template, text in zip(map(self._row, words), texts, strict=True):
            yield template, text.split(b",")

    def _row_of(self, words: tuple[Words, ...]) -> Template:
        row: Json = {"prediction_id": _place(0)}
        start = 1
        for part, said in zip(self._parts, words, strict=True):
            row |= part.members(said, [_place(start + i) for i in range(part.width)])
            start += part.width
        return Template(row)


def _place(number: int) -> str:
    return f"{PLACE}{number}"


def _texts(columns: Sequence[Array]) -> list[bytes]:
    if len(columns[0]) == 1:  # for one row a list is made sooner than an array
        return [orjson.dumps([number for column in columns for number in column.ravel().tolist()])[1:-1]]
    # One array, so that one call writes all numbers: b"[[1.0,2.0],[3.0,4.0]]".
    parts = [column if column.ndim == 2 else column[:, None] for column in columns]
    table = np.empty((len(parts[0]), sum(part.shape[1] for part in parts)))
    np.concatenate(parts, axis=1, out=table)
    return orjson.dumps(table, option=orjson.OPT_SERIALIZE_NUMPY)[2:-2].split(b"],[")


def _policy(inquiry: Inquiry) -> Policy:
    wanted = inquiry.options.policy
    return choose_policy(inquiry.model, None if isinstance(wanted, tuple) else wanted)


_PARTS: Final[dict[str, Callable[[Inquiry], list[Part]]]] = {
    "predict": lambda asked: [Belief(asked.model)],
    "detect": lambda asked: [Trust(asked.model)],
    "decide": lambda asked: [Belief(asked.model), Trust(asked.model), Decision(_policy(asked))],
}

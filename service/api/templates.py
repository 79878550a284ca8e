"""Answers as text, without an object for any number: what many answers have in common is written once.

A template is the JSON of a row, made of the same shapes as any other row's, with places for its numbers. What a row
says in words (its label, flags, evidence, action) chooses the template; all numbers become text in one call.
"""

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
PLACE_TEXT: Final = orjson.dumps(PLACE).replace(b"%", b"%%")
NOTHING: Final = b"[]"
MOST_TEMPLATES: Final = 4096


class Part(Protocol):
    """Some members of a row."""

    def numbers(self, judgement: Judgement) -> list[Array]:
        """Columns (N,) or (N, M), in the order of a row's text; one that not all rows have comes last."""

    def words(self, judgement: Judgement) -> Iterable[Words]:
        """What every row says that is no number; hashable."""

    def members(self, words: Words) -> Json:
        """The members of a row that says this, with `PLACE` for every number."""


class Belief:
    """Label and probabilities."""

    def __init__(self, model: Model) -> None:
        self._classes = model.classes

    def numbers(self, judgement: Judgement) -> list[Array]:
        """Probabilities."""
        return [judgement.probabilities]

    def words(self, judgement: Judgement) -> Iterable[Words]:
        """Index of the label."""
        return zip(judgement.log_probs.argmax(axis=1).tolist(), strict=True)

    def members(self, words: Words) -> Json:
        """Label and probabilities."""
        (label,) = words
        return shapes.belief(self._classes[label], dict.fromkeys(self._classes, PLACE))


class Trust:
    """Flags, p-values and scores."""

    def __init__(self, model: Model) -> None:
        self._chain = model.chain
        self._p_value = PLACE if model.chain.calibrated and model.chain.gate else None

    def numbers(self, judgement: Judgement) -> list[Array]:
        """Joint p-value, then score and p-value of every detector."""
        posterior = judgement.posterior
        if posterior.p_values is None:
            return [posterior.scores]
        both = np.empty((len(posterior.scores), 2 * len(self._chain.detectors)))
        both[:, ::2], both[:, 1::2] = posterior.scores, posterior.p_values
        return [both] if posterior.p_value is None else [posterior.p_value, both]

    def words(self, judgement: Judgement) -> Iterable[Words]:
        """The row's flag, every detector's, and evidence as text."""
        posterior = judgement.posterior
        found = {row: orjson.dumps(said) for row, said in answers.evidence_of(judgement).items()}
        evidence = [found.get(row, NOTHING) for row in range(len(posterior.scores))]
        if posterior.flagged is None or posterior.flags is None:
            return ((None, (None,) * len(self._chain.detectors), said) for said in evidence)
        return zip(posterior.flagged.tolist(), map(tuple, posterior.flags.tolist()), evidence, strict=True)

    def members(self, words: Words) -> Json:
        """How far the row lies within what the model knows."""
        flagged, flags, evidence = words
        p_value = PLACE if self._chain.calibrated else None
        scores = {
            d.name: shapes.score(PLACE, d.threshold, p_value, own)
            for d, own in zip(self._chain.detectors, flags, strict=True)
        }
        return {"ood": shapes.trust(flagged, self._p_value, orjson.Fragment(evidence), scores)}


class Decision:
    """What to do."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def numbers(self, judgement: Judgement) -> list[Array]:
        """Risk of the action taken, of all, margin and values; risk of the action that costs would take."""
        (decided,) = judgement.decided
        taken, rows = decided.decisions, decided.rows
        values = [taken.risks[rows, taken.action], taken.risks, taken.margin, taken.information]
        deferral = [] if taken.deferral is None else [taken.deferral]
        return [*values, *deferral, taken.risks[rows, taken.least_cost]]

    def words(self, judgement: Judgement) -> Iterable[Words]:
        """Indices of the action taken, of that of least cost, and of the reason."""
        (decided,) = judgement.decided
        taken = decided.decisions
        return zip(taken.action.tolist(), taken.least_cost.tolist(), taken.reason.tolist(), strict=True)

    def members(self, words: Words) -> Json:
        """The decision."""
        action, least_cost, reason = words
        decision = shapes.decision(
            self._policy,
            action,
            least_cost,
            REASONS[reason],
            risks=[PLACE] * len(self._policy.actions),
            margin=PLACE,
            information=PLACE,
            deferral=None if self._policy.on_ood is None else PLACE,
        )
        return {"decision": decision}


class Templates:
    """Writes what is answered to one inquiry.

    Parameters
    ----------
    inquiry : Inquiry
        One that `suits`.
    """

    def __init__(self, inquiry: Inquiry) -> None:
        self._parts = _PARTS[inquiry.options.verb](inquiry)
        head = answers.head(inquiry.model, inquiry.target, inquiry.options.site, request_id=PLACE, created=PLACE)
        self._body = _with_places({**head, "predictions": [PLACE]})
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
                template % (b'%b.%d"' % (name[:-1], i), *cells)
                for i, (template, cells) in zip(range(size), rows, strict=False)
            ]
            bodies.append(self._body % (name, moment, b",".join(own)))
        return bodies

    def _rows(self, judgement: Judgement) -> Iterator[tuple[bytes, list[bytes]]]:
        # A template of every row, and the texts of the numbers that go into it.
        texts = _texts([column for part in self._parts for column in part.numbers(judgement)])
        words = zip(*(part.words(judgement) for part in self._parts), strict=True)
        for (template, places), text in zip(map(self._row, words), texts, strict=True):
            yield template, text.split(b",", places)[:places]

    def _row_of(self, words: tuple[Words, ...]) -> tuple[bytes, int]:
        row: Json = {"prediction_id": PLACE}
        for part, said in zip(self._parts, words, strict=True):
            row |= part.members(said)
        template = _with_places(row)
        return template, template.count(b"%b") - 1


def _policy(inquiry: Inquiry) -> Policy:
    wanted = inquiry.options.policy
    return choose_policy(inquiry.model, None if isinstance(wanted, tuple) else wanted)


def _with_places(document: Json) -> bytes:
    return orjson.dumps(document).replace(b"%", b"%%").replace(PLACE_TEXT, b"%b")


def _texts(columns: Sequence[Array]) -> list[bytes]:
    # One array, so that one call writes all numbers: b"[[1.0,2.0],[3.0,4.0]]".
    parts = [column if column.ndim == 2 else column[:, None] for column in columns]
    table = np.empty((len(parts[0]), sum(part.shape[1] for part in parts)))
    np.concatenate(parts, axis=1, out=table)
    return orjson.dumps(table, option=orjson.OPT_SERIALIZE_NUMPY)[2:-2].split(b"],[")


_PARTS: Final[dict[str, Callable[[Inquiry], list[Part]]]] = {
    "predict": lambda asked: [Belief(asked.model)],
    "detect": lambda asked: [Trust(asked.model)],
    "decide": lambda asked: [Belief(asked.model), Trust(asked.model), Decision(_policy(asked))],
}

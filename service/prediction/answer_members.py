"""The members of answers that all tasks have: written down here once, for every way of writing an answer.

To add one, add a `Member` to a group. What only one task has is in `service.prediction.tasks`.
"""

from collections.abc import Sequence
from itertools import chain
from operator import attrgetter
from typing import Any, Final, NamedTuple

import numpy as np

from service.core.detector import Detector
from service.core.numerics import Array, Flags
from service.core.pipeline import Policy, Posterior
from service.prediction.answer import Answer, Decided, Part
from service.prediction.answer_member import ABSENT, AnswerScope, Group, Json, Member, ranged
from service.prediction.evidence import evidence_of


class OodScore(NamedTuple):
    """One OOD score of an answer's rows.

    Attributes
    ----------
    posterior : Posterior
    detector : Detector
    place : int
        Among the scores.
    """

    posterior: Posterior
    detector: Detector
    place: int

    @property
    def threshold(self) -> float | Array | None:
        """Of all rows, or of each where it depends on the predicted class."""
        detector = self.detector
        return detector.threshold if detector.by_class is None else detector.thresholds(self.posterior.logits)

    @property
    def p_values(self) -> Array | None:
        """Of every row."""
        return None if self.posterior.p_values is None else self.posterior.p_values[:, self.place]

    @property
    def flags(self) -> Flags | None:
        """Of every row."""
        return None if self.posterior.flags is None else self.posterior.flags[:, self.place]


def of_answer(answer: Answer, parts: Sequence[Part], place: int) -> Answer:
    """The answer itself, as the source of a group."""
    del parts, place
    return answer


def _of_parts(answer: Answer, parts: Sequence[Part], place: int) -> Sequence[Part]:
    del answer, place
    return parts


def _scored(answer: Answer, parts: Sequence[Part], place: int) -> OodScore:
    del parts
    return OodScore(answer.posterior, answer.model.chain.detectors[place], place)


def _decided(answer: Answer, parts: Sequence[Part], place: int) -> Decided:
    del parts
    return answer.decided[place]


def _prediction_ids(parts: Sequence[Part]) -> list[str]:
    return [f"{part.request_id}.{row}" for part in parts for row in part.places or range(part.rows)]


def _ids(parts: Sequence[Part]) -> list[str | None] | None:
    if all(part.ids is None for part in parts):
        return None
    return list(chain.from_iterable([None] * part.rows if part.ids is None else part.ids for part in parts))


def _evidence(answer: Answer) -> list[list[Json]]:
    found = evidence_of(answer)
    return [found.get(row, []) for row in range(len(answer))]


def _overridden(decided: Decided) -> Array | None:
    taken = decided.decisions
    if taken.action is taken.least_cost:
        return None
    least: Array = np.where(taken.action == taken.least_cost, ABSENT, taken.least_cost)
    return least


def _takes_flagged_rows(scope: AnswerScope) -> bool:
    return any(policy.on_ood is not None for policy in _own(scope))


def _own(scope: AnswerScope) -> Sequence[Policy]:
    return scope.policies if scope.policy is None else (scope.policy,)


def _calibrated(scope: AnswerScope) -> bool:
    return scope.model.chain.calibrated


def _monitors(scope: AnswerScope) -> bool:
    return scope.options.session is not None


def _gated(scope: AnswerScope) -> bool:
    return bool(scope.model.chain.gate)


IDENTITY: Final[Group[Sequence[Part]]] = Group(
    "",
    (
        Member(
            "prediction_id",
            "text",
            "Name of this answered row; outcomes refer to it.",
            _prediction_ids,
            tensor="prediction_id",
        ),
        Member("id", "text", "The caller's name of this row.", _ids, optional=True),
    ),
    _of_parts,
)
OOD: Final[Group[Answer]] = Group(
    "ood",
    (
        Member(
            "flagged",
            "flag",
            "Whether the row is out of distribution: a score or rule of the gate flags it.",
            attrgetter("posterior.flagged"),
            nullable=True,
            known=_calibrated,
            tensor="ood",
        ),
        Member(
            "p_value",
            "number",
            "Joint p-value of the scores in the gate.",
            attrgetter("posterior.p_value"),
            nullable=True,
            known=lambda scope: _calibrated(scope) and _gated(scope),
            tensor="p_value",
        ),
        Member(
            "discovered",
            "flag",
            "Whether the row is out of distribution at the requested rate of false discoveries.",
            attrgetter("discovered"),
            nullable=True,
            when=lambda scope: scope.options.fdr is not None,
        ),
        Member(
            "evidence",
            "value",
            "Why the row is flagged: scores, and rules with the features concerned.",
            _evidence,
            schema={
                "type": "array",
                "items": {
                    "type": "object",
                    "description": "A score, or a rule with the features that it concerns.",
                    "properties": {
                        "rule": {"type": "string", "description": "`range` or `session`."},
                        "features": {
                            "type": "array",
                            "items": {"type": "string"},
                            "description": "Features outside their plausible range.",
                        },
                        "score": {"type": "string", "description": "A score above its threshold."},
                    },
                },
            },
        ),
    ),
    of_answer,
    {"ood": "Whether the row is out of distribution.", "ood.scores": "Every out-of-distribution score, by name."},
)
SCORES: Final[Group[OodScore]] = Group(
    "ood.scores.{score}",
    (
        Member(
            "score",
            "number",
            "The score; a larger one is further from the training data.",
            lambda scored: scored.posterior.scores[:, scored.place],
        ),
        Member(
            "threshold",
            "number",
            "Above it, the score flags the row.",
            attrgetter("threshold"),
            nullable=True,
        ),
        Member(
            "p_value",
            "number",
            "Share of calibration rows that score at least as high.",
            attrgetter("p_values"),
            nullable=True,
        ),
        Member("flagged", "flag", "Whether this score flags the row.", attrgetter("flags"), nullable=True),
    ),
    _scored,
    {"ood.scores.{score}": "One out-of-distribution score."},
)
DECISION: Final[tuple[Member[Decided], ...]] = (
    Member("policy.name", "text", "Name of the policy.", attrgetter("policy.name")),
    Member(
        "policy.source",
        "text",
        "Where its costs were declared: `manifest` or `request`.",
        attrgetter("policy.source"),
    ),
    Member(
        "action",
        "name",
        "The action to take.",
        attrgetter("decisions.action"),
        of="action",
        tensor="action",
    ),
    Member("risk", "number", "Expected cost of that action.", pick=("risks.{action}", "action")),
    Member(
        "risks.{action}",
        "number",
        "Expected cost of every action.",
        attrgetter("decisions.risks"),
        tensor="risk",
    ),
    Member(
        "margin",
        "number",
        "Least expected cost of the other actions, minus that of this one.",
        attrgetter("decisions.margin"),
    ),
    Member(
        "value_of_information",
        "number",
        "Expected saving if the true class were known before acting.",
        attrgetter("decisions.information"),
    ),
    Member(
        "value_of_deferring",
        "number",
        "Least expected cost of the other actions, minus that of the action for flagged rows.",
        attrgetter("decisions.deferral"),
        when=_takes_flagged_rows,
    ),
    Member(
        "reason",
        "name",
        "Why this action: `lowest_risk`, `tie`, `ood`, `ood_unavailable` or `path`.",
        attrgetter("decisions.reason"),
        of="reason",
    ),
    Member(
        "overridden.action",
        "name",
        "The action of least expected cost.",
        _overridden,
        of="action",
        optional=True,
    ),
    Member(
        "overridden.risk",
        "number",
        "Its expected cost.",
        pick=("risks.{action}", "overridden.action"),
        optional=True,
    ),
)
OOD_SCORE: Final[Group[Answer]] = Group(
    "",
    (
        Member(
            "ood_score",
            "number",
            "The first score in the gate.",
            lambda answer: answer.posterior.scores[:, answer.model.chain.gate[0]],
            when=_gated,
            tensor="ood_score",
        ),
    ),
    of_answer,
)
RECORDED: Final[Group[Answer]] = Group(
    "",
    (
        Member(
            "outside",
            "names",
            "Features outside their plausible range.",
            lambda answer: answer.posterior.outside[:, ranged(answer.model)],
            of="feature",
            when=lambda scope: bool(ranged(scope.model)),
        ),
        Member(
            "session.alarm",
            "flag",
            "Whether an alarm of the session stood at this step.",
            attrgetter("monitored.alarm"),
            when=_monitors,
        ),
        Member(
            "session.statistic",
            "number",
            "Evidence that the session had gathered after these rows.",
            attrgetter("monitored.session.state.statistic"),
            when=_monitors,
        ),
        Member(
            "session.steps",
            "count",
            "Steps of the session after these rows.",
            attrgetter("monitored.session.state.steps"),
            when=_monitors,
        ),
    ),
    of_answer,
)
LOGITS: Final[Group[Answer]] = Group(
    "",
    (
        Member(
            "logits.{class}",
            "number",
            "Raw output of the model as logits, before calibration.",
            attrgetter("posterior.logits"),
            tensor="logits",
            single=True,
        ),
    ),
    of_answer,
)


def decisions(path: str, *, positions: bool = False) -> Group[Decided]:
    """Decisions, as a task's rows hold them.

    Parameters
    ----------
    path : str
    positions : bool
        Whether every position of a sequence has one.
    """
    whole, _, label = path.partition(".")
    name = whole.removesuffix("[]")
    objects = {
        path: "What to do, and why.",
        **({name: "What to do about every label that has costs, and why."} if label else {}),
        f"{path}.policy": "Which costs decided.",
        f"{path}.overridden": "What the costs alone would choose, where a flag or the path overruled it.",
    }
    return Group(path, DECISION, _decided, objects, when=lambda scope: bool(scope.policies), positions=positions)


TOPICS: Final[dict[str, tuple[Group[Any], ...]]] = {
    "identity": (IDENTITY,),
    "ood": (OOD, SCORES),
    "ood_tensors": (OOD_SCORE,),
    "recorded": (RECORDED,),
}

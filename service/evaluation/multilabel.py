"""Multilabel rows as problems of an evaluation: each label a binary one, and all labels of a row together.

Tested in tests/tasks/test_labels.py and tests/evaluation/test_evaluate_before.py.
"""

from dataclasses import asdict, dataclass

import numpy as np

from service.bundle.tasks import ABSENT, PRESENT
from service.core.assessment.joint_labels import joint
from service.core.multilabel import at_prevalence
from service.core.numerics import Array, log_softmax, two_column
from service.core.pipeline import choose
from service.evaluation.classification_problem import ClassificationProblem, LabelledAnswer, SampleDesign
from service.runtime.model import Model


@dataclass(frozen=True, slots=True)
class ExactMatch:
    """How often the whole set of likely labels was right, against the product of the labels' probabilities.

    Attributes
    ----------
    observed : float
        Share of rows in which every label was predicted right.
    product : float
        Mean product of the probabilities: the share, were labels independent given the row.
    low, high : float
        Fréchet bounds: the share under any dependence, as far as each probability is right.
    standard_error : float
        Of ``observed`` about ``product``, were that right.
    product_is_wrong : bool
        Whether the product differs from ``observed`` by more than 4 standard errors.
    """

    observed: float
    product: float
    low: float
    high: float
    standard_error: float
    product_is_wrong: bool


@dataclass(frozen=True, slots=True)
class LabelStructure:
    """What concerns several labels of a row."""

    exact_match: ExactMatch


def multilabel(labelled: LabelledAnswer) -> tuple[dict[str, ClassificationProblem], LabelStructure]:
    """A binary problem for every label, and how all of them come together.

    Parameters
    ----------
    labelled : LabelledAnswer
    """
    raw, names = _raw(labelled), labelled.answer.model.classes
    problems = {name: _problem(labelled, raw[:, m], m) for m, name in enumerate(names)}
    return problems, LabelStructure(_exact_match(labelled))


def _raw(labelled: LabelledAnswer) -> Array:
    """Logits of absence and presence at the answer's prevalence, shape (N, M, 2)."""
    answer = labelled.answer
    raw = np.stack([two_column(column) for column in answer.posterior.logits.T], axis=1)
    return at_prevalence(raw, source=answer.model.source, target=answer.target)


def _problem(labelled: LabelledAnswer, raw: Array, m: int) -> ClassificationProblem:
    answer, flagged = labelled.answer, labelled.answer.posterior.flagged
    policies = {name: costs[m] for name, costs in labelled.chosen_label_policies.items() if m in costs}
    log_probs = answer.log_probs[:, m]
    return ClassificationProblem(
        classes=(ABSENT, PRESENT),
        log_probs=log_probs,
        uncalibrated=log_softmax(raw),
        labels=labelled.labels[:, m],
        sample=SampleDesign.of(labelled.weights, labelled.groups),
        policies=policies,
        decisions={name: choose(log_probs, policy, flagged=flagged) for name, policy in policies.items()},
        calibrator=_calibrator(answer.model, answer.model.classes[m]),
    )


def _calibrator(model: Model, label: str) -> str:
    record = model.bundle.record
    if record is None:
        return "uncalibrated"
    own = record.labels.get(label)
    return record.calibrator.method if own is None else own.chain[-1]


def _exact_match(labelled: LabelledAnswer) -> ExactMatch:
    log_probs, sample = labelled.answer.log_probs, SampleDesign.of(labelled.weights, labelled.groups)
    likely, right = np.exp(log_probs.max(axis=2)), log_probs.argmax(axis=2) == labelled.labels
    found = joint(likely, right, weights=sample.weights, groups=sample.groups)
    return ExactMatch(**asdict(found), product_is_wrong=found.product_is_wrong)

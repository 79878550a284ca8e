"""Multiclass rows as one problem of an evaluation. Tested in tests/evaluation/test_evaluate.py."""

from typing import Final

from service.core.numerics import log_softmax
from service.core.pipeline import at_prevalence, choose
from service.evaluation.classification_problem import ClassificationProblem, LabelledAnswer, SampleDesign

ROWS: Final = "rows"


def multiclass(labelled: LabelledAnswer) -> tuple[dict[str, ClassificationProblem], None]:
    """One problem, of all rows.

    Parameters
    ----------
    labelled : LabelledAnswer
    """
    answer, policies = labelled.answer, labelled.chosen_policies
    model, flagged = answer.model, answer.posterior.flagged
    raw = at_prevalence(answer.posterior.logits, source=model.source, target=answer.target)
    problem = ClassificationProblem(
        classes=model.classes,
        log_probs=answer.log_probs,
        uncalibrated=log_softmax(raw),
        labels=labelled.labels,
        sample=SampleDesign.of(labelled.weights, labelled.groups),
        policies=policies,
        decisions={name: choose(answer.log_probs, policy, flagged=flagged) for name, policy in policies.items()},
        calibrator="uncalibrated" if model.status == "uncalibrated" else model.method,
    )
    return {ROWS: problem}, None

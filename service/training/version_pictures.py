"""Pictures of published versions on their test rows: what the evaluation of the product found.

Tested in tests/training/test_version_pictures.py.
"""

from collections.abc import Mapping

from service.core.assessment.miscalibration import favourite
from service.core.numerics import log_softmax
from service.evaluation.evaluate import Evaluation
from service.training.failures import TrainingFailed
from service.training.pictures import histograms, reliability_before_and_after


def reliability_of_versions(evaluations: Mapping[str, Evaluation]) -> str:
    """Probability of the predicted class against its frequency, as trained and as served; multiclass.

    Parameters
    ----------
    evaluations : mapping of str to Evaluation
        By the name of the version.
    """
    events = {}
    for name, evaluation in evaluations.items():
        posterior, labels = evaluation.labelled.answer.posterior, evaluation.labelled.labels
        events[f"{name}, as trained"] = favourite(log_softmax(posterior.logits), labels)
        events[f"{name}, served"] = favourite(posterior.log_probs, labels)
    return reliability_before_and_after(events)


def score_histograms(evaluation: Evaluation, score: str, *, names: tuple[str, str], label: str) -> str:
    """Shares of test rows and of OOD data by one score.

    Parameters
    ----------
    evaluation : Evaluation
        With OOD data.
    score : str
        Of the version.
    names : tuple of (str, str)
        What the test rows are, and the OOD data.
    label : str
        Of the axis.

    Raises
    ------
    TrainingFailed
        If it was evaluated without OOD data.
    """
    own, ood = evaluation.labelled.answer.posterior, evaluation.labelled.ood_posterior
    if ood is None:
        raise TrainingFailed("the version was evaluated without OOD data; there is nothing to compare with")
    place = list(evaluation.report.ood.scores).index(score)
    samples = (posterior.scores[:, place] for posterior in (own, ood))
    return histograms(dict(zip(names, samples, strict=True)), label=label)

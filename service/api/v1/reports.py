"""What `:evaluate` and `:estimate` compute of all rows of a request.

Tested in tests/api/v1/test_answers.py and tests/api/test_estimate.py.
"""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from service.api.v1.labelled import evaluate_answer, read_labelled
from service.api.v1.requests import EstimateRequest, EvaluateRequest
from service.evaluation.prevalence import estimate
from service.evaluation.training_losses import check_names
from service.prediction.answer import Prediction
from service.runtime.model import Model

Json = dict[str, Any]
Report = Callable[[Prediction], Json]
"""Members that stand beside the header of an answer."""


def evaluation_report(request: EvaluateRequest, model: Model) -> Report:
    """Metrics and realised costs of labelled rows.

    Raises
    ------
    InvalidLabels, InvalidParameters
    """
    rows, losses = read_labelled(request, model), request.parameters.losses
    check_names(losses, model.manifest)

    def report(prediction: Prediction) -> Json:
        return {"evaluation": evaluate_answer(rows, prediction, losses)}

    return report


def estimate_report(request: EstimateRequest, model: Model) -> Report:
    """Prevalence of unlabelled rows."""
    del request

    def report(prediction: Prediction) -> Json:
        return {"estimate": asdict(estimate(model, prediction.posterior))}

    return report

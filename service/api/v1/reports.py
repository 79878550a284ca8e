"""What `:evaluate` and `:estimate` compute of all rows of a request."""

from collections.abc import Callable
from typing import Any

from service.api.v1.answers import estimate_body
from service.api.v1.labelled import judge, read_case
from service.api.v1.requests import EstimateRequest, EvaluateRequest
from service.evaluation.prevalence import estimate
from service.evaluation.training_losses import check_names, named_losses
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
    case, losses = read_case(request, model), request.parameters.losses
    check_names(losses, model.manifest)

    def report(prediction: Prediction) -> Json:
        found = judge(case, prediction)
        named = named_losses(losses, prediction.log_probs, case.labels, model.manifest)
        return {"evaluation": {**found, "losses": named}}

    return report


def estimate_report(request: EstimateRequest, model: Model) -> Report:
    """Prevalence of unlabelled rows."""
    del request

    def report(prediction: Prediction) -> Json:
        return {"estimate": estimate_body(estimate(model, prediction.posterior), model.classes)}

    return report

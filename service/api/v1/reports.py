"""What `:evaluate` and `:estimate` compute of all rows of a request."""

from collections.abc import Callable
from typing import Any

from service.api.v1.labelled import judge, read_case
from service.api.v1.requests import EstimateRequest, EvaluateRequest
from service.evaluation.prevalence import LEVEL, MethodEstimate, PrevalenceEstimate, RowsEstimate, estimate
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


def estimate_body(found: PrevalenceEstimate, classes: tuple[str, ...]) -> Json:
    """Body of `:estimate`."""
    return {
        "alarm": found.alarm,
        "condition": found.condition,
        "level": LEVEL,
        "flagged": found.flagged,
        "all_rows": _rows_estimate(found.all_rows, classes),
        "unflagged_rows": None if found.unflagged_rows is None else _rows_estimate(found.unflagged_rows, classes),
        **({} if found.obstacle is None else {"obstacle": found.obstacle}),
    }


def _rows_estimate(found: RowsEstimate, classes: tuple[str, ...]) -> Json:
    return {"rows": found.rows, **{name: _method_estimate(m, classes) for name, m in found.methods.items()}}


def _method_estimate(found: MethodEstimate, classes: tuple[str, ...]) -> Json:
    columns = (column.tolist() for column in (found.prevalence, found.low, found.high))
    shares = {
        name: {"share": share, "low": low, "high": high}
        for name, share, low, high in zip(classes, *columns, strict=True)
    }
    return {"prevalence": shares, "differs": found.differs, "settled": found.settled}

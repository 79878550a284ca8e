"""What `:evaluate` and `:estimate` compute of all rows of a request."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from service.api.v1.labelled import judge, read_case
from service.api.v1.requests import EstimateRequest, EvaluateRequest
from service.evaluation.prevalence import LEVEL, MethodEstimate, PrevalenceEstimate, RowsEstimate, estimate
from service.evaluation.training_losses import check_names, named_losses
from service.prediction.answer import Answer, Part, Prediction
from service.prediction.call import Call
from service.prediction.header import head_of, header
from service.runtime.model import Model

Json = dict[str, Any]
Compute = Callable[[Prediction], Json]


@dataclass(frozen=True, slots=True)
class Report:
    """What a verb computes of all rows of a request together.

    Attributes
    ----------
    member : str
        Where it stands, beside the header.
    prepared : callable
        Of the request and the model: checks what is special about the request, and gives what computes the report.
    """

    member: str
    prepared: Callable[[Any, Model], Compute]


class ReportEncoder:
    """Writes the response to one request with a report.

    Parameters
    ----------
    member : str
    compute : callable
    """

    def __init__(self, member: str, compute: Compute) -> None:
        self._member = member
        self._compute = compute

    def write(self, answer: Answer, parts: Sequence[Part], *, created: datetime) -> list[bytes]:
        """As `Encoder.write`; it may take long."""
        (part,) = parts
        prediction = Prediction.of(answer, call=Call(part.request_id), created=created)
        head = head_of(answer, request_id=part.request_id, created=created)
        return [orjson.dumps({**header(head), self._member: self._compute(prediction)})]


def _evaluation(request: EvaluateRequest, model: Model) -> Compute:
    """Metrics and realised costs of labelled rows.

    Raises
    ------
    InvalidLabels, InvalidParameters
    """
    case, losses = read_case(request, model), request.parameters.losses
    check_names(losses, model.manifest)

    def compute(prediction: Prediction) -> Json:
        found = judge(case, prediction)
        named = named_losses(losses, prediction.log_probs, case.labels, model.manifest)
        return {**found, "losses": named}

    return compute


def _estimate(request: EstimateRequest, model: Model) -> Compute:
    """Prevalence of unlabelled rows."""
    del request

    return lambda prediction: estimate_body(estimate(model, prediction.posterior), model.classes)


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


EVALUATION: Final = Report("evaluation", _evaluation)
ESTIMATE: Final = Report("estimate", _estimate)

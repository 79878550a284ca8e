"""What `:evaluate` and `:estimate` compute of all rows of a request.

Tested in tests/api/v1/test_verbs.py, tests/api/test_served_numbers.py and tests/api/test_estimate.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from service.api.v1.labelled import evaluate_answer, read_labelled
from service.api.v1.requests import EstimateRequest, EvaluateRequest
from service.evaluation.prevalence import PrevalenceEstimate, estimate
from service.evaluation.report import EvaluationReport
from service.evaluation.training_losses import check_names
from service.prediction.answer import Answer, Part
from service.prediction.answer_member import Json
from service.prediction.header import head_of, header
from service.runtime.model import Model

Compute = Callable[[Answer], Json]


@dataclass(frozen=True, slots=True)
class VerbReport:
    """What a verb computes of all rows of a request together.

    Attributes
    ----------
    member : str
        Where it stands, beside the header.
    values : type
        The dataclass that holds it; the OpenAPI document is made of its docstring.
    prepared : callable
        Of the request and the model: checks what is special about the request, and gives what computes the report.
    """

    member: str
    values: type
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
        head = head_of(answer, request_id=part.request_id, created=created)
        return [orjson.dumps({**header(head), self._member: self._compute(answer)})]


def _evaluation(request: EvaluateRequest, model: Model) -> Compute:
    """Metrics and realised costs of labelled rows.

    Raises
    ------
    InvalidLabels, InvalidParameters
    """
    rows, losses = read_labelled(request, model), request.parameters.losses
    check_names(losses, model.manifest)

    def compute(answer: Answer) -> Json:
        return evaluate_answer(rows, answer, losses)

    return compute


def _estimate(request: EstimateRequest, model: Model) -> Compute:
    """Prevalence of unlabelled rows."""
    del request

    def compute(answer: Answer) -> Json:
        return asdict(estimate(model, answer.posterior))

    return compute


EVALUATION: Final = VerbReport("evaluation", EvaluationReport, _evaluation)
ESTIMATE: Final = VerbReport("estimate", PrevalenceEstimate, _estimate)

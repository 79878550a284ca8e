"""Verbs: what a model can do with rows of a request. The router, the document, metrics and messages read `VERBS`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from service.api.v1.parameters import (
    decide_options,
    detect_options,
    estimate_options,
    evaluate_options,
    predict_options,
)
from service.api.v1.reports import ESTIMATE, EVALUATION, VerbReport
from service.api.v1.requests import (
    DecideRequest,
    DetectRequest,
    EstimateRequest,
    EvaluateRequest,
    PredictRequest,
    Wire,
)
from service.prediction.options import Options
from service.runtime.model import Model


@dataclass(frozen=True, slots=True)
class Verb:
    """What a model can do with the rows of a request.

    Attributes
    ----------
    name : str
        As it stands after the colon of a path.
    summary : str
    scope : str
        That a caller needs, one of `access.caller.SCOPES`.
    request : type of Wire
        Its body: ``instances``, ``parameters``, and what else it takes.
    options : callable
        What its parameters mean: of its name, the parameters, the model and the number of rows.
    topics : tuple of str
        Members that it answers of every row, as `Query.plan`.
    report : VerbReport or None
        What it computes of all rows together, in place of an answer for every row.
    """

    name: str
    summary: str
    scope: str
    request: type[Wire]
    options: Callable[[str, Any, Model, int], Options]
    topics: tuple[str, ...] = ()
    report: VerbReport | None = None


_VERBS: Final = (
    Verb(
        "predict",
        "Calibrated probabilities",
        "predict",
        PredictRequest,
        predict_options,
        topics=("identity", "probabilities"),
    ),
    Verb(
        "detect",
        "Out-of-distribution scores and flags",
        "predict",
        DetectRequest,
        detect_options,
        topics=("identity", "ood"),
    ),
    Verb(
        "decide",
        "Probabilities, flags, expected costs and the action of least cost",
        "predict",
        DecideRequest,
        decide_options,
        topics=("identity", "probabilities", "ood", "decision"),
    ),
    Verb(
        "evaluate",
        "Metrics and realised costs of labelled rows",
        "evaluate",
        EvaluateRequest,
        evaluate_options,
        report=EVALUATION,
    ),
    Verb(
        "estimate",
        "Prevalence of unlabelled rows, and whether it differs from the source",
        "evaluate",
        EstimateRequest,
        estimate_options,
        report=ESTIMATE,
    ),
)
VERBS: Final[dict[str, Verb]] = {verb.name: verb for verb in _VERBS}

"""Requests as they are checked."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from service.api.v1.excess import without_excess
from service.api.v1.instances import nearest
from service.bundle.sections import Cost, Name
from service.bundle.tasks import TASKS
from service.bundle.wording import reason
from service.errors import MOST_FAULTS, Fault, InvalidParameters, InvalidRequest, RequestError
from service.prediction.sessions import PER_THOUSAND

ONE, ROWS = "[one]", "[rows]"  # branches of a union, which pydantic names in the path of an error

FIRST_FAULT: Final = Field(fail_fast=True)  # of a list: each of its entries can be at fault many times


def _branch(value: object) -> str:
    return ROWS if isinstance(value, list) else ONE


Share = Annotated[float, Field(strict=True, gt=0, le=1, allow_inf_nan=False)]
Prevalence = Annotated[dict[str, Share], Field(description="Share of every class in the target population.")]
Costs = Annotated[
    dict[Name, dict[str, Cost]],
    Field(
        min_length=2, max_length=1000, description="action -> class -> cost; replaces a policy, and flags never defer."
    ),
]
PerRow = Discriminator(_branch)
PolicyPerRow = Annotated[
    Annotated[Name, Tag(ONE)] | Annotated[list[Name], Tag(ROWS)],
    PerRow,
    Field(description="A policy of the manifest, or a list of one per instance."),
]
SitePerRow = Annotated[
    Annotated[Name, Tag(ONE)] | Annotated[list[Name], Tag(ROWS)],
    PerRow,
    Field(description="A site of the manifest, for its prevalence, or a list of one per instance."),
]
PrevalencePerRow = Annotated[
    Annotated[Prevalence, Tag(ONE)] | Annotated[list[Prevalence], FIRST_FAULT, Tag(ROWS)], PerRow
]
CostsPerRow = Annotated[Annotated[Costs, Tag(ONE)] | Annotated[list[Costs], FIRST_FAULT, Tag(ROWS)], PerRow]
Coverage = Annotated[
    float,
    Field(
        strict=True,
        gt=0,
        lt=1,
        description="Answer `set`: labels that hold the true one with this probability or more.",
    ),
]
Fdr = Annotated[
    float,
    Field(
        strict=True,
        gt=0,
        lt=1,
        description="Answer `discovered`: rows out of distribution, of which this share is false at most.",
    ),
]
LabelCosts = Annotated[
    dict[Name, Costs],
    Field(
        min_length=1,
        description="Of a multilabel model: label -> action -> `absent` and `present` -> cost; replaces a policy.",
    ),
]
SmootherName = Annotated[
    Literal["hmm", "none", "jsd"],
    Field(description="Of a sequence model: how neighbours are smoothed. `jsd` is not calibrated."),
]
Strength = Annotated[float, Field(strict=True, ge=0, le=1e6, allow_inf_nan=False, description="Of the smoother `jsd`.")]
SwitchPrice = Annotated[
    float,
    Field(
        strict=True,
        ge=0,
        le=1e300,
        allow_inf_nan=False,
        description="Of a sequence model: price of changing the action.",
    ),
]
Label = str | int | float | bool
LabelEntry = Annotated[
    Annotated[Label, Tag(ONE)] | Annotated[list[Label], FIRST_FAULT, Tag(ROWS)],
    PerRow,
    Field(description="A class; multilabel: those present, or a 0 or 1 for each; sequence: one for every position."),
]
LabelsAs = Annotated[
    Literal["names", "index0", "index1"],
    Field(description="What labels are: class names, or indices that count from 0 or from 1."),
]
Layout = Annotated[
    Literal["rows", "columns"],
    Field(
        description="`rows` answers `predictions`, one object per instance; `columns` answers `columns`, one array per "
        "member of a row."
    ),
]
Ids = Annotated[list[Name], Field(description="One per instance, echoed as `id`.")]
Subjects = Annotated[list[Name], Field(description="One per instance: whose it is. Kept as tokens, and encrypted.")]
Groups = Annotated[list[Name], Field(description="One per instance: what it is grouped by. Kept as `subjects` are.")]


@dataclass(frozen=True, slots=True)
class Applies:
    """Which models a parameter applies to; stands in the annotation of its field.

    Attributes
    ----------
    tasks : tuple of str
        Tasks whose models it is for.
    by_row : tuple of str
        Tasks whose models it may be a list for, of one per instance; none where it is no such list.
    """

    tasks: tuple[str, ...] = tuple(TASKS)
    by_row: tuple[str, ...] = ()


BY_ROW: Final = Applies(by_row=("multiclass",))


class Wire(BaseModel):
    """Part of a request; a key it does not know is refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


Body = TypeVar("Body", bound=Wire)
Steps = Annotated[int, Field(ge=0, le=1 << 53)]


class SessionState(Wire):
    """A trajectory: null or {} starts one; afterwards what the last answer returned, as it was.

    Attributes
    ----------
    model, version : str
        The model that the session belongs to.
    statistic : float
        Evidence that the trajectory has left the distribution.
    steps : int
        Rows so far.
    steps_since_in_distribution : int
        Rows since the last one without evidence.
    alarm : bool
        Whether an alarm stands.
    """

    model: Name | None = None
    version: Name | None = None
    false_alarms_per_1000_steps: Annotated[
        float,
        Field(
            strict=True,
            ge=0.05,
            le=100,
            allow_inf_nan=False,
            description="False alarms per 1000 in-distribution steps, at most.",
        ),
    ] = PER_THOUSAND
    statistic: Annotated[float | None, Field(strict=True, ge=0, allow_inf_nan=False)] = None
    steps: Steps | None = None
    steps_since_in_distribution: Steps | None = None
    alarm: bool | None = None


SessionParameter = Annotated[
    SessionState | None,
    Field(
        description="The instances are the next steps of this session; null starts one. Without it none is monitored."
    ),
]


class EstimateParameters(Wire):
    """Options of `:estimate`: none yet."""


class RowParameters(Wire):
    """Options of every verb that answers rows."""

    ids: Ids | None = None
    subjects: Subjects | None = None
    groups: Groups | None = None
    layout: Layout = "rows"


class DetectParameters(RowParameters):
    """Options of `:detect`."""

    fdr: Fdr | None = None
    session: SessionParameter = None


class PredictParameters(RowParameters):
    """Options of `:predict`."""

    site: Annotated[SitePerRow | None, BY_ROW] = None
    prevalence: Annotated[PrevalencePerRow | None, BY_ROW] = None
    top_k: Annotated[
        int | None, Field(ge=1, description="Answer `top` in place of `probabilities`."), Applies(("multiclass",))
    ] = None
    coverage: Annotated[Coverage | None, Applies(("multiclass",))] = None
    smoother: Annotated[SmootherName | None, Applies(("sequence",))] = None
    strength: Annotated[Strength | None, Applies(("sequence",))] = None


class DecideParameters(PredictParameters):
    """Options of `:decide`."""

    fdr: Fdr | None = None
    policy: Annotated[PolicyPerRow | None, BY_ROW] = None
    costs: Annotated[CostsPerRow | None, Applies(("multiclass", "sequence"), by_row=("multiclass",))] = None
    label_costs: Annotated[LabelCosts | None, Applies(("multilabel",))] = None
    switch: Annotated[SwitchPrice | None, Applies(("sequence",))] = None
    session: SessionParameter = None


class EvaluateParameters(Wire):
    """Options of `:evaluate`.

    Attributes
    ----------
    site : str
        A site of the manifest, for its prevalence.
    policy : str
        The one policy to report on; without it all of the manifest's.
    """

    site: Name | None = None
    prevalence: Prevalence | None = None
    policy: Name | None = None
    costs: Annotated[Costs | None, Applies(("multiclass", "sequence"))] = None
    label_costs: Annotated[LabelCosts | None, Applies(("multilabel",))] = None
    smoother: Annotated[SmootherName | None, Applies(("sequence",))] = None
    strength: Annotated[Strength | None, Applies(("sequence",))] = None
    losses: Annotated[list[Name], FIRST_FAULT, Field(description="Training losses to report, by name.")] = []
    labels_as: LabelsAs | None = None


ROW: Final = {
    "anyOf": [
        {"type": "array", "items": {}, "description": "Values in the order of the manifest, or a nested tensor."},
        {
            "type": "object",
            "title": "RowObject",
            "additionalProperties": True,
            "description": "Values by the name of a feature or of a graph input.",
        },
    ]
}
Instances = Annotated[
    list[Any],
    Field(
        min_length=1,
        description="Rows: lists of numbers in manifest order, or objects by feature name.",
        json_schema_extra={"items": ROW},
    ),
]


class DetectRequest(Wire):
    """Body of `:detect`."""

    instances: Instances
    parameters: DetectParameters = DetectParameters()


class PredictRequest(Wire):
    """Body of `:predict`."""

    instances: Instances
    parameters: PredictParameters = PredictParameters()


class DecideRequest(Wire):
    """Body of `:decide`."""

    instances: Instances
    parameters: DecideParameters = DecideParameters()


class EvaluateRequest(Wire):
    """Body of `:evaluate`."""

    instances: Instances
    labels: Annotated[list[LabelEntry], Field(description="What was true, by name or index, one per instance.")]
    parameters: EvaluateParameters = EvaluateParameters()


class EstimateRequest(Wire):
    """Body of `:estimate`."""

    instances: Instances
    parameters: EstimateParameters = EstimateParameters()


def applies(kind: type[Wire], name: str) -> Applies:
    """Which models a parameter applies to: to all, where its field states nothing."""
    stated = [entry for entry in kind.model_fields[name].metadata if isinstance(entry, Applies)]
    return stated[0] if stated else Applies()


def valid_texts(ids: object) -> bool:
    """Whether these may be the ids, subjects or groups of instances."""
    try:
        _IDS.validate_python(ids)
    except ValidationError:
        return False
    return True


def parse_request(kind: type[Body], document: object, known: Iterable[str]) -> Body:
    """A request checked against its schema.

    Parameters
    ----------
    kind : type
    document : object
        Parsed JSON.
    known : iterable of str
        Names that an error may repeat: classes, features, policies.

    Raises
    ------
    InvalidParameters, InvalidRequest
    """
    try:
        return kind.model_validate(
            without_excess(document, kind.model_fields, field_names(kind), SessionState.model_fields)
        )
    except ValidationError as error:
        entries = error.errors(include_url=False, include_input=False)
    # As many as are answered, and no more: a hint costs time, and a body holds a million unknown keys.
    few = [_fault(entry, kind, set(known)) for entry in entries[:MOST_FAULTS]]
    faults = list(dict.fromkeys(few))
    in_parameters = all(len(entry["loc"]) > 1 and entry["loc"][0] == "parameters" for entry in entries)
    raised: type[RequestError] = InvalidParameters if in_parameters else InvalidRequest
    raise raised(_sentence(faults[0]), faults)


def field_names(kind: type[Wire]) -> list[str]:
    """Keys of a request and of its parameters."""
    parameters = kind.model_fields["parameters"].annotation
    return [*kind.model_fields, *getattr(parameters, "model_fields", {})]


def _fault(entry: ErrorDetails, kind: type[Wire], known: set[str]) -> Fault:
    loc, code = entry["loc"], entry["type"]
    if loc[0:1] == ("labels",) and len(loc) > 2:  # pydantic names each type that a label might have been
        return Fault(("labels", loc[1]), "wrong-type", "must be the name of a class or its index")
    fields = {*field_names(kind), *SessionState.model_fields}
    steps = [step for step in loc if step not in ("[key]", ONE, ROWS)]
    path = [step if isinstance(step, int) or step in fields or step in known else "?" for step in steps]
    if code == "extra_forbidden":
        allowed = _allowed(kind, path)
        known_here = f"known are {', '.join(allowed)}" if allowed else "there are none"
        detail = f"is not known here; {known_here}{nearest(steps[-1], allowed)}"
        return Fault((*path[:-1], "?"), "unknown-field", detail)
    fault_code = "wrong-type" if code.endswith("_type") else _CODES.get(code, code.replace("_", "-"))
    return Fault(tuple(path), fault_code, _detail(entry, path))


def _allowed(kind: type[Wire], path: Sequence[str | int]) -> list[str]:
    if path[:2] == ["parameters", "session"] and len(path) > 2:
        return list(SessionState.model_fields)
    return field_names(kind)[len(kind.model_fields) :] if path[0] == "parameters" else list(kind.model_fields)


def _detail(entry: ErrorDetails, path: Sequence[str | int]) -> str:
    code = entry["type"]
    if code in _WORDS:
        return _WORDS[code]
    if code.endswith("_than_equal") and "costs" in path:
        return "must lie between -1e300 and 1e300"  # pydantic would write out all three hundred zeros
    return reason(code, entry["msg"], entry.get("ctx", {}))


def _sentence(fault: Fault) -> str:
    place = ".".join(str(step) for step in fault.path) or "the body"
    return f"{place}: {fault.detail}"


_IDS: Final = TypeAdapter(Ids)
_CODES: Final = {"missing": "missing-field"}
_WORDS: Final = {
    "dict_type": "must be a JSON object",
    "model_attributes_type": "must be a JSON object",
    "model_type": "must be a JSON object",
}
"""Where a request is JSON and a manifest is not."""

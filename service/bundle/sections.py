"""The tables of `manifest.toml`, each checked by itself; `manifest.py` checks that they agree.

Tested in `tests/bundle/test_manifest.py`.
"""

import math
from typing import Annotated, Final, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StringConstraints,
    model_validator,
)

from service.bundle.accepted_providers import Acceptance
from service.bundle.tasks import TASKS, Task
from service.core.numerics import EXACT
from service.core.ood import RULES, SCORES

MOST_LISTED: Final = 12

Name = Annotated[str, StringConstraints(min_length=1, max_length=200, strict=True)]
Text = Annotated[str, StringConstraints(max_length=1000, strict=True)]


def _held(value: object) -> object:
    if type(value) is int and EXACT < abs(value) < 1 << 1023 and float(value) != value:
        raise ValueError("a double cannot hold this whole number exactly")
    return value


def _number(value: object) -> int | float:
    """A number; whole ones beyond the precision of doubles stay whole."""
    if type(value) is int and EXACT <= abs(value) < 1 << 64:
        return value
    if type(value) is not int and type(value) is not float:
        raise ValueError("must be a number")
    number = float(value) if abs(value) < 1 << 1023 else math.inf
    if not math.isfinite(number):
        raise ValueError("must be a finite number")
    return number


Number = Annotated[float, BeforeValidator(_held), Field(strict=True, allow_inf_nan=False)]
Exact = Annotated[int | float, PlainValidator(_number)]
"""Of a feature, which may be of 64-bit integers."""
Cost = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-1e300, le=1e300)]
Positive = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0)]
Amount = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0)]
Rate = Annotated[float, Field(strict=True, gt=0, lt=1)]
Code = Annotated[int, Field(strict=True, ge=-(2**63), lt=2**64)]
Size = Annotated[int, Field(strict=True, ge=1)]
Switch = Annotated[bool, Field(strict=True)]
Prevalence = dict[Name, Positive]

INPUTS: Final = "inputs"
"""The `space` of feature scores that is no tensor of the graph."""

PREVALENCE_TOLERANCE = 1e-6
ONE_CLASS_BLIND: Final = ("relative_mahalanobis", "vim")
"""Feature scores that rows without one class of several teach nothing."""

_SIGMOID_SCORES = " or ".join(repr(name) for name, score in SCORES.items() if score.needs == "sigmoid_logits")


def check_prevalence(where: str, prevalence: dict[str, float], classes: tuple[str, ...]) -> None:
    """Raise ValueError unless every class has a share and the shares sum to one."""
    refuse_incomplete(where, tuple(prevalence), classes)
    if abs(sum(prevalence.values()) - 1.0) > PREVALENCE_TOLERANCE:
        raise ValueError(f"{where}: the shares must sum to 1")


def misread(score: str, task: str) -> str | None:
    """Why a score cannot read what a model of such a task gives; None where it can."""
    needs = SCORES[score].needs
    if task == "multilabel" and needs in ("logits", "probabilities"):
        return f"{score!r} reads a softmax, which a multilabel model has none of; take {_SIGMOID_SCORES}"
    if task != "multilabel" and needs == "sigmoid_logits":
        return f"{score!r} reads independent sigmoids, which only task 'multilabel' has; the task is {task!r}"
    if task == "sequence" and needs == "features":
        return f"{score!r} learns what rows of a class look like, and a sequence has a class at every position"
    if task == "multilabel" and score in ONE_CLASS_BLIND:
        return f"{score!r} compares classes that exclude each other; take 'mahalanobis' or 'knn'"
    return None


def check_label_prevalence(where: str, prevalence: dict[str, float], labels: tuple[str, ...]) -> None:
    """Raise ValueError unless every label has a share of its own, below one."""
    refuse_incomplete(where, tuple(prevalence), labels)
    for label, share in prevalence.items():
        if share >= 1.0:
            raise ValueError(f"{where}: the share of {label!r} must lie between 0 and 1")


def refuse_repeats(where: str, names: tuple[str, ...]) -> None:
    """Raise ValueError if a name is there twice."""
    repeated = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
    if repeated:
        raise ValueError(f"{where}: {min(repeated)!r} is named twice")


def refuse_unknown(where: str, names: tuple[str, ...], known: tuple[str, ...]) -> None:
    """Raise ValueError for a name that is none of those known."""
    for name in names:
        if name not in known:
            more = f" and {len(known) - MOST_LISTED} more" if len(known) > MOST_LISTED else ""
            raise ValueError(f"{where}: {name!r} is not one of {', '.join(known[:MOST_LISTED])}{more}")


def refuse_incomplete(where: str, names: tuple[str, ...], classes: tuple[str, ...]) -> None:
    """Raise ValueError unless the names are exactly the classes."""
    refuse_unknown(where, names, classes)
    missing = [name for name in classes if name not in names]
    if missing:
        raise ValueError(f"{where}: class {missing[0]!r} is missing")


class Section(BaseModel):
    """A table of the manifest; a key it does not know is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Graph(Section):
    """Which tensor carries the scores and what they are.

    Attributes
    ----------
    output : str
    output_kind, task : str
    classes : tuple of str
        In output order.
    class_axis : int
    probability_floor : float
    rows : {"together", "alone"}
        Whether one run of the graph may take several rows. ``alone`` is for graphs whose answer for a row depends on
        the rows beside it, such as dynamically quantised ones: every row is then run by itself.
    providers : Acceptance or None
        Execution providers that the calibration accepts; None is any that agrees with the CPU.
    """

    output: Name
    output_kind: Literal["logits", "log_probabilities", "probabilities", "sigmoid_logits", "sigmoid_probabilities"]
    task: Literal["multiclass", "multilabel", "sequence"] = "multiclass"
    classes: Annotated[tuple[Name, ...], Field(min_length=2)]
    class_axis: Annotated[int, Field(strict=True)] = -1
    probability_floor: Annotated[float, Field(strict=True, gt=0, lt=0.01)] = 1e-7
    rows: Literal["together", "alone"] = "together"
    providers: Acceptance | None = None

    @property
    def rules(self) -> Task:
        """The rules of the task."""
        return TASKS[self.task]

    @model_validator(mode="after")
    def _fits_its_task(self) -> Self:
        if self.output_kind not in self.rules.kinds:
            raise ValueError(f"output_kind {self.output_kind!r} {self.rules.remedy}")
        if self.rules.most_axis is not None and self.class_axis not in (-1, 1):
            raise ValueError(f"class_axis must be -1 or 1: scores of a {self.task} model have shape [rows, classes]")
        if self.class_axis < -1 or self.class_axis == 0:
            raise ValueError("class_axis must be -1, or count from 1: axis 0 is the rows")
        refuse_repeats("classes", self.classes)
        return self


class Input(Section):
    """A graph input: names of its columns, or what a tensor looks like, or what the service itself fills it with.

    Attributes
    ----------
    name : str
    features : tuple of str or None
        Columns of a rank-2 input; a column input of its own has none.
    shape : tuple of int or None
        Of one row of a tensor, where the graph leaves it open; with ``pad`` the first is the most there may be.
    pad : float or None
        Rows may differ in length along the first dimension; this number fills the shorter ones.
    mask : bool
        The service fills it: 1 at a row's own positions, 0 where it was padded.
    fill : float or None
        The service fills it with this number.
    allowed : tuple of (float, float) or None
        What the elements of a tensor may be; columns have theirs under [features].
    """

    name: Name
    features: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    shape: Annotated[tuple[Size, ...], Field(min_length=1)] | None = None
    pad: Number | None = None
    mask: Switch = False
    fill: Number | None = None
    allowed: tuple[Number, Number] | None = None

    @property
    def is_filled(self) -> bool:
        """Whether the service fills it, and no row holds anything for it."""
        return self.mask or self.fill is not None

    @property
    def columns(self) -> tuple[str, ...]:
        """Feature names; a column input of its own, or a tensor, carries its own name."""
        return () if self.is_filled else self.features or (self.name,)

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        if self.mask and self.fill is not None:
            raise ValueError("mask and fill exclude each other: each fills the input by itself")
        if self.allowed is not None and (self.features is not None or self.is_filled):
            raise ValueError(
                "allowed belongs to a tensor that rows fill; what columns may hold stands under [features]"
            )
        if self.allowed is not None and self.allowed[0] >= self.allowed[1]:
            raise ValueError("allowed must be [low, high] with low < high")
        if self.features is not None and (self.shape is not None or self.pad is not None):
            raise ValueError("features name columns; shape and pad describe a tensor, which has none")
        if self.is_filled and any(value is not None for value in (self.features, self.shape, self.pad)):
            raise ValueError("what the service fills (mask, fill) has no features, shape or pad of its own")
        return self


class Impute(Section):
    """A missing value is replaced by a constant: a number, or in a column of text a string."""

    impute: Exact | Text


class Feature(Section):
    """What is known of one measurement; ``categories`` are the strings, or whole numbers, that a column may hold."""

    unit: Name | None = None
    plausible: tuple[Exact, Exact] | None = None
    allowed: tuple[Exact, Exact] | None = None
    missing: Literal["reject", "nan"] | Impute = "reject"
    categories: Annotated[tuple[Text, ...] | tuple[Code, ...], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _categories_are_all(self) -> Self:
        if self.categories is not None and (self.plausible or self.allowed or self.missing == "nan"):
            raise ValueError("a column of categories has no ranges, and cannot miss as NaN")
        return self

    @model_validator(mode="after")
    def _bounds_ascend(self) -> Self:
        for key, bounds in (("plausible", self.plausible), ("allowed", self.allowed)):
            if bounds and bounds[0] >= bounds[1]:
                raise ValueError(f"{key} must be [low, high] with low < high")
        if (
            self.plausible
            and self.allowed
            and not self.allowed[0] <= self.plausible[0] < self.plausible[1] <= self.allowed[1]
        ):
            raise ValueError("plausible must lie within allowed: what is refused cannot be plausible")
        return self


class Training(Section):
    """What the training loss did to the posterior."""

    loss: Literal["cross_entropy", "weighted", "focal", "label_smoothing", "mixup", "distillation"] = "cross_entropy"
    class_weights: dict[Name, Positive] | None = None
    gamma: Amount | None = None
    alpha: dict[Name, Positive] | None = None
    epsilon: Annotated[float, Field(strict=True, ge=0, lt=1)] | None = None
    mixup_alpha: Positive | None = None
    tau: Positive | None = None
    soft_share: Annotated[float, Field(strict=True, ge=0, le=1)] | None = None
    smoothness: Amount | None = None
    prevalence: Prevalence | None = None

    @model_validator(mode="after")
    def _parameters_belong_to_their_loss(self) -> Self:
        if (self.loss == "weighted") != (self.class_weights is not None):
            raise ValueError("loss = 'weighted' and class_weights belong together")
        for key, loss in (("gamma", "focal"), ("epsilon", "label_smoothing"), ("tau", "distillation")):
            if (self.loss == loss) != (getattr(self, key) is not None):
                raise ValueError(f"loss = {loss!r} and {key} belong together")
        for key, loss in (("alpha", "focal"), ("mixup_alpha", "mixup"), ("soft_share", "distillation")):
            if getattr(self, key) is not None and self.loss != loss:
                raise ValueError(f"{key} belongs to loss = {loss!r}")
        return self


class Ood(Section):
    """How out-of-distribution inputs are detected."""

    scores: tuple[Name, ...] = ("nll",)
    space: Name = INPUTS
    false_alarm: Rate = 0.05
    gate: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    per_class: Switch = False

    @property
    def names_scores(self) -> bool:
        """Whether people chose the scores: by listing them, or by putting the usual one into the gate."""
        return "scores" in self.model_fields_set or (self.gate is not None and bool(self.gate_scores))

    @property
    def looks_at_tensor(self) -> bool:
        """Whether feature scores look at an output of the graph, not at its inputs."""
        return self.space != INPUTS

    @property
    def has_feature_scores(self) -> bool:
        """Whether any score looks at features."""
        return any(SCORES[name].needs == "features" for name in self.scores)

    @property
    def gate_members(self) -> tuple[str, ...]:
        """The members that `flagged` rests on: the declared gate, or else every score."""
        return self.scores if self.gate is None else self.gate

    @property
    def gate_scores(self) -> tuple[str, ...]:
        """Members of the gate that have a p-value."""
        return tuple(name for name in self.gate_members if name not in RULES)

    def alpha(self, score: str) -> float:
        """False-alarm rate of one score's threshold: the gate's scores share the rate among them (Bonferroni)."""
        return self.false_alarm / len(self.gate_scores) if score in self.gate_scores else self.false_alarm

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        refuse_repeats("scores", self.scores)
        refuse_repeats("gate", self.gate_members)
        refuse_unknown("scores", self.scores, tuple(SCORES))
        refuse_unknown("gate", self.gate_members, (*self.scores, *RULES))
        if self.looks_at_tensor and self.names_scores and not self.has_feature_scores:
            known = ", ".join(name for name, score in SCORES.items() if score.needs == "features")
            raise ValueError(f"space is {self.space!r}, and none of the scores looks at it; those that do are {known}")
        return self


class Site(Section):
    """A place with its own class proportions."""

    prevalence: Prevalence


class LabelCosts(Section):
    """What each action costs where one label is absent, and where it is present."""

    costs: Annotated[dict[Name, dict[Name, Cost]], Field(min_length=2)]


class Policy(Section):
    """Named actions, what each costs in each class (or for each label), and what an OOD flag does."""

    default: Switch = False
    on_ood: Name = "flag"
    costs: Annotated[dict[Name, dict[Name, Cost]], Field(min_length=2)] | None = None
    labels: Annotated[dict[Name, LabelCosts], Field(min_length=1)] | None = None
    switch: Annotated[float, Field(strict=True, ge=0, le=1e300)] | None = None

    @property
    def tables(self) -> dict[str, dict[str, dict[str, float]]]:
        """Every cost table by the key it stands under."""
        own = {} if self.costs is None else {"costs": self.costs}
        return own | {f"labels.{label}.costs": section.costs for label, section in (self.labels or {}).items()}

    @model_validator(mode="after")
    def _on_ood_is_an_action(self) -> Self:
        actions = tuple(dict.fromkeys(action for table in self.tables.values() for action in table))
        if "flag" in actions:
            raise ValueError("no action may be called 'flag': on_ood = 'flag' means that no action is taken over")
        if self.on_ood != "flag":
            refuse_unknown("on_ood", (self.on_ood,), ("flag", *actions))
        return self

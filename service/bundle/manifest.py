"""`manifest.toml`: what a graph means and what actions cost, as people declare it."""

import hashlib
import json
from typing import Annotated, Any, Final, Self

from pydantic import Field, ValidationError, model_validator

from service.bundle.change_protocol import ChangeProtocol
from service.bundle.record_options import RecordOptions
from service.bundle.runtime_options import Runtime
from service.bundle.sections import (
    Feature,
    Graph,
    Input,
    Name,
    Ood,
    Policy,
    Section,
    Site,
    Training,
    check_label_prevalence,
    check_prevalence,
    misread,
    refuse_incomplete,
    refuse_repeats,
    refuse_unknown,
)
from service.bundle.tasks import ABSENT, PRESENT, TASKS
from service.bundle.toml_text import parse_toml
from service.bundle.wording import reason
from service.core.ood import SCORES
from service.errors import ManifestInvalid

BINDING_SECTIONS: Final = ("graph", "inputs", "training", "ood")
"""Sections that a calibration depends on; prices, sites and plausible ranges may change without a refit."""

LATER_KEYS: Final = (
    *("per_class", "shape", "pad", "mask", "fill", "allowed", "rows", "providers"),
    *("mixup_alpha", "soft_share", "smoothness"),
)
"""Keys younger than schema 1 in those sections; unset, they leave a fingerprint as it was."""

MANIFEST_FILE = "manifest.toml"


class Manifest(Section):
    """The whole file."""

    schema_: Annotated[int, Field(alias="schema", strict=True, ge=1, le=1)]
    title: Name
    graph: Graph
    inputs: Annotated[tuple[Input, ...], Field(min_length=1)]
    features: dict[Name, Feature] = Field(default_factory=dict)
    training: Training = Training()
    ood: Ood = Ood()
    runtime: Runtime = Runtime()
    record: RecordOptions = RecordOptions()
    sites: dict[Name, Site] = Field(default_factory=dict)
    policies: dict[Name, Policy] = Field(default_factory=dict)
    change_protocol: ChangeProtocol = ChangeProtocol()

    @property
    def columns(self) -> tuple[str, ...]:
        """Every feature, in the order of a row."""
        return tuple(column for entry in self.inputs for column in entry.columns)

    @property
    def default_policy(self) -> str | None:
        """The policy of a request that names none: the one marked, or the only one."""
        if len(self.policies) == 1:
            return next(iter(self.policies))
        return next((name for name, policy in self.policies.items() if policy.default), None)

    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of every section that a calibration depends on."""
        return {section: _fingerprint(getattr(self, section)) for section in BINDING_SECTIONS}

    @model_validator(mode="before")
    @classmethod
    def _scores_of_its_task(cls, data: Any) -> Any:
        graph, ood = (data.get(key, {}) for key in ("graph", "ood")) if isinstance(data, dict) else ({}, None)
        rules = TASKS.get(graph["task"]) if isinstance(graph, dict) and isinstance(graph.get("task"), str) else None
        if rules is None or rules.scores == Ood.model_fields["scores"].default or not isinstance(ood, dict):
            return data  # a manifest that names no score differs from one that names the usual one
        return {**data, "ood": {"scores": rules.scores, **ood}}

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        _check_inputs(self.inputs)
        refuse_repeats("features", self.columns)
        refuse_unknown("features", tuple(self.features), self.columns)
        check = check_label_prevalence if self.graph.rules.by_label else check_prevalence
        for name, site in self.sites.items():
            check(f"sites.{name}.prevalence", site.prevalence, self.graph.classes)
        if self.training.prevalence is not None:
            check("training.prevalence", self.training.prevalence, self.graph.classes)
        for key in ("class_weights", "alpha"):
            if (weights := getattr(self.training, key)) is not None:
                refuse_incomplete(f"training.{key}", tuple(weights), self.graph.classes)
        for name, policy in self.policies.items():
            self._check_policy(f"policies.{name}", policy)
        if sum(policy.default for policy in self.policies.values()) > 1:
            raise ValueError("policies: only one of them can be the default")
        return self

    @model_validator(mode="after")
    def _scores_and_loss_fit_the_task(self) -> Self:
        task, rules = self.graph.task, self.graph.rules
        if self.training.loss not in rules.losses:
            raise ValueError(f"training.loss: a {task} model has one of {', '.join(rules.losses)}")
        if self.training.smoothness is not None and not (rules.smoothness and self.training.loss == "cross_entropy"):
            raise ValueError("training.smoothness: belongs to task = 'sequence' with loss = 'cross_entropy'")
        if rules.by_label and any(share >= 1.0 for share in (self.training.alpha or {}).values()):
            raise ValueError("training.alpha: a label's alpha lies between 0 and 1; it weighs present, the rest absent")
        if self.ood.per_class and task != "multiclass":
            raise ValueError(f"ood.per_class: a row of a {task} model is not predicted to be of one class")
        for score in self.ood.scores:
            if (reason := self.why_unfit(score)) is not None:
                raise ValueError(f"ood.scores: {reason}")
        return self

    def why_unfit(self, score: str) -> str | None:
        """Why these declarations rule out an OOD score, in words; None where they do not."""
        if score == "logit_norm" and len(self.graph.classes) == 2:
            return "'logit_norm' has the same value for every row of two classes"
        if SCORES[score].needs == "features" and not self.ood.looks_at_tensor and self._takes_nan():
            return "feature scores need every value, and a feature has missing = 'nan'"
        return misread(score, self.graph.task)

    def _check_policy(self, where: str, policy: Policy) -> None:
        rules = self.graph.rules
        if policy.switch is not None and not rules.switch:
            raise ValueError(f"{where}.switch: a {self.graph.task} model has no neighbours whose action could change")
        if (policy.labels if rules.by_label else policy.costs) is None:
            needed = "labels.LABEL.costs" if rules.by_label else "costs"
            raise ValueError(f"{where}.{needed} is missing: a {self.graph.task} model has its costs there")
        if (policy.costs if rules.by_label else policy.labels) is not None:
            given = "costs" if rules.by_label else "labels"
            raise ValueError(
                f"{where}.{given}: a {self.graph.task} model declares its costs in another form, see [policies]"
            )
        refuse_unknown(f"{where}.labels", tuple(policy.labels or ()), self.graph.classes)
        states = (ABSENT, PRESENT) if rules.by_label else self.graph.classes
        for key, table in policy.tables.items():
            for action, row in table.items():
                refuse_incomplete(f"{where}.{key}.{action}", tuple(row), states)

    def _takes_nan(self) -> bool:
        return any(feature.missing == "nan" for feature in self.features.values())


def _check_inputs(inputs: tuple[Input, ...]) -> None:
    refuse_repeats("inputs", tuple(entry.name for entry in inputs))
    if all(entry.is_filled for entry in inputs):
        raise ValueError("inputs: none of them is for a row to fill")
    if any(entry.mask for entry in inputs) and all(entry.pad is None for entry in inputs):
        raise ValueError("inputs: a mask separates padding from a row's own positions, and no input declares pad")


def parse_manifest(text: str, *, where: str = MANIFEST_FILE) -> Manifest:
    """Read a manifest.

    Parameters
    ----------
    text : str
        TOML.
    where : str
        What to call it in an error.

    Raises
    ------
    ManifestInvalid
        Naming the first key at fault and what it must be.
    """
    try:
        return Manifest.model_validate(parse_toml(text, where=where))
    except ValidationError as error:
        raise ManifestInvalid(f"{where}: {describe(error)}") from None


LONGEST_PLACE: Final = 200


def describe(error: ValidationError) -> str:
    """One line for a validation error: the first place at fault, and how many more there are."""
    first, *others = error.errors(include_url=False, include_input=False)
    place = ".".join(str(step) for step in first["loc"])[:LONGEST_PLACE]
    place = place if place.isprintable() else ascii(place)  # a key may hold a line break
    more = f" (and {len(others)} more)" if others else ""
    message = reason(first["type"], first["msg"], first.get("ctx", {}))
    return f"{place}: {message}{more}" if place else f"{message}{more}"


def _fingerprint(section: Section | tuple[Section, ...]) -> str:
    parts = section if isinstance(section, tuple) else (section,)
    content = [part.model_dump(mode="json", exclude=_unset_later_keys(part)) for part in parts]
    text = json.dumps(content, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _unset_later_keys(section: Section) -> set[str]:
    fields = type(section).model_fields
    return {key for key in LATER_KEYS if key in fields and getattr(section, key) == fields[key].default}

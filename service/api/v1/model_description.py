"""What a model takes, answers and costs, and how it was calibrated.

Tested in tests/api/openapi/test_document.py, where its response fits the document, and in tests/api/v1.
"""

from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from service.bundle.accepted_providers import ProviderName
from service.bundle.declared_inverse import inverse_use
from service.bundle.record import Record
from service.bundle.sections import Feature, Input, LabelCosts, Ood, Policy, Site, Training
from service.runtime.inputs import ANYTHING
from service.runtime.loader import Served
from service.runtime.model import Model
from service.runtime.parity import Parity
from service.runtime.provider_packages import releases_of

Json = dict[str, Any]


def _is_absent(value: object) -> bool:
    return value is None


class Named(BaseModel):
    """Something with a name.

    Attributes
    ----------
    name : str
        Its name.
    """

    name: str


class FeatureDescription(Feature, Named):
    """A column of an input."""


class FilledInput(Named):
    """An input of the graph that the service fills.

    Attributes
    ----------
    filled : str or float
        `mask`, or the constant.
    """

    filled: str | float | None


class TensorInput(Named):
    """An input that holds a tensor for every row.

    Attributes
    ----------
    type : str
        Type of its values.
    shape : list of int or None
        Shape of a row; null where any size fits.
    pad : float or None
        What shorter rows are padded with; null where they are not.
    """

    type: str
    shape: list[int | None]
    pad: float | int | str | None


class TableInput(Named):
    """An input that holds columns.

    Attributes
    ----------
    type : str
        Type of its values.
    features : list of FeatureDescription
        Its columns, in order.
    """

    type: str
    features: list[FeatureDescription]


class PolicyDescription(Policy):
    """Named actions, what they cost, and what happens to flagged rows; what a policy does not have is absent."""

    costs: Annotated[dict[str, dict[str, float]] | None, Field(exclude_if=_is_absent)] = None
    labels: Annotated[dict[str, LabelCosts] | None, Field(exclude_if=_is_absent)] = None
    switch: Annotated[float | None, Field(exclude_if=_is_absent)] = None


class OodDescription(Ood):
    """Out-of-distribution scores, and which of them flag a row."""

    gate: tuple[str, ...]


Weights = Annotated[dict[str, float] | None, Field(exclude_if=_is_absent)]
Parameter = Annotated[float | None, Field(exclude_if=_is_absent)]


class InverseDescription(Named):
    """The inverse of the training loss.

    Attributes
    ----------
    name : str
        Name of the inverse.
    applied : bool
        Whether the calibration applies it. `fit` chooses by the log loss of held-out rows.
    labels : tuple of str
        Of a multilabel model: the labels that it is applied to. Absent otherwise.
    """

    applied: bool
    labels: Annotated[tuple[str, ...] | None, Field(exclude_if=_is_absent)] = None


class TrainingDescription(Training):
    """The training loss and its parameters; what the loss does not have is absent.

    Attributes
    ----------
    inverse : InverseDescription or None
        What takes the loss's effect off the probabilities; null where the loss has no such inverse.
    """

    class_weights: Weights = None
    gamma: Parameter = None
    alpha: Weights = None
    epsilon: Parameter = None
    mixup_alpha: Parameter = None
    tau: Parameter = None
    soft_share: Parameter = None
    smoothness: Parameter = None
    prevalence: Weights = None
    inverse: InverseDescription | None


class Uncalibrated(BaseModel):
    """No calibration.

    Attributes
    ----------
    method : str
        Always `identity`.
    status : str
        Always `uncalibrated`.
    """

    method: str
    status: Literal["uncalibrated"]


class CalibrationDescription(Record):
    """How the model was calibrated, from what.

    Attributes
    ----------
    method : str
        Name of the calibrator.
    """

    schema_: Annotated[Literal[1], Field(alias="schema", exclude=True)] = 1
    sections: Annotated[dict[str, str], Field(exclude=True)]
    method: str


class ProviderNoise(BaseModel):
    """How far the answers lie from those of the CPU, measured when the version was loaded.

    Attributes
    ----------
    rows : int
        Synthetic rows that ran on both.
    logits : float
        Largest difference of a logit, relative to 1 + the largest of its row.
    alone : float
        Largest difference of a logit between a row alone and among others.
    tolerance : float
        Largest difference that is allowed.
    ties : float
        How many times wider a tie of expected costs is than on the CPU.
    """

    rows: int
    logits: float
    alone: float
    tolerance: float
    ties: float


class RuntimeDescription(BaseModel):
    """What runs the graph on this machine.

    Attributes
    ----------
    provider : str
        Execution provider of ONNX Runtime: `cpu`, `openvino`, `cuda` or `tensorrt`.
    device : str
        The device that it runs on.
    releases : list of str
        Packages that bring it.
    operators : int or None
        Operators of the graph as it runs; null under `cpu`.
    operators_on_cpu : dict of str to int
        How many of each kind the provider left to the CPU.
    noise : ProviderNoise or None
        Its distance from the CPU; null under `cpu`.
    """

    provider: ProviderName
    device: str
    releases: list[str]
    operators: int | None
    operators_on_cpu: dict[str, int]
    noise: ProviderNoise | None


class ModelDescription(Named):
    """A version of a model.

    Attributes
    ----------
    title : str
        What it is for.
    ready : bool
        Always true: other models are described by `RefusedModel`, or are 404.
    version : str
        The version that is described.
    digest : str or None
        SHA-256 of its files.
    versions : list of str
        Versions that were published.
    served : list of str
        Versions that are served.
    aliases : dict of str to str
        Version of every alias.
    refusal : str or None
        Why what was published last is not served; null where it is.
    task : str
        `multiclass`, `multilabel` or `sequence`.
    classes : list of str
        Classes, or labels of a multilabel model, in order.
    inputs : list
        Inputs of the graph, in order.
    policies : dict of str to PolicyDescription
        Policies by name.
    default_policy : str or None
        The one that decides where a request names none.
    sites : dict of str to Site
        Sites by name.
    ood : OodDescription
        Out-of-distribution scores.
    training : TrainingDescription or None
        How it was trained; null where the manifest does not say.
    calibration : CalibrationDescription or Uncalibrated
        How it was calibrated.
    runtime : RuntimeDescription
        What runs it here.
    """

    title: str
    ready: Literal[True]
    version: str
    digest: str | None
    versions: list[str]
    served: list[str]
    aliases: dict[str, str]
    refusal: str | None
    task: Literal["multiclass", "multilabel", "sequence"]
    classes: list[str]
    inputs: list[TableInput | TensorInput | FilledInput]
    policies: dict[str, PolicyDescription]
    default_policy: str | None
    sites: dict[str, Site]
    ood: OodDescription
    training: TrainingDescription | None
    calibration: CalibrationDescription | Uncalibrated
    runtime: RuntimeDescription


class RefusedModel(Named):
    """A model of which no version could be loaded.

    Attributes
    ----------
    ready : bool
        Always false.
    refusal : str
        Why.
    """

    ready: Literal[False]
    refusal: str


def description(model: Model, served: Served) -> Json:
    """What a model takes, answers and costs, and how it was calibrated, as `ModelDescription`."""
    manifest, ood = model.manifest, model.manifest.ood
    described = ModelDescription.model_construct(
        name=model.name,
        title=manifest.title,
        ready=True,
        version=model.version,
        digest=model.bundle.digest,
        versions=[str(version) for version in served.published],
        served=[str(version) for version in served.models],
        aliases={label: str(version) for label, version in served.aliases.items()},
        refusal=served.refusal,
        task=manifest.graph.task,
        classes=list(model.classes),
        inputs=[_input(entry, model) for entry in manifest.inputs],
        policies={name: PolicyDescription.model_construct(**dict(own)) for name, own in manifest.policies.items()},
        default_policy=manifest.default_policy,
        sites=manifest.sites,
        ood=OodDescription.model_construct(**{**dict(ood), "gate": ood.gate_members}),
        training=_training(model),
        calibration=_calibration(model),
        runtime=_runtime(model),
    )
    return described.model_dump(mode="json")


def _runtime(model: Model) -> RuntimeDescription:
    placement = model.session.placement
    return RuntimeDescription.model_construct(
        provider=placement.provider,
        device=placement.device,
        releases=list(releases_of(placement.provider)),
        operators=placement.operators or None,
        operators_on_cpu=placement.on_cpu,
        noise=None if model.parity is None else _noise(model.parity),
    )


def _noise(parity: Parity) -> ProviderNoise:
    return ProviderNoise.model_construct(
        rows=parity.rows,
        logits=parity.from_cpu.logits,
        alone=parity.alone,
        tolerance=parity.tolerance,
        ties=parity.ties,
    )


def _training(model: Model) -> TrainingDescription | None:
    manifest = model.manifest
    if "training" not in manifest.model_fields_set:
        return None
    use = inverse_use(manifest, model.bundle.record)
    inverse = None if use is None else InverseDescription.model_construct(**asdict(use))
    return TrainingDescription.model_construct(**dict(manifest.training), inverse=inverse)


def _calibration(model: Model) -> CalibrationDescription | Uncalibrated:
    record = model.bundle.record
    if record is None:
        return Uncalibrated.model_construct(method=model.method, status="uncalibrated")
    return CalibrationDescription.model_construct(**{**dict(record), **model.calibration})


def _input(entry: Input, model: Model) -> TableInput | TensorInput | FilledInput:
    if entry.is_filled:
        return FilledInput.model_construct(name=entry.name, filled="mask" if entry.mask else entry.fill)
    taken = next(taken for taken in model.inputs.entries if taken.name == entry.name)
    kind = "string" if taken.is_text else str(taken.dtype)
    if taken.shape:
        return TensorInput.model_construct(name=entry.name, type=kind, shape=list(taken.shape), pad=taken.pad)
    features = [
        FeatureDescription.model_construct(name=name, **dict(model.manifest.features.get(name, ANYTHING)))
        for name in entry.columns
    ]
    return TableInput.model_construct(name=entry.name, type=kind, features=features)

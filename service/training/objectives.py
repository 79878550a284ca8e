"""What a training run minimises, and what the manifest declares of it: one class for every loss.

Each turns a batch into losses through `bridge.CoreLoss`, names itself for `[training]`, and can undo what it did to
the probabilities where that has a closed form. Numbers that the loss cannot have are a ValueError.

Tested in tests/training/test_objectives.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from service.core.inverse import ClassWeights, PositiveWeight, SigmoidFocal
from service.core.inverse import Focal as FocalInverse
from service.core.inverse import LabelSmoothing as LabelSmoothingInverse
from service.core.losses.softmax import mixup_targets
from service.core.numerics import Array
from service.core.state_checks import check_number, check_positive
from service.training.bridge import CoreLoss
from service.training.failures import TrainingFailed
from service.training.mixup import mixed

PROBABILITY_FLOOR = 1e-7  # the manifest's default


class Objective(Protocol):
    """What `loop.train` needs of a loss."""

    @property
    def task(self) -> str:
        """Task of the manifest: multiclass, multilabel or sequence."""

    def losses(self, network: nn.Module, inputs: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Losses of a batch's rows, shape (N,)."""

    def declared(self, classes: Sequence[str]) -> dict[str, Any]:
        """Keys of the manifest's `[training]`, without the prevalence."""

    def recovered(self, log_probs: Array) -> Array:
        """Log-probabilities of the posterior (multilabel: log-odds) after the inverse, where there is a closed form."""


def logits_of(network: nn.Module, inputs: Tensor) -> Tensor:
    """Logits of a batch: the first output of a network that has several."""
    outputs = network(inputs)
    logits: Tensor = outputs[0] if isinstance(outputs, tuple) else outputs
    return logits


@dataclass(frozen=True, slots=True)
class CrossEntropy:
    """The proper loss: its optimum is the posterior."""

    task: ClassVar[str] = "multiclass"

    def losses(self, network: nn.Module, inputs: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Losses of a batch's rows, shape (N,)."""
        del generator
        losses: Tensor = CoreLoss("cross_entropy")(logits_of(network, inputs), labels)
        return losses

    def declared(self, classes: Sequence[str]) -> dict[str, Any]:
        """Keys of `[training]`."""
        del classes
        return {"loss": "cross_entropy"}

    def recovered(self, log_probs: Array) -> Array:
        """The log-probabilities as they are."""
        return log_probs


@dataclass(frozen=True, slots=True)
class Weighted:
    """Cross-entropy times the weight of the true class, see `core.losses.softmax.weighted_cross_entropy`.

    Attributes
    ----------
    class_weights : tuple of float, length K
    """

    class_weights: tuple[float, ...]
    task: ClassVar[str] = "multiclass"

    def __post_init__(self) -> None:
        check_positive("class_weights", self.class_weights, None)

    def losses(self, network: nn.Module, inputs: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Losses of a batch's rows, shape (N,)."""
        del generator
        loss = CoreLoss("weighted", class_weights=self.class_weights)
        losses: Tensor = loss(logits_of(network, inputs), labels)
        return losses

    def declared(self, classes: Sequence[str]) -> dict[str, Any]:
        """Keys of `[training]`."""
        return {"loss": "weighted", "class_weights": _by_class(classes, self.class_weights)}

    def recovered(self, log_probs: Array) -> Array:
        """The weights are taken off."""
        return ClassWeights(self.class_weights).apply(log_probs)


@dataclass(frozen=True, slots=True)
class Focal:
    """Cross-entropy that fades for rows already right, see `core.losses.softmax.focal`.

    Attributes
    ----------
    gamma : float
    alpha : tuple of float, length K, optional
        Weights of the classes.
    """

    gamma: float = 2.0
    alpha: tuple[float, ...] | None = None
    task: ClassVar[str] = "multiclass"

    def __post_init__(self) -> None:
        check_number("gamma", self.gamma, least=0.0)
        if self.alpha is not None:
            check_positive("alpha", self.alpha, None)

    def losses(self, network: nn.Module, inputs: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Losses of a batch's rows, shape (N,)."""
        del generator
        weights = {} if self.alpha is None else {"alpha": self.alpha}
        losses: Tensor = CoreLoss("focal", gamma=self.gamma, **weights)(logits_of(network, inputs), labels)
        return losses

    def declared(self, classes: Sequence[str]) -> dict[str, Any]:
        """Keys of `[training]`."""
        weights = {} if self.alpha is None else {"alpha": _by_class(classes, self.alpha)}
        return {"loss": "focal", "gamma": float(self.gamma), **weights}

    def recovered(self, log_probs: Array) -> Array:
        """The closed form of Charoenphakdee et al. (2021)."""
        return FocalInverse(self.gamma, self.alpha).apply(log_probs)


@dataclass(frozen=True, slots=True)
class LabelSmoothing:
    """Cross-entropy against the true class mixed with all classes alike.

    Attributes
    ----------
    epsilon : float
        Share of the uniform distribution in the targets.
    """

    epsilon: float = 0.1
    task: ClassVar[str] = "multiclass"

    def __post_init__(self) -> None:
        check_number("epsilon", self.epsilon, least=0.0, below=1.0)

    def losses(self, network: nn.Module, inputs: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Losses of a batch's rows, shape (N,)."""
        del generator
        losses: Tensor = CoreLoss("label_smoothing", epsilon=self.epsilon)(logits_of(network, inputs), labels)
        return losses

    def declared(self, classes: Sequence[str]) -> dict[str, Any]:
        """Keys of `[training]`."""
        del classes
        return {"loss": "label_smoothing", "epsilon": float(self.epsilon)}

    def recovered(self, log_probs: Array) -> Array:
        """The uniform share is taken off."""
        return LabelSmoothingInverse(self.epsilon, PROBABILITY_FLOOR).apply(log_probs)


@dataclass(frozen=True, slots=True)
class Mixup:
    """Cross-entropy on convex combinations of pairs of rows and of their labels.

    Attributes
    ----------
    alpha : float
        Mixing coefficients are drawn from Beta(alpha, alpha).

    References
    ----------
    Zhang, Cissé, Dauphin & Lopez-Paz (2018), *mixup: Beyond Empirical Risk Minimization*, ICLR.
    """

    alpha: float = 0.2
    task: ClassVar[str] = "multiclass"

    def __post_init__(self) -> None:
        check_number("alpha", self.alpha, above=0.0)

    def losses(self, network: nn.Module, inputs: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Losses of a batch's mixed rows, shape (N,); outside of training the rows are not mixed."""
        if not network.training:
            return CrossEntropy().losses(network, inputs, labels, generator)
        rows, pairs, shares = mixed(inputs, self.alpha, generator)
        logits = logits_of(network, rows)
        own, partners = labels.numpy(), labels[pairs].numpy()
        targets = mixup_targets(own, partners, shares.numpy(), classes=logits.shape[-1])
        losses: Tensor = CoreLoss("mixup")(logits, torch.from_numpy(targets))
        return losses

    def declared(self, classes: Sequence[str]) -> dict[str, Any]:
        """Keys of `[training]`."""
        del classes
        return {"loss": "mixup", "mixup_alpha": float(self.alpha)}

    def recovered(self, log_probs: Array) -> Array:
        """The log-probabilities as they are: no closed form is known."""
        return log_probs


@dataclass(frozen=True, slots=True)
class Distillation:
    """Cross-entropy against a teacher's softened probabilities, times τ², beside the labels'.

    Attributes
    ----------
    teacher : Module
        Maps a batch of inputs to logits; it does not learn.
    tau : float
        Temperature of both sides.
    soft_share : float
        Weight of the teacher's part, the labels' is the rest.

    References
    ----------
    Hinton, Vinyals & Dean (2015), *Distilling the Knowledge in a Neural Network*.
    """

    teacher: nn.Module = field(repr=False)
    tau: float = 4.0
    soft_share: float = 0.9
    task: ClassVar[str] = "multiclass"

    def __post_init__(self) -> None:
        check_number("tau", self.tau, above=0.0)
        check_number("soft_share", self.soft_share, least=0.0)
        check_number("the share of the labels", 1.0 - self.soft_share, least=0.0)

    def losses(self, network: nn.Module, inputs: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Losses of a batch's rows, shape (N,)."""
        del generator
        with torch.no_grad():
            teacher = logits_of(self.teacher.eval(), inputs)
        loss = CoreLoss("distillation", tau=self.tau, soft_share=self.soft_share)
        losses: Tensor = loss(logits_of(network, inputs), labels, teacher=teacher)
        return losses

    def declared(self, classes: Sequence[str]) -> dict[str, Any]:
        """Keys of `[training]`."""
        del classes
        return {"loss": "distillation", "tau": float(self.tau), "soft_share": float(self.soft_share)}

    def recovered(self, log_probs: Array) -> Array:
        """The log-probabilities as they are: a student inherits its teacher's calibration."""
        return log_probs


@dataclass(frozen=True, slots=True)
class MultilabelCrossEntropy:
    """Sum over labels of binary cross-entropies.

    Attributes
    ----------
    positive_weights : tuple of float, length M, optional
        Weights of present labels.
    """

    positive_weights: tuple[float, ...] | None = None
    task: ClassVar[str] = "multilabel"

    def __post_init__(self) -> None:
        if self.positive_weights is not None:
            check_positive("positive_weights", self.positive_weights, None)

    def losses(self, network: nn.Module, inputs: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Losses of a batch's rows, shape (N,)."""
        del generator
        weights = {} if self.positive_weights is None else {"positive_weight": self.positive_weights}
        losses: Tensor = CoreLoss("multilabel_cross_entropy", **weights)(logits_of(network, inputs), labels)
        return losses

    def declared(self, classes: Sequence[str]) -> dict[str, Any]:
        """Keys of `[training]`."""
        if self.positive_weights is None:
            return {"loss": "cross_entropy"}
        return {"loss": "weighted", "class_weights": _by_class(classes, self.positive_weights)}

    def recovered(self, log_probs: Array) -> Array:
        """Log-odds without the weights, shape (N, M)."""
        if self.positive_weights is None:
            return log_probs
        return PositiveWeight(self.positive_weights).apply(log_probs)


@dataclass(frozen=True, slots=True)
class MultilabelFocal:
    """Sum over labels of focal losses.

    Attributes
    ----------
    gamma : float
    alpha : float, optional
        Weight of a present label; an absent one has 1 - alpha.
    """

    gamma: float = 2.0
    alpha: float | None = None
    task: ClassVar[str] = "multilabel"

    def __post_init__(self) -> None:
        check_number("gamma", self.gamma, least=0.0)
        if self.alpha is not None:
            check_number("alpha", self.alpha, above=0.0, below=1.0)

    def losses(self, network: nn.Module, inputs: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Losses of a batch's rows, shape (N,)."""
        del generator
        weights = {} if self.alpha is None else {"alpha": self.alpha}
        losses: Tensor = CoreLoss("sigmoid_focal", gamma=self.gamma, **weights)(logits_of(network, inputs), labels)
        return losses

    def declared(self, classes: Sequence[str]) -> dict[str, Any]:
        """Keys of `[training]`."""
        weights = {} if self.alpha is None else {"alpha": dict.fromkeys(classes, float(self.alpha))}
        return {"loss": "focal", "gamma": float(self.gamma), **weights}

    def recovered(self, log_probs: Array) -> Array:
        """Log-odds of the posterior, shape (N, M)."""
        return SigmoidFocal(self.gamma, self.alpha).apply(log_probs)


@dataclass(frozen=True, slots=True)
class SequenceCrossEntropy:
    """Cross-entropy of every position, and a price λ on the Jensen-Shannon divergence of neighbours.

    Attributes
    ----------
    smoothness : float
        λ; zero is plain cross-entropy.
    """

    smoothness: float = 0.0
    task: ClassVar[str] = "sequence"

    def __post_init__(self) -> None:
        check_number("smoothness", self.smoothness, least=0.0)

    def losses(self, network: nn.Module, inputs: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Losses of a batch's sequences, summed over their positions, shape (N,)."""
        del generator
        loss = CoreLoss("sequence_cross_entropy", smoothness=self.smoothness)
        losses: Tensor = loss(logits_of(network, inputs), labels)
        return losses

    def declared(self, classes: Sequence[str]) -> dict[str, Any]:
        """Keys of `[training]`."""
        del classes
        return {"loss": "cross_entropy", **({"smoothness": float(self.smoothness)} if self.smoothness else {})}

    def recovered(self, log_probs: Array) -> Array:
        """The log-probabilities as they are: no closed form undoes the price on change."""
        return log_probs


def _by_class(classes: Sequence[str], weights: Sequence[float]) -> dict[str, float]:
    if len(weights) != len(classes):
        raise TrainingFailed(f"there are {len(weights)} weights for {len(classes)} classes or labels")
    return {name: float(weight) for name, weight in zip(classes, weights, strict=True)}

"""One small training loop: seeded, stopped early, with a cosine schedule and a progress bar."""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from service.core.losses import values
from service.core.losses.sequence import PADDING
from service.core.numerics import Array, log_softmax
from service.prediction.bulk import Track, untracked
from service.training.example_sets import Examples, Labels, Values
from service.training.failures import TrainingFailed
from service.training.objectives import Objective, logits_of

ROWS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class Settings:
    """How long and how fast.

    Attributes
    ----------
    epochs : int
        At most; the learning rate falls to zero along a cosine over as many.
    batch : int
        Rows of a step.
    learning_rate, weight_decay : float
        Of AdamW.
    patience : int
        Epochs without a lower validation log loss after which the run ends.
    """

    epochs: int = 40
    batch: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    patience: int = 8


@dataclass(frozen=True, slots=True)
class Epoch:
    """Mean training loss of an epoch, and the validation log loss after it."""

    training_loss: float
    validation_log_loss: float


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A network at its best epoch, and what its manifest declares.

    Attributes
    ----------
    network : Module
        In evaluation mode.
    objective : Objective
        What it minimised.
    prevalence : ndarray of shape (K,)
        Shares of the classes among the training rows; multilabel: of rows that have each label.
    history : tuple of Epoch
    best_epoch : int
        Counted from zero.
    """

    network: nn.Module
    objective: Objective
    prevalence: Array
    history: tuple[Epoch, ...] = field(repr=False)
    best_epoch: int

    def outputs(self, inputs: Values) -> Array:
        """Logits of rows, in float64.

        Parameters
        ----------
        inputs : ndarray of shape (N, ...)
        """
        return outputs_of(self.network, inputs)


def train(
    network: nn.Module,
    objective: Objective,
    rows: Examples,
    validation: Examples,
    settings: Settings = Settings(),
    *,
    seed: int = 0,
    track: Track = untracked,
) -> Trained:
    """Minimise an objective, and keep the weights of the epoch with the lowest validation log loss.

    The validation log loss is that of the posterior: after the objective's inverse, where there is one.

    Parameters
    ----------
    network : Module
        Maps inputs to logits, or to a tuple whose first member is the logits. It is trained in place.
    objective : Objective
    rows, validation : Examples
        No row of one may be in the other.
    settings : Settings
    seed : int
        Of the order of rows, of mixing and of dropout; initial weights are the network's own.
    track : callable
        Progress over the epochs.

    Raises
    ------
    TrainingFailed
        If the network does not take the inputs, labels or weights do not fit its outputs, the rows have one class
        alone, or the run diverges.
    """
    for part in (rows, validation):
        _check_labels(part, objective.task, _outputs(network, part))
    objective.declared([str(k) for k in range(_outputs(network, rows)[-1])])
    _check_classes(rows)
    run = _Run(network, objective, rows, validation, settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        run.epochs(torch.Generator().manual_seed(seed), track)
    return run.best()


def outputs_of(network: nn.Module, inputs: Values) -> Array:
    """Logits of rows in evaluation mode, in float64."""
    network.eval()
    with torch.no_grad():
        parts = [logits_of(network, part) for part in torch.split(torch.as_tensor(inputs), ROWS_AT_ONCE)]
    return torch.cat(parts).double().numpy()


def validation_log_loss(objective: Objective, outputs: Array, labels: Labels) -> float:
    """Mean log loss of the posterior after the objective's inverse: of rows, labels or unpadded positions."""
    if objective.task == "multilabel":
        odds = objective.recovered(outputs)
        return float(np.mean(values.multilabel_cross_entropy(odds, labels)) / labels.shape[1])
    present = (labels != PADDING).ravel()
    log_probs = log_softmax(outputs.reshape(-1, outputs.shape[-1])[present])
    return float(np.mean(values.cross_entropy(objective.recovered(log_probs), labels.ravel()[present])))


class _Run:
    """The state of one run."""

    def __init__(
        self, network: nn.Module, objective: Objective, rows: Examples, validation: Examples, settings: Settings
    ) -> None:
        self._network, self._objective, self._settings = network, objective, settings
        self._rows, self._validation = rows, validation
        self._inputs, self._labels = torch.as_tensor(rows.inputs), torch.as_tensor(rows.labels)
        self._optimiser = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        steps = settings.epochs * math.ceil(len(rows) / settings.batch)
        self._schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self._optimiser, steps)
        self._history: list[Epoch] = []
        self._weights = copy.deepcopy(network.state_dict())

    def epochs(self, generator: torch.Generator, track: Track) -> None:
        """Train until no epoch is left, or none was better for a while."""
        for number in track(range(self._settings.epochs)):
            self._epoch(generator)
            if number - self._best >= self._settings.patience:
                break

    def best(self) -> Trained:
        """The network with the weights of its best epoch."""
        self._network.load_state_dict(self._weights)
        return Trained(self._network.eval(), self._objective, self._prevalence(), tuple(self._history), self._best)

    @property
    def _best(self) -> int:
        return int(np.argmin([epoch.validation_log_loss for epoch in self._history]))

    def _epoch(self, generator: torch.Generator) -> None:
        self._network.train()
        losses = [self._step(*batch, generator) for batch in self._batches(generator)]
        outputs = outputs_of(self._network, self._validation.inputs)
        _check_finite(bool(np.isfinite(outputs).all()))
        score = validation_log_loss(self._objective, outputs, self._validation.labels)
        self._history.append(Epoch(float(np.mean(losses)), score))
        if self._best == len(self._history) - 1:
            self._weights = copy.deepcopy(self._network.state_dict())

    def _batches(self, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self._rows), generator=generator)
        for number, chosen in enumerate(torch.split(order, self._settings.batch)):
            if number and len(chosen) == 1:
                break  # one row has no variance, which batch normalisation divides by; another epoch has other batches
            yield self._trimmed(self._inputs[chosen], self._labels[chosen])

    def _trimmed(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Sequences without the padding that all of a batch have."""
        if self._objective.task != "sequence":
            return inputs, labels
        longest = int((labels != PADDING).any(dim=0).nonzero().max()) + 1
        return inputs[:, :longest], labels[:, :longest]

    def _step(self, inputs: Tensor, labels: Tensor, generator: torch.Generator) -> float:
        with np.errstate(all="ignore"):  # of a run that diverges, which the check ends with a sentence
            losses = self._objective.losses(self._network, inputs, labels, generator)
        loss = losses.sum() / (int((labels != PADDING).sum()) if self._objective.task == "sequence" else len(labels))
        value = float(loss.detach())
        _check_finite(math.isfinite(value))
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch ships it without a type
        self._optimiser.step()
        self._schedule.step()
        return value

    def _prevalence(self) -> Array:
        labels = self._rows.labels
        if self._objective.task == "multilabel":
            return np.asarray(labels.mean(axis=0))
        counts = np.bincount(labels[labels != PADDING].ravel(), minlength=_outputs(self._network, self._rows)[-1])
        return np.asarray(counts / counts.sum())


def _outputs(network: nn.Module, rows: Examples) -> tuple[int, ...]:
    """Shape of what the network answers for one row."""
    try:
        return outputs_of(network, rows.inputs[:1]).shape[1:]
    except (RuntimeError, TypeError) as error:
        of = f"inputs of type {rows.inputs.dtype} and shape {rows.inputs.shape}"
        reason = str(error).partition("\n")[0]
        raise TrainingFailed(f"the network does not take {of}; usually they are float32: {reason}") from error


def _check_labels(rows: Examples, task: str, outputs: tuple[int, ...]) -> None:
    """Labels must have the shape and the values that the outputs of a row call for."""
    places, classes = (outputs, 2) if task == "multilabel" else (outputs[:-1], outputs[-1])
    if rows.labels.shape[1:] != places:
        raise TrainingFailed(f"labels have the shape {rows.labels.shape}; the outputs need {('rows', *places)}")
    known = rows.labels[rows.labels != PADDING] if task == "sequence" else rows.labels
    if not known.size:
        raise TrainingFailed("all positions are padding; there is nothing to learn from")
    if known.dtype.kind not in "iub" or known.min() < 0 or known.max() >= classes:
        raise TrainingFailed(f"labels must be whole numbers from 0 to {classes - 1}, one for every output")


def _check_classes(rows: Examples) -> None:
    if len(np.unique(rows.labels[rows.labels != PADDING])) < 2:
        raise TrainingFailed("all training rows have the same class; there is nothing to learn")


def _check_finite(finite: bool) -> None:  # noqa: FBT001  # it says what it checks
    if not finite:
        raise TrainingFailed(
            "the training diverged: a loss is not a number; try a smaller learning rate, "
            "and look for missing or huge values in the inputs"
        )

"""Networks so simple that their optimum is known, and a minimiser that reaches it."""

from typing import Any

import numpy as np
import torch
from torch import nn

from service.core.numerics import Array, Indices
from service.training.objectives import Objective


class Table(nn.Module):
    """Free logits for every value of one whole-numbered input: whatever the population's optimum is, it can be it."""

    def __init__(self, values: int, *shape: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(values, *shape, dtype=torch.float64))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.logits[inputs]


class Linear(nn.Module):
    """Logits linear in the inputs, in double precision, from zero."""

    def __init__(self, features: int, classes: int, *, bias: bool = True) -> None:
        super().__init__()
        self.layer = nn.Linear(features, classes, bias=bias, dtype=torch.float64)
        for parameter in self.layer.parameters():
            nn.init.zeros_(parameter)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layer(inputs.double())
        return logits


class PowersOfInputs(nn.Module):
    """Logits linear in the logarithms of inputs that sum to one: with slope one their softmax is the input."""

    def __init__(self) -> None:
        super().__init__()
        self.line = Linear(3, 3, bias=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.line(torch.log(inputs.double() + 1e-12))
        return logits


class Bins(nn.Module):
    """Free logits of every bin of width 0.1 of one input; whole numbers have bins of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.table = Table(42, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        tenths = 10.0 * inputs[:, 0].double()
        logits: torch.Tensor = self.table(
            torch.where(tenths == tenths.round(), 21 + tenths.round(), tenths.floor()).long()
        )
        return logits


class Fixed(nn.Module):
    """A teacher: logits by the row's number, which is its last feature."""

    def __init__(self, logits: Array) -> None:
        super().__init__()
        self.logits = torch.from_numpy(logits)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.logits[inputs[..., -1].long()]


class FirstTwo(nn.Module):
    """A student that is linear in the first two features."""

    def __init__(self) -> None:
        super().__init__()
        self.line = Linear(2, 4)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.line(inputs[:, :2])
        return logits


def minimised(objective: Objective, network: nn.Module, inputs: Any, labels: Any, *, steps: int = 200) -> float:
    """Train a network to its optimum on all rows at once, with the same draws in every step; its mean loss there."""
    rows, truth = torch.from_numpy(inputs), torch.from_numpy(labels)
    search = torch.optim.LBFGS(
        network.parameters(),
        max_iter=steps,
        tolerance_grad=1e-10,
        tolerance_change=1e-15,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def mean() -> torch.Tensor:
        search.zero_grad()
        loss = objective.losses(network, rows, truth, torch.Generator().manual_seed(0)).mean()
        loss.backward()
        return loss

    search.step(mean)
    return mean().item()


def log_probs_of(table: Table) -> Array:
    """Log-probabilities of a table's softmax, one row per value."""
    return torch.log_softmax(table.logits.detach(), dim=-1).numpy()


def repeated(counts: Indices) -> tuple[Any, Any]:
    """Rows of a population: value ``i`` of the input with class ``k``, ``counts[i, k]`` times."""
    cells = np.argwhere(counts > 0)
    rows = np.repeat(cells, counts[tuple(cells.T)], axis=0)
    return rows[:, 0].copy(), rows[:, 1].copy()

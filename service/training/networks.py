"""Small networks that need no preprocessing outside of them.

Tested in tests/training/test_export.py.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from service.training.example_sets import Examples, Values


class Standardised(nn.Module):
    """A network on standardised columns: mean and deviation travel inside the graph.

    Parameters
    ----------
    rows : ndarray of shape (N, F)
        Training rows. NaN counts in neither mean nor deviation.
    network : Module
        On (N, F), zero where a value is missing.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, rows: Values, network: nn.Module) -> None:
        super().__init__()
        deviation = np.nanstd(rows, axis=0)
        self.register_buffer("mean", torch.as_tensor(np.nanmean(rows, axis=0), dtype=torch.float32))
        self.register_buffer("scale", torch.as_tensor(np.where(deviation > 0.0, deviation, 1.0), dtype=torch.float32))
        self.network = network

    def forward(self, rows: Tensor) -> Tensor:
        """Outputs of the network; a missing value stands at the mean."""
        standard = (rows - self.mean) / self.scale
        outputs: Tensor = self.network(torch.where(torch.isnan(standard), 0.0, standard))
        return outputs


def mlp(
    rows: Examples, outputs: int, *, hidden: Sequence[int] = (64, 32), dropout: float = 0.0, seed: int = 0
) -> nn.Module:
    """A multilayer perceptron on standardised columns, with ReLU between its layers.

    Parameters
    ----------
    rows : Examples
        Training rows of shape (N, F).
    outputs : int
        Logits: K classes or M labels.
    hidden : sequence of int
        Widths of the hidden layers.
    dropout : float
    seed : int
        Of the initial weights.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for width, following in pairwise((rows.inputs.shape[1], *hidden)):
            layers += [nn.Linear(width, following), nn.ReLU(), *([nn.Dropout(dropout)] if dropout else [])]
        return Standardised(rows.inputs, nn.Sequential(*layers, nn.Linear(hidden[-1], outputs)))

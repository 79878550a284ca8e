"""Small networks that need no preprocessing outside of them."""

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
        Training rows. NaN counts in neither mean nor deviation; a column of nothing else stays as it is.
    network : Module
        On (N, `standardised_width`): the columns, zero where a value is missing; then, for every column in which
        training rows have missing values, 1 where it is missing.
    logged : sequence of int
        Columns that are replaced by log(1 + x), zero below zero: measurements with long tails.
    """

    mean: Tensor
    scale: Tensor
    logged: Tensor
    incomplete: Tensor

    def __init__(self, rows: Values, network: nn.Module, *, logged: Sequence[int] = ()) -> None:
        super().__init__()
        self._has_logged = bool(logged)
        self.register_buffer("logged", torch.isin(torch.arange(rows.shape[1]), torch.tensor(logged, dtype=torch.int64)))
        columns = self._rescaled(torch.as_tensor(rows)).double().numpy()
        columns = np.where(np.isnan(columns).all(axis=0), 0.0, columns)
        varies = np.nanmin(columns, axis=0) < np.nanmax(columns, axis=0)  # rounding gives a constant a deviation
        scale = np.where(varies, np.nanstd(columns, axis=0), 1.0)
        self.register_buffer("mean", torch.as_tensor(np.nanmean(columns, axis=0), dtype=torch.float32))
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float32))
        self.register_buffer("incomplete", torch.as_tensor(_incomplete(rows)))
        self.network = network

    def forward(self, rows: Tensor) -> Tensor:
        """Outputs of the network; a missing value stands at the mean."""
        missing = torch.isnan(rows)
        columns = torch.where(missing, 0.0, (self._rescaled(rows) - self.mean) / self.scale)
        if len(self.incomplete):
            columns = torch.cat([columns, missing[:, self.incomplete].to(columns.dtype)], dim=1)
        outputs: Tensor = self.network(columns)
        return outputs

    def _rescaled(self, rows: Tensor) -> Tensor:
        # Without such columns nothing stands before the subtraction: the importer reads plausible ranges from it.
        return torch.where(self.logged, torch.log1p(torch.clamp(rows, min=0.0)), rows) if self._has_logged else rows


def standardised_width(rows: Values) -> int:
    """Columns of what `Standardised` hands on: F, and one for every column with missing values."""
    return int(rows.shape[1]) + len(_incomplete(rows))


def mlp(
    rows: Examples,
    outputs: int,
    *,
    hidden: Sequence[int] = (64, 32),
    logged: Sequence[int] = (),
    dropout: float = 0.0,
    seed: int = 0,
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
    logged : sequence of int
        Columns with long tails, see `Standardised`.
    dropout : float
    seed : int
        Of the initial weights.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for width, following in pairwise((standardised_width(rows.inputs), *hidden)):
            layers += [nn.Linear(width, following), nn.ReLU(), *([nn.Dropout(dropout)] if dropout else [])]
        network = nn.Sequential(*layers, nn.Linear(hidden[-1], outputs))
    return Standardised(rows.inputs, network, logged=logged)


def _incomplete(rows: Values) -> Values:
    """Columns in which values are missing."""
    return np.flatnonzero(np.isnan(rows).any(axis=0))


class Tagger(nn.Module):
    """Classes of every position of padded token sequences, by dilated convolutions.

    Every layer sees zero where a sequence has no position, so that its logits do not depend on how far it is padded.

    Parameters
    ----------
    tokens : int
        Kinds of tokens, 1 to ``tokens``; 0 is padding.
    classes : int
    channels, embedding : int
    window : int
        Positions, odd, that the first layer reads.
    dilations : sequence of int
        Of further layers, each of five positions; without any and with a window of 1 a position is read alone.
    dropout : float

    References
    ----------
    Yu and Koltun (2016), *Multi-Scale Context Aggregation by Dilated Convolutions*, ICLR.
    """

    def __init__(
        self,
        tokens: int,
        classes: int,
        *,
        channels: int = 48,
        embedding: int = 16,
        window: int = 7,
        dilations: Sequence[int] = (1, 2, 4),
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens + 1, embedding, padding_idx=0)
        self.window = nn.Conv1d(embedding, channels, window, padding=window // 2)
        self.layers = nn.ModuleList(nn.Conv1d(channels, channels, 5, padding=2 * d, dilation=d) for d in dilations)
        self.head = nn.Conv1d(channels, classes, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of shape (N, L, K) of tokens (N, L)."""
        present = (tokens > 0)[:, None].float()
        hidden = torch.relu(self.window(self.embedding(tokens).transpose(1, 2))) * present
        for layer in self.layers:
            hidden = (hidden + torch.relu(layer(self.dropout(hidden)))) * present
        logits: Tensor = self.head(self.dropout(hidden)).transpose(1, 2)
        return logits

"""Every OOD score of a trained network, compared on rows of its own kind and on others: a table of a card.

Tested in tests/training/test_ood_comparison.py.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import nn

from service.bundle.sections import misread
from service.core.assessment.metrics import separation_score
from service.core.assessment.ranking import fpr_at_tpr
from service.core.numerics import Array, Indices
from service.core.ood import SCORES
from service.core.pipeline import bounded
from service.training.example_sets import Examples, Values
from service.training.loop import ROWS_AT_ONCE

Outputs = tuple[Array, Array]
"""Logits (N, K) and features (N, F)."""

MULTICLASS_SCORES: Final = tuple(name for name in SCORES if misread(name, "multiclass") is None)
"""Scores that a multiclass model can have, in the registry's order."""


def logits_and_features(network: nn.Module, inputs: Values) -> Outputs:
    """Both outputs of a network that gives logits and features, in float64.

    Parameters
    ----------
    network : Module
        Maps a batch to a tuple of logits and features.
    inputs : ndarray of shape (N, ...)
    """
    network.eval()
    with torch.no_grad():
        parts = [network(part) for part in torch.split(torch.as_tensor(inputs), ROWS_AT_ONCE)]
    logits, features = (torch.cat(tensors).double().numpy() for tensors in zip(*parts, strict=True))
    return logits, features


def separations(
    network: nn.Module, train: Examples, test: Values, ood: Values, *, scores: Sequence[str] = MULTICLASS_SCORES
) -> dict[str, dict[str, float]]:
    """How well each score separates two kinds of rows.

    Parameters
    ----------
    network : Module
        Maps a batch to logits and features.
    train : Examples
        What scores with state learn from.
    test, ood : ndarray of shape (N, ...) and (M, ...)
        Rows in distribution, and out of it; neither tunes anything.
    scores : sequence of str
        Of `SCORES`, those that a multiclass model can have.

    Returns
    -------
    dict of str to dict of str to float
        By score ``auroc``, and ``fpr95``: the share of rows in distribution above the threshold that 95 % of the
        others are above. Rows out of distribution are the positive class of both.
    """
    learned, own, others = (logits_and_features(network, rows) for rows in (train.inputs, test, ood))
    return {name: _separation(name, learned, train.labels, own, others) for name in scores}


def seen_by(name: str, outputs: Outputs) -> Array:
    """What a score looks at: features, or else logits."""
    return outputs[SCORES[name].needs == "features"]


def _separation(name: str, learned: Outputs, labels: Indices, own: Outputs, others: Outputs) -> dict[str, float]:
    score = SCORES[name].fit(seen_by(name, learned), np.asarray(labels), logits=learned[0])
    pair = [bounded(score.score(seen_by(name, outputs))) for outputs in (own, others)]
    return {"auroc": separation_score(*pair), "fpr95": fpr_at_tpr(*pair, positive="out")}

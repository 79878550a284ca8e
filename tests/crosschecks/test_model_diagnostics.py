"""model-diagnostics: the CORP decomposition, exactly (science.md 3.11)."""

import numpy as np
import pytest
from model_diagnostics.scoring import LogLoss, SquaredError, decompose

from service.core.assessment.decomposition import corp_decomposition
from service.core.numerics import log_softmax

SCORES = {"brier": SquaredError(), "log_loss": LogLoss()}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", SCORES)
def test_miscalibration_discrimination_and_uncertainty(loss, weighted, rows) -> None:
    z, y = rows(k=2)
    p = np.exp(log_softmax(z)[:, 1]).round(2).clip(0.01, 0.99)  # ties
    weights = np.random.default_rng(0).exponential(size=len(y)) if weighted else None
    theirs = decompose(y, p, weights=weights, scoring_function=SCORES[loss], functional="mean").row(0, named=True)
    ours = corp_decomposition(p, y, loss=loss, weights=weights)
    for part in ("miscalibration", "discrimination", "uncertainty", "score"):
        assert getattr(ours, part) == pytest.approx(theirs[part], rel=1e-9, abs=1e-12)

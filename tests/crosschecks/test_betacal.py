"""betacal: 1e-4 on average (science.md 4.1), which is where its logistic regression stops; ours never fits worse."""

import numpy as np
import pytest
from betacal import BetaCalibration
from sklearn.metrics import log_loss

from service.core.calibration.beta import Beta


@pytest.mark.parametrize("seed", range(6))
def test_beta_calibration(seed) -> None:
    rng = np.random.default_rng(seed)
    predicted = rng.beta(1.5, 1.5, size=2000)
    outcomes = (rng.random(2000) < predicted**2 / (predicted**2 + (1.0 - predicted) ** 0.7)).astype(np.intp)
    theirs = BetaCalibration(parameters="abm").fit(predicted[:, None], outcomes).predict(predicted)
    logits = np.log(np.stack([1.0 - predicted, predicted], axis=1))
    ours = np.exp(Beta.fit(logits, outcomes).apply(logits)[:, 1])
    assert np.mean(np.abs(ours - theirs)) < 1e-4
    np.testing.assert_allclose(ours, theirs, atol=2e-4)  # where its solver stops short of the optimum
    assert log_loss(outcomes, ours) <= log_loss(outcomes, theirs) + 1e-12

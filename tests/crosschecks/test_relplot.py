"""relplot, by the authors of smECE: it searches the bandwidth to 1/1024 and integrates on 200 points, hence 1 %."""

import numpy as np
import pytest
import relplot

from service.core.assessment.miscalibration import smooth_gap


@pytest.mark.parametrize("n", [300, 2000, 20_000])
@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_smooth_calibration_error(power, n) -> None:
    rng = np.random.default_rng(n)
    predicted = rng.beta(2.0, 1.0, size=n)
    outcomes = (rng.random(n) < predicted**power).astype(np.float64)
    theirs = relplot.smECE(predicted, outcomes)
    assert smooth_gap(predicted, outcomes) == pytest.approx(theirs, rel=0.01, abs=1e-3)


@pytest.mark.parametrize("bandwidth", [0.02, 0.1, 0.3])
def test_at_one_bandwidth(bandwidth) -> None:
    rng = np.random.default_rng(1)
    predicted = rng.random(1000)
    outcomes = (rng.random(1000) < predicted**2).astype(np.float64)
    theirs = relplot.metrics.smECE_sigma(predicted, outcomes, bandwidth)
    assert smooth_gap(predicted, outcomes, bandwidth=bandwidth) == pytest.approx(theirs, rel=0.01)

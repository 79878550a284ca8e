"""probmetrics: its bisection halves 32 thirty times, so seven digits of T (science.md 3.4)."""

import numpy as np
import pytest

from service.core.calibration.temperature import Temperature
from service.core.numerics import log_softmax

pytest.importorskip("probmetrics")  # in the extra `torch`
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:(torch|probmetrics|sklearn).*"),
]


@pytest.mark.parametrize("k", [2, 4, 20])
def test_temperature(k, rows) -> None:
    from probmetrics.calibrators import get_calibrator

    z, y = rows(k=k)
    log_p = log_softmax(z)
    theirs = get_calibrator("temp-scaling").fit(np.exp(log_p), y)
    ours = Temperature.fit(z, y)
    assert ours.temperature == pytest.approx(1.0 / theirs.invtemp_, rel=1e-7)
    np.testing.assert_allclose(np.exp(ours.apply(z)), theirs.predict_proba(np.exp(log_p)), atol=1e-7)

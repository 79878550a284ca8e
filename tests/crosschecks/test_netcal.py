"""net:cal: binned errors to rounding; its temperature, found by a general optimiser, to 1e-4 (science.md 3.2)."""

import numpy as np
import pytest

from service.core.assessment.metrics import METRICS
from service.core.assessment.miscalibration import binned_gap
from service.core.calibration.temperature import Temperature
from service.core.numerics import log_softmax

pytest.importorskip("netcal")  # in the extra `torch`
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:(netcal|torch|gpytorch|pyro|tensorboard).*")


@pytest.mark.parametrize("k", [2, 4])
def test_calibration_errors(k, rows) -> None:
    from netcal.metrics import ECE, MCE

    z, y = rows(k=k)
    p = np.exp(log_softmax(z))
    top = p if k > 2 else p.max(axis=1)  # of a binary, net:cal bins the positive class; ours the predicted one
    truth = y if k > 2 else (p.argmax(axis=1) == y).astype(int)
    # Bins are closed on the left there and on the right here: no value of these lies on an edge.
    assert METRICS["calibration_error"](log_softmax(z), y) == pytest.approx(ECE(15).measure(top, truth), rel=1e-10)
    assert METRICS["maximum_calibration_error"](log_softmax(z), y) == pytest.approx(
        MCE(15).measure(top, truth), rel=1e-10
    )


def test_the_two_conventions_of_a_bin_s_edge_are_the_two_known_numbers() -> None:
    from netcal.metrics import ECE

    predicted, outcomes = np.array([0.5, 0.4, 0.7, 0.75]), np.array([1, 0, 0, 1])  # science.md, finding 9
    assert binned_gap(predicted, outcomes, bins=4) == pytest.approx(0.1375, rel=1e-12)
    assert ECE(4).measure(predicted, outcomes) == pytest.approx(0.2125, rel=1e-12)


def test_temperature(rows) -> None:
    from netcal.scaling import TemperatureScaling

    z, y = rows()
    theirs = TemperatureScaling()
    theirs.fit(np.exp(log_softmax(z)), y)
    (inverse,) = theirs.temperature  # what it calls a temperature is 1 / T
    assert Temperature.fit(z, y).temperature == pytest.approx(1.0 / inverse, rel=1e-4)

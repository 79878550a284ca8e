import numpy as np
import pytest

from service.core.sequential.lattice import TOLERANCE, lattice


@pytest.mark.parametrize("error", [0.001, 0.05, 0.3, 2.0])
def test_weights_sum_to_one_and_the_null_is_as_wide_as_error_and_tolerance(error: float) -> None:
    found = lattice(error, farthest=6.0)
    assert np.exp(found.log_null).sum() == pytest.approx(1.0)
    assert np.exp(found.log_alternative).sum() == pytest.approx(1.0)
    assert np.sqrt(np.exp(found.log_null) @ found.points**2) == pytest.approx(np.hypot(error, TOLERANCE), rel=0.02)


@pytest.mark.parametrize("error", [0.001, 0.05, 0.3])
def test_an_alarm_needs_a_deviation_of_several_standard_errors_however_many_rows_there_are(error: float) -> None:
    found = lattice(error, farthest=6.0)
    limit = found.log_alternative - found.log_null  # of log E as rows grow without end
    reached = np.abs(found.points[limit >= np.log(100.0)])
    assert 3.0 <= reached.min() / np.hypot(error, TOLERANCE) <= 5.5


def test_points_are_symmetric_and_reach_the_farthest() -> None:
    points = lattice(0.05, farthest=3.0).points
    assert np.array_equal(points, -points[::-1])
    assert points[-1] >= 3.0

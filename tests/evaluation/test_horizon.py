import numpy as np
import pytest
import scipy.stats

from service.core.numerics import Array, Indices
from service.core.trajectory import error_bound, horizon_risk
from service.evaluation.horizon import look_ahead


def rows(n: int, wrong: int) -> tuple[Array, Indices]:
    """Rows that all favour the first class, of which some are of the second."""
    return np.log(np.tile([0.9, 0.1], (n, 1))), (np.arange(n) < wrong).astype(np.intp)


@pytest.mark.parametrize("recovery", [0.0, 0.1, 0.5])
def test_the_measured_error_rate_and_its_limit_are_compounded_exactly(recovery: float) -> None:
    found = look_ahead(*rows(1000, 10), steps=100, recovery=recovery)
    assert found.error == 0.01
    assert found.error_high == pytest.approx(scipy.stats.beta.ppf(0.95, 11, 990), rel=1e-9)
    assert found.off_course == pytest.approx(horizon_risk(0.01, 100, recovery=recovery))
    assert found.off_course_high == pytest.approx(horizon_risk(found.error_high, 100, recovery=recovery))
    if recovery == 0.0:
        assert found.off_course == pytest.approx(37.2372, abs=1e-4)


def test_no_error_seen_is_not_no_risk() -> None:
    found = look_ahead(*rows(300, 0), steps=100, recovery=0.0)
    assert (found.error, found.off_course) == (0.0, 0.0)
    assert found.error_high == pytest.approx(1.0 - 0.05 ** (1 / 300))
    assert found.off_course_high > 30.0


def test_rows_of_one_trajectory_are_not_counted_as_independent() -> None:
    log_probs, labels = rows(1000, 10)
    plain, grouped = (
        look_ahead(log_probs, labels, steps=10, recovery=0.0, groups=g) for g in (None, np.arange(1000) // 20)
    )
    assert plain.error == grouped.error
    assert grouped.error_high == pytest.approx(scipy.stats.beta.ppf(0.95, 2, 49), rel=1e-9)  # one error of 50


def test_the_error_rate_is_the_weighted_one() -> None:
    weights = np.where(np.arange(1000) < 10, 5.0, 1.0)
    assert look_ahead(*rows(1000, 10), steps=10, recovery=0.0, weights=weights).error == pytest.approx(50 / 1040)


def test_the_log_loss_leaves_room_for_at_least_the_errors_seen() -> None:
    log_probs, labels = rows(1000, 10)
    found = look_ahead(log_probs, labels, steps=10, recovery=0.0)
    assert found.error <= found.error_room < 1.0
    assert found.error_room == pytest.approx(error_bound(float(np.mean(-log_probs[np.arange(1000), labels]))))

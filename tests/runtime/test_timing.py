import time

import numpy as np
import pytest

from service.core.numerics import Array
from service.runtime.rows import Rows
from service.runtime.timing import INLINE_SECONDS, MANY_ROWS, MOST_SECONDS, Run, RunTime, Tally, measure

ROW: Array = np.zeros((1, 3))


def taking(seconds: float, *, a_row: float, sizes: list[int]) -> Run:
    def run(rows: Rows) -> None:
        sizes.append(len(rows))
        end = time.perf_counter() + seconds + a_row * len(rows)
        while time.perf_counter() < end:
            pass

    return run


def test_what_a_run_and_a_row_take_is_measured() -> None:
    found = measure(taking(1e-4, a_row=1e-5, sizes=[]), ROW)
    assert found.fixed >= 1e-4
    assert found.of(1000) > found.of(1)


def test_an_expensive_model_is_measured_on_as_many_rows_as_take_no_long_time() -> None:
    sizes: list[int] = []
    found = measure(taking(0.02, a_row=1e-3, sizes=sizes), ROW)
    assert found.fixed >= 0.02
    assert found.per_row >= 5e-4
    assert max(sizes) * 0.02 <= MOST_SECONDS


def test_rows_of_a_very_expensive_model_are_expected_to_take_as_long_as_the_first() -> None:
    sizes: list[int] = []
    found = measure(taking(0.6 * MOST_SECONDS, a_row=0.0, sizes=sizes), ROW)
    assert set(sizes) == {1}
    assert found.of(10) == pytest.approx(10.0 * found.of(1))


def test_the_first_run_counts_for_nothing() -> None:
    sizes: list[int] = []

    def run(rows: Rows) -> None:
        taking(0.0 if sizes else 0.05, a_row=0.0, sizes=sizes)(rows)

    assert measure(run, ROW).fixed < INLINE_SECONDS
    assert sizes[-1] == MANY_ROWS


def test_without_a_measurement_runs_take_no_time() -> None:
    assert RunTime().of(10_000) == 0.0


def test_a_tally_adds_up() -> None:
    tally = Tally()
    tally.add(3, 0.5)
    tally.add(2, 0.25)
    assert (tally.runs, tally.rows, tally.seconds) == (2, 5, 0.75)
    assert tally.last > 0.0

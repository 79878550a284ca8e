"""More requests than there is capacity for. `python -m tests.bench.overload` prints the figures.

The bounds here are for a machine that is busy with other tests. Those of the long version are the goals:
``python -m pytest tests/load -m long``, on a quiet machine.
"""

from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

from tests.bench.above_capacity import FOUR_ROWS, PROBES, WORKS, Measured, Work, overloaded
from tests.bench.callers import above_its_quota, cost_of_keys
from tests.bench.servers import ROOT, Server, of_checkout
from tests.bench.slow_clients import beside_slow_clients
from tests.bench.synthetic import Network, publish
from tests.shipped_model import SHIPPED

SMALL = Work("150 KB, small network", 24, 8, Network("mlp-512", (784, 512, 512, 10), 3, rows=200))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models = tmp_path_factory.mktemp("models")
    publish(models, SMALL.network)
    with of_checkout(ROOT, models) as running:
        yield running


def probes_p99(found: Measured) -> float:
    return max(found.outcomes.of(path, 200).quantile(0.99) for path in PROBES)


def test_what_cannot_be_served_is_refused_and_all_else_goes_on(server: Server) -> None:
    found = overloaded(server, SMALL, 3.0, 2.0, before=1.0, settle=1.0)
    assert len(found.refused) > 0
    assert found.failed == 0
    assert found.retry_after == 1.0
    assert found.probes_failed == 0
    assert len(found.accepted) > 0
    assert found.accepted.quantile(0.99) <= 5.0
    assert probes_p99(found) <= 2.0
    assert found.memory.most - found.memory.first <= 512.0


@pytest.mark.long
@pytest.mark.parametrize("work", WORKS, ids=[work.name for work in WORKS])
def test_three_times_the_capacity(work: Work, tmp_path: Path) -> None:
    found = _of_a_new_server(work, 3.0, 20.0, tmp_path)
    assert found.goodput >= 0.85
    assert found.refused.quantile(0.99) <= 0.05
    assert found.recovery <= 5.0


@pytest.mark.long
def test_ten_times_the_capacity_for_minutes(tmp_path: Path) -> None:
    found = _of_a_new_server(FOUR_ROWS, 10.0, 300.0, tmp_path)
    assert found.goodput >= 0.7
    assert found.memory.most - found.memory.first <= 128.0


def _of_a_new_server(work: Work, times: float, seconds: float, models: Path) -> Measured:
    publish(models, work.network)
    with of_checkout(ROOT, models) as running:
        found = overloaded(running, work, times, seconds)
    assert found.failed == found.probes_failed == 0
    assert found.retry_after == 1.0
    assert found.accepted.quantile(0.99) <= max(0.5, 3.0 * found.unloaded.quantile(0.99))
    assert probes_p99(found) <= 0.25
    return found


@pytest.mark.long
def test_hundreds_of_slow_clients_do_not_delay_others() -> None:
    with of_checkout(ROOT, SHIPPED) as running:
        without, beside = beside_slow_clients(running, seconds=5.0, rounds=5)
    assert {one.status for one in beside.all} == {200}
    assert beside.quantile(0.99) <= 2.0 * without.quantile(0.99)


@pytest.mark.long
def test_a_caller_above_its_quota_gets_its_quota_and_slows_no_other(tmp_path: Path) -> None:
    found = above_its_quota(tmp_path, seconds=30.0)
    assert found.exactness == pytest.approx(1.0, abs=0.05)
    assert found.retry_after == 1.0
    assert found.slowdown <= 2.0


@pytest.mark.long
def test_checking_keys_and_counting_quotas_costs_a_tenth_at_most(tmp_path: Path) -> None:
    assert median(cost_of_keys(tmp_path, rounds=7, seconds=2)) >= 0.9

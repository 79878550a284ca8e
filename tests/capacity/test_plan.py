from dataclasses import replace

import pytest

from service.capacity.plan import Goal, Limits, cores_of_a_process, most_of_a_process, plan, saturation
from service.capacity.request_costs import CapacityError, Costs
from service.capacity.simulation import simulate

COSTS = Costs(
    request_seconds=6e-5,
    turn_seconds=2e-4,
    joint_turn_seconds=3e-4,
    run_seconds=5e-5,
    run_row_seconds=1e-6,
    commit_seconds=5e-4,
    commit_record_seconds=2e-5,
    request_bytes=400,
    response_bytes=1500,
    record_bytes=1000,
    process_bytes=100e6,
)
GOAL = Goal(5000.0, 0.02)


@pytest.mark.parametrize("rate", [1e3, 1e4, 1e5, 1e6])
def test_the_planned_processes_reach_the_goal_and_keep_the_headroom(rate: float) -> None:
    found = plan(COSTS, replace(GOAL, requests_per_second=rate))
    assert found.p99_seconds <= GOAL.p99_seconds
    assert found.processes * found.most_of_a_process * (1.0 - GOAL.headroom) >= rate
    assert found.rate_of_a_process * found.processes == pytest.approx(rate)
    assert found.cores <= (found.nodes - GOAL.spare_nodes) * GOAL.node_cores


def test_one_process_less_would_not_keep_the_headroom() -> None:
    found = plan(COSTS, replace(GOAL, requests_per_second=1e5))
    assert (found.processes - 1) * found.most_of_a_process * (1.0 - GOAL.headroom) < 1e5


def test_a_process_takes_what_still_reaches_the_goal_and_not_more() -> None:
    most = most_of_a_process(COSTS, GOAL)
    assert GOAL.latency_factor * simulate(COSTS, most).quantile(0.99) <= GOAL.p99_seconds
    above = simulate(COSTS, 1.05 * most)
    assert GOAL.latency_factor * above.quantile(0.99) > GOAL.p99_seconds or above.refused > 0.0
    assert most < saturation(COSTS)


def test_a_tighter_goal_dearer_requests_and_bursts_take_no_fewer_processes() -> None:
    busy = replace(GOAL, requests_per_second=1e5)
    usual = plan(COSTS, busy).processes
    assert plan(COSTS, replace(busy, p99_seconds=0.008)).processes >= usual
    assert plan(replace(COSTS, request_seconds=2e-4), busy).processes > usual
    assert plan(COSTS, replace(busy, burst=4.0)).processes >= usual


def test_what_grows_with_the_load_is_in_proportion() -> None:
    small, large = (plan(COSTS, replace(GOAL, requests_per_second=rate)) for rate in (1e5, 1e6))
    for name in ("bytes_in", "bytes_out", "records", "record_bytes"):
        assert getattr(large.traffic, name) == pytest.approx(10.0 * getattr(small.traffic, name))
    assert 0 <= 10 * small.processes - large.processes < 10  # only whole processes can be had
    assert small.traffic.commits < small.traffic.records
    assert large.memory_bytes == large.processes * COSTS.process_bytes


def test_a_service_without_records_writes_none() -> None:
    found = plan(replace(COSTS, commit_seconds=0.0, commit_record_seconds=0.0), GOAL, Limits(100.0, 1000.0)).traffic
    assert (found.records, found.record_bytes, found.databases, found.proxies) == (0.0, 0.0, 0, 5)


def test_databases_and_proxies_share_the_load_where_it_is_known_what_one_takes() -> None:
    found = plan(COSTS, GOAL, Limits(2000.0, 6000.0)).traffic
    assert (found.databases, found.proxies) == (3, 1)
    unknown = plan(COSTS, GOAL).traffic
    assert (unknown.databases, unknown.proxies) == (None, None)


def test_the_cost_is_the_price_of_all_processors_of_all_nodes() -> None:
    found = plan(COSTS, GOAL, price=0.5)
    assert found.core_hours == found.nodes * 32 * 720
    assert found.cost == 0.5 * found.core_hours
    assert plan(COSTS, GOAL).cost is None


def test_a_goal_that_one_request_alone_misses_is_refused_with_the_reason() -> None:
    with pytest.raises(CapacityError, match=r"alone takes 6 ms, longer than the 5 ms of the goal"):
        plan(Costs(run_seconds=6e-3), Goal(10.0, 5e-3))


@pytest.mark.parametrize("costs", [Costs(), Costs(commit_seconds=1e-3)])
def test_costs_without_any_processor_time_are_refused_with_the_reason(costs: Costs) -> None:
    with pytest.raises(CapacityError, match="a request takes no time: give a file with --costs"):
        plan(costs, GOAL)


def test_bursts_that_miss_the_goal_at_any_rate_are_refused() -> None:
    with pytest.raises(CapacityError, match="no number of processes helps"):
        plan(Costs(request_seconds=1e-3), Goal(10.0, 5e-3, burst=50.0))


def test_runs_on_a_thread_take_a_second_processor_and_commits_a_part_of_one() -> None:
    inline = replace(COSTS, commit_seconds=0.0, commit_record_seconds=0.0)
    assert cores_of_a_process(inline) == 1.0
    assert cores_of_a_process(COSTS) == 1.25
    assert cores_of_a_process(replace(inline, run_seconds=5e-3)) == 2.0


def test_the_machines_that_are_left_when_the_spare_ones_fail_still_run_all_processes() -> None:
    found = plan(COSTS, replace(GOAL, requests_per_second=1e6, spare_nodes=2))
    assert found.processes_of_a_node * (found.nodes - 2) >= found.processes

"""How many processes and machines a load needs, and what else it takes: memory, network, records, proxies."""

import math
from dataclasses import dataclass
from typing import Final

from service.capacity.request_costs import CapacityError, Costs
from service.capacity.simulation import QUEUE_SECONDS, REQUESTS, Simulated, simulate
from service.runtime.timing import INLINE_SECONDS

STEPS: Final = 12  # halvings: the rate is found to a part in four thousand
SECONDS_PER_MONTH: Final = 30.0 * 86_400.0
TAIL: Final = 0.99
COMMIT_CORES: Final = 0.25  # beside a busy event loop, where statements run without the interpreter
LATENCY_FACTOR: Final = 3.0  # docs/guide/capacity.md says what was measured


@dataclass(frozen=True, slots=True)
class Goal:
    """What is to be served, and with what to spare.

    Attributes
    ----------
    requests_per_second : float
    p99_seconds : float
        Latency that 99 of 100 requests must not exceed.
    headroom : float
        Share of what a process could take that stays free, for peaks, restarts and estimates that are wrong.
    spare_nodes : int
        Machines beyond those that the load needs, so that as many may fail.
    node_cores : int
        Processors of a machine that the service may use.
    burst : float
        Mean number of requests that arrive at the same moment.
    queue_seconds : float
        ``TEMPERANCE_QUEUE_SECONDS``.
    latency_factor : float
        Times as long as simulated that requests are taken to last: the simulation knows no other load of a machine.
    """

    requests_per_second: float
    p99_seconds: float
    headroom: float = 0.3
    spare_nodes: int = 1
    node_cores: int = 32
    burst: float = 1.0
    queue_seconds: float = QUEUE_SECONDS
    latency_factor: float = LATENCY_FACTOR


@dataclass(frozen=True, slots=True)
class Limits:
    """What other parts of a deployment take; None where it is not known.

    Attributes
    ----------
    database_records_per_second : float or None
        Records that one database makes durable.
    proxy_requests_per_second : float or None
        Requests that one proxy passes on.
    """

    database_records_per_second: float | None = None
    proxy_requests_per_second: float | None = None


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a load brings to the parts around the processes; rates are per second.

    Attributes
    ----------
    bytes_in, bytes_out : float
        On the network of the service.
    records, commits, record_bytes : float
        Written to stores.
    databases, proxies : int or None
        That share the load; None where it is not known what one takes.
    """

    bytes_in: float
    bytes_out: float
    records: float
    commits: float
    record_bytes: float
    databases: int | None
    proxies: int | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a load needs.

    Attributes
    ----------
    requests_per_second : float
    most_of_a_process, rate_of_a_process : float
        Requests per second with which a process still reaches the goal, and those that it gets.
    p99_seconds, busy, requests_per_run : float
        At the rate that it gets: latency with its factor, processors in use, requests that are run together.
    processes, cores, nodes : int
        With the headroom; nodes with the spare ones.
    processes_of_a_node : int
        On each of them, the spare ones too.
    memory_bytes : float
        Of all processes.
    core_hours : float
        In a month of 30 days, of all nodes.
    cost : float or None
        Of these, in the currency of the price; None without a price.
    traffic : Traffic
    """

    requests_per_second: float
    most_of_a_process: float
    rate_of_a_process: float
    p99_seconds: float
    busy: float
    requests_per_run: float
    processes: int
    cores: int
    nodes: int
    processes_of_a_node: int
    memory_bytes: float
    core_hours: float
    cost: float | None
    traffic: Traffic


def plan(costs: Costs, goal: Goal, limits: Limits = Limits(), *, price: float | None = None) -> Plan:
    """What a load needs, where every process gets its share of the arrivals at random.

    Parameters
    ----------
    costs : Costs
    goal : Goal
    limits : Limits
    price : float, optional
        Of a processor for an hour.

    Raises
    ------
    CapacityError
        If a request that is alone misses the goal already.
    """
    most = most_of_a_process(costs, goal)
    processes = math.ceil(goal.requests_per_second / ((1.0 - goal.headroom) * most))
    seen = _seen(costs, goal, goal.requests_per_second / processes)
    cores = math.ceil(processes * cores_of_a_process(costs))
    needed = math.ceil(cores / goal.node_cores)
    core_hours = (needed + goal.spare_nodes) * goal.node_cores * SECONDS_PER_MONTH / 3600.0
    return Plan(
        requests_per_second=goal.requests_per_second,
        most_of_a_process=most,
        rate_of_a_process=goal.requests_per_second / processes,
        p99_seconds=goal.latency_factor * seen.quantile(TAIL),
        busy=seen.busy,
        requests_per_run=seen.requests_per_run,
        processes=processes,
        cores=cores,
        nodes=needed + goal.spare_nodes,
        processes_of_a_node=math.ceil(processes / needed),
        memory_bytes=processes * costs.process_bytes,
        core_hours=core_hours,
        cost=None if price is None else price * core_hours,
        traffic=_traffic(costs, goal.requests_per_second, seen, limits),
    )


def _traffic(costs: Costs, rate: float, seen: Simulated, limits: Limits) -> Traffic:
    records = rate if costs.is_recorded else 0.0
    return Traffic(
        bytes_in=rate * costs.request_bytes,
        bytes_out=rate * costs.response_bytes,
        records=records,
        commits=records / max(1.0, seen.records_per_commit),
        record_bytes=records * costs.record_bytes,
        databases=_shares(records, limits.database_records_per_second),
        proxies=_shares(rate, limits.proxy_requests_per_second),
    )


def most_of_a_process(costs: Costs, goal: Goal) -> float:
    """Requests per second with which one process still answers in time, and refuses none; by halving.

    Raises
    ------
    CapacityError
        If a request costs no time, or misses the goal already when it is alone.
    """
    if _least_seconds(costs) == 0.0:
        raise CapacityError(
            "the costs say that a request takes no time: give a file with --costs, or one of them with --cost, such as "
            "--cost request_seconds=0.0001"
        )
    if costs.alone_seconds > goal.p99_seconds:
        raise CapacityError(
            f"a request that is alone takes {1e3 * costs.alone_seconds:.3g} ms, longer than the "
            f"{1e3 * goal.p99_seconds:.3g} ms of the goal: no number of processes changes that"
        )
    low, high = 0.0, saturation(costs)
    for _ in range(STEPS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if _is_reached(costs, goal, middle) else (low, middle)
    if low == 0.0:
        raise CapacityError("requests miss the goal at any rate, so no number of processes helps: allow a longer p99")
    return low


def saturation(costs: Costs) -> float:
    """Requests per second that no process exceeds: with batches as large as can be, the loop or the thread is busy."""
    return 1.0 / _least_seconds(costs)


def _least_seconds(costs: Costs) -> float:
    requests = max(1, costs.batch_rows // costs.rows)
    rows = requests * costs.rows
    run = costs.run_of(rows)
    loop = costs.handling_seconds
    slowest = max(loop, run / requests) if run > INLINE_SECONDS else loop + run / requests
    return max(slowest, costs.commit_record_seconds)


def cores_of_a_process(costs: Costs) -> float:
    """One for the event loop, one for runs where a thread takes them, and a part of one for commits."""
    runs = 1.0 if costs.run_of(costs.rows) > INLINE_SECONDS else 0.0
    return 1.0 + runs + (COMMIT_CORES if costs.is_recorded else 0.0)


def _is_reached(costs: Costs, goal: Goal, rate: float) -> bool:
    seen = _seen(costs, goal, rate)
    return seen.refused == 0.0 and goal.latency_factor * seen.quantile(TAIL) <= goal.p99_seconds


def _seen(costs: Costs, goal: Goal, rate: float) -> Simulated:
    return simulate(costs, rate, requests=REQUESTS, burst=goal.burst, queue_seconds=goal.queue_seconds)


def _shares(total: float, limit: float | None) -> int | None:
    return None if limit is None else math.ceil(total / limit)

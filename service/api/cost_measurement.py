"""What requests to a model cost a process of the service, measured on a server of one's own under several loads.

Tested in tests/cli/test_capacity_command.py.
"""

import asyncio
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import httpx

from service.api import bench
from service.api.bench import Address
from service.capacity.cost_fit import Observed, commit_contention, commit_costs, processor_costs
from service.capacity.request_costs import CapacityError, Costs
from service.runtime.timing import RunTime

CONNECTIONS: Final = (1, 8, 64)
HALF: Final = 0.5  # of the capacity
MORE_ROWS: Final = 16  # times as many, so that the cost of a row is seen beside that of a request
COUNTERS: Final = {
    "requests": "temperance_request_rows_count",
    "rows": "temperance_request_rows_sum",
    "runs": "temperance_run_seconds_count",
    "commits": "temperance_record_commit_seconds_count",
    "commit_seconds": "temperance_record_commit_seconds_sum",
    "records": "temperance_records_total",
}


@dataclass(frozen=True, slots=True)
class Sample:
    """Requests of one size.

    Attributes
    ----------
    request : bytes
        Whole, as `bench.request_bytes` makes it.
    rows : int
        In it.
    """

    request: bytes
    rows: int


def measured(
    address: Address, sample: Sample, more: Sample, run_time: RunTime, *, rounds: int, seconds: float
) -> Costs:
    """Costs of requests of a size; those of records where the server keeps any.

    Parameters
    ----------
    address : Address
        Of a server with one process, on this machine, that no one else calls.
    sample, more : Sample
        Requests of that size, and larger ones.
    run_time : RunTime
        Of the model, as measured when it was loaded.
    rounds : int
        How often every load is repeated; the time counts in which a request took the least.
    seconds : float
        Of one load.

    Raises
    ------
    BenchFailed
        If an answer is anything but 200.
    CapacityError
        If too few requests were answered, or the machine does not tell processor times.
    """
    loads = [list(_round(address, sample, more, seconds)) for _ in range(rounds)]
    observed = [least_disturbed(load) for load in zip(*loads, strict=True)]
    costs = _fitted(observed, sample, run_time)
    costs = replace(
        costs,
        request_bytes=len(sample.request),
        response_bytes=bench.answer_bytes(address, sample.request),
        process_bytes=process_bytes(address),
        transport_seconds=max(0.0, observed[0].latency - costs.alone_seconds),
    )
    full = observed[len(CONNECTIONS) - 1]
    spread = least_disturbed([_spread(address, sample, full, seconds) for _ in range(rounds)])
    return replace(costs, commit_contention_seconds=commit_contention(spread, costs))


def _fitted(observed: Sequence[Observed], sample: Sample, run_time: RunTime) -> Costs:
    request, row, turn, joint_turn = processor_costs(observed, run_time)
    commit, record, commit_busy, record_busy = commit_costs(observed, run_time)
    return Costs(
        rows=sample.rows,
        request_seconds=request,
        row_seconds=row,
        turn_seconds=turn,
        joint_turn_seconds=joint_turn,
        run_seconds=run_time.fixed,
        run_row_seconds=run_time.per_row,
        commit_seconds=commit,
        commit_record_seconds=record,
        commit_processor_seconds=commit_busy,
        record_processor_seconds=record_busy,
    )


def _spread(address: Address, sample: Sample, full: Observed, seconds: float) -> Observed:
    # As many connections as got all of the capacity now send half of it.
    connections = CONNECTIONS[-1]
    pause = connections * full.seconds / (HALF * full.requests)
    return observe(address, sample.request, connections=connections, seconds=seconds, pause=pause)


def least_disturbed(observed: Sequence[Observed]) -> Observed:
    """The time in which a request took the processor for the least: what else a machine does only adds to that."""
    return min(observed, key=lambda one: one.loop_seconds / max(1, one.requests))


def _round(address: Address, sample: Sample, more: Sample, seconds: float) -> Iterator[Observed]:
    for connections in CONNECTIONS:
        yield observe(address, sample.request, connections=connections, seconds=seconds)
    for connections in CONNECTIONS[:2]:
        yield observe(address, more.request, connections=connections, seconds=seconds)


def observe(address: Address, request: bytes, *, connections: int, seconds: float, pause: float = 0.0) -> Observed:
    """What a server did while so many connections sent a request again and again, after a pause on average."""
    before, loop, process = counters(address), loop_seconds(address), processor_seconds(address)
    began = time.perf_counter()
    load = asyncio.run(bench.drive(address, request, connections=connections, seconds=seconds, pause=pause))
    lasted = time.perf_counter() - began
    loop, process = loop_seconds(address) - loop, processor_seconds(address) - process
    after = counters(address)
    changes = {name: after[name] - before[name] for name in COUNTERS}
    whole = {name: int(changes[name]) for name in COUNTERS if name != "commit_seconds"}
    return Observed(
        **whole,
        loop_seconds=loop,
        other_seconds=max(0.0, process - loop),
        commit_seconds=changes["commit_seconds"],
        latency=load.p50,
        seconds=lasted,
    )


def counters(address: Address) -> dict[str, float]:
    """What a server has counted so far, of all its models."""
    with httpx.Client(transport=httpx.HTTPTransport()) as client:  # a transport of its own: no proxy of the environment
        text = client.get(f"http://{address.host}:{address.port}/metrics").raise_for_status().text
    return {name: _sum(text, metric) for name, metric in COUNTERS.items()}


def _sum(text: str, metric: str) -> float:
    return sum(map(float, re.findall(rf"^{metric}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)))


def processor_seconds(address: Address) -> float:
    """Processor time that a server on this machine has used, with that of the system for it.

    Raises
    ------
    CapacityError
    """
    return _ticks(_of_process(address, "stat")) / os.sysconf("SC_CLK_TCK")


def loop_seconds(address: Address) -> float:
    """The same of its first thread alone, which runs the event loop.

    Raises
    ------
    CapacityError
    """
    return _ticks(_of_process(address, f"task/{address.process}/stat")) / os.sysconf("SC_CLK_TCK")


def _ticks(stat: str) -> int:
    return sum(map(int, stat.rpartition(")")[2].split()[11:13]))


def process_bytes(address: Address) -> float:
    """Memory of a server on this machine; of what it shares with others, its share.

    Raises
    ------
    CapacityError
    """
    found = re.search(r"^Pss:\s+(\d+) kB$", _of_process(address, "smaps_rollup"), re.MULTILINE)
    return 1024.0 * int(found[1]) if found else 0.0


def _of_process(address: Address, name: str) -> str:
    try:
        return Path(f"/proc/{address.process}/{name}").read_text(encoding="utf-8")
    except OSError:
        raise CapacityError("costs are measured on Linux alone, which tells what a process uses in /proc") from None


def samples(address: Address, path: str, bodies: Sequence[tuple[int, bytes]]) -> list[Sample]:
    """Requests with some numbers of rows."""
    return [Sample(bench.request_bytes(address, path, body), rows) for rows, body in bodies]

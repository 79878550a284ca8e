"""`temperance capacity`: what a request costs here, and the machines that a load needs.

Tested in tests/cli/test_capacity_command.py.
"""

import tempfile
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import apsw
import click
from rich.table import Table

from service.api.cost_measurement import MORE_ROWS, measured, observe, samples
from service.bundle.repository import Repository
from service.capacity.plan import LATENCY_FACTOR, Goal, Limits, Plan, plan
from service.capacity.request_costs import Costs, read_costs, with_values, write_costs
from service.cli.arguments import FiniteRange, file_path, json_flag, models_option, published, split
from service.cli.console import print_json, print_table
from service.cli.own_server import OF_CALLERS, OF_ROWS, instances, own_server
from service.cli.serve_command import one_blas_thread
from service.environment import read_settings
from service.runtime.model import Model, load_model
from service.settings import Settings

OF_ONE_PROCESS: Final = (*OF_CALLERS, "workers", "threads", "store", "secrets")
"""Settings that the measured server leaves at their defaults: one process, with a store of its own."""
MEBI: Final = 2**20
MOST_REQUESTS: Final = 1e9


@click.group()
def capacity() -> None:
    """Plan how many processes and machines a load needs."""


@capacity.command()
@click.argument("name")
@click.option("--data", type=file_path, help="Rows to send.  [default: a synthetic row within the declared ranges]")
@click.option("--verb", type=click.Choice(OF_ROWS), default="decide", show_default=True)
@click.option("--rows", type=click.IntRange(min=1), default=1, show_default=True, help="Rows in a request.")
@click.option("--seconds", type=FiniteRange(min=0.5), default=2.0, show_default=True, help="Duration of one load.")
@click.option(
    "--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Times that a load is repeated."
)
@click.option("--out", type=file_path, help="File for the costs, which `capacity plan` reads.")
@models_option
@json_flag
def measure(
    name: str,
    repository: Repository,
    *,
    data: Path | None,
    verb: str,
    rows: int,
    rounds: int,
    seconds: float,
    out: Path | None,
    as_json: bool,
) -> None:
    """Measure what requests to a model cost a process of the service on this machine."""
    model = load_model(published(repository, name, None))
    bodies = [(number, instances(model, data, number)) for number in (rows, MORE_ROWS * rows)]
    settings = read_settings().model_copy(update={"models": repository.root, "log_level": "error"})
    one_blas_thread()  # of the server, which inherits the environment
    costs = _measured(model, settings, f"/v1/models/{name}:{verb}", bodies, rounds=rounds, seconds=seconds)
    if out is not None:
        write_costs(costs, out)
    if as_json:
        print_json(asdict(costs))
    else:
        table = Table("cost", "")
        for field, value in asdict(costs).items():
            table.add_row(field, f"{value:.6g}")
        print_table(table)


def _measured(
    model: Model, settings: Settings, path: str, bodies: list[tuple[int, bytes]], *, rounds: int, seconds: float
) -> Costs:
    with tempfile.TemporaryDirectory() as folder, own_server(settings, Path(folder), defaults=OF_ONE_PROCESS) as server:
        sample, more = samples(server, path, bodies)
        observe(server, sample.request, connections=8, seconds=seconds)
        record = _record_bytes(Path(folder) / "audit.db")  # while all records are of this size
        costs = measured(server, sample, more, model.run_time, rounds=rounds, seconds=seconds)
    return replace(costs, record_bytes=record, batch_rows=model.bundle.manifest.runtime.batch_rows)


def _record_bytes(store: Path) -> float:
    if not store.exists():  # TEMPERANCE_AUDIT=off
        return 0.0
    with closing(apsw.Connection(str(store), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        pages, page, free = (connection.pragma(name) for name in ("page_count", "page_size", "freelist_count"))
        records = connection.execute("SELECT count(*) FROM predictions").get
    return float((pages - free) * page / records) if records else 0.0


@capacity.command("plan")
@click.option("--costs", "costs_file", type=file_path, help="File that `capacity measure --out` wrote.")
@click.option("--cost", "values", multiple=True, metavar="NAME=NUMBER", help="Another value for one of the costs.")
@click.option("--requests-per-second", "rates", required=True, help="To be served; several separated by commas.")
@click.option("--p99-ms", type=FiniteRange(min=0, min_open=True), required=True, help="Latency of 99 %.")
@click.option("--headroom", type=FiniteRange(0, 1, max_open=True), default=0.3, show_default=True)
@click.option("--spare-nodes", type=click.IntRange(min=0), default=1, show_default=True, help="That may fail.")
@click.option(
    "--node-cores", type=click.IntRange(min=1), default=32, show_default=True, help="Processors of a machine."
)
@click.option("--burst", type=FiniteRange(min=1), default=1.0, show_default=True, help="Requests that come at once.")
@click.option(
    "--latency-factor",
    type=FiniteRange(min=1),
    default=LATENCY_FACTOR,
    show_default=True,
    help="Times as long as simulated that requests last.",
)
@click.option("--database-records", type=FiniteRange(min=1), help="Records per second that one database takes.")
@click.option("--proxy-requests", type=FiniteRange(min=1), help="Requests per second that one proxy passes on.")
@click.option("--price", type=FiniteRange(min=0), help="Of one processor for one hour, in your currency.")
@json_flag
def plan_(
    costs_file: Path | None,
    values: tuple[str, ...],
    *,
    rates: str,
    p99_ms: float,
    headroom: float,
    spare_nodes: int,
    node_cores: int,
    burst: float,
    latency_factor: float,
    database_records: float | None,
    proxy_requests: float | None,
    price: float | None,
    as_json: bool,
) -> None:
    """Plan the processes and machines for a load, by simulation of one process."""
    costs = with_values(Costs() if costs_file is None else read_costs(costs_file), values)
    goals = [
        Goal(
            rate,
            p99_ms / 1e3,
            headroom=headroom,
            spare_nodes=spare_nodes,
            node_cores=node_cores,
            burst=burst,
            queue_seconds=read_settings().queue_seconds,
            latency_factor=latency_factor,
        )
        for rate in _rates(rates)
    ]
    found = [plan(costs, goal, Limits(database_records, proxy_requests), price=price) for goal in goals]
    if as_json:
        print_json({"plans": [asdict(one) for one in found]})
    else:
        print_table(_plans(found))


def _rates(text: str) -> list[float]:
    try:
        rates = [float(part) for part in split(text) or ()]
    except ValueError:
        rates = []
    if not rates or not all(0.0 < rate <= MOST_REQUESTS for rate in rates):
        problem = f"numbers above 0, at most {MOST_REQUESTS:g}, separated by commas"
        raise click.BadParameter(problem, param_hint="--requests-per-second")
    return rates


def _plans(found: list[Plan]) -> Table:
    table = Table("requests/s", *(f"{one.requests_per_second:,.0f}" for one in found))
    for cells in zip(*(lines(one) for one in found), strict=True):
        table.add_row(cells[0][0], *(text for _, text in cells))
    return table


def lines(found: Plan) -> list[tuple[str, str]]:
    """A plan for people: what, and how much."""
    unknown, traffic = "unknown", found.traffic
    return [
        ("requests/s of one process, at most", f"{found.most_of_a_process:,.0f}"),
        ("requests/s of one process, planned", f"{found.rate_of_a_process:,.0f}"),
        ("p99, expected", f"{1e3 * found.p99_seconds:.3g} ms"),
        ("processors in use, of one process", f"{found.busy:.2f}"),
        ("requests in a joint run", f"{found.requests_per_run:.2f}"),
        ("processes", f"{found.processes:,}"),
        ("processors", f"{found.cores:,}"),
        ("machines, with the spare ones", f"{found.nodes:,}"),
        ("processes of one machine", f"{found.processes_of_a_node:,}"),
        ("memory of the processes", f"{found.memory_bytes / 2**30:,.1f} GiB"),
        ("network in / out", f"{traffic.bytes_in / MEBI:,.1f} / {traffic.bytes_out / MEBI:,.1f} MiB/s"),
        ("records, in groups", f"{traffic.records:,.0f}/s, {traffic.commits:,.0f}/s"),
        ("bytes of records", f"{traffic.record_bytes / MEBI:,.1f} MiB/s"),
        ("databases", unknown if traffic.databases is None else f"{traffic.databases:,}"),
        ("proxies", unknown if traffic.proxies is None else f"{traffic.proxies:,}"),
        ("processor hours in 30 days", f"{found.core_hours:,.0f}"),
        ("cost in 30 days", unknown if found.cost is None else f"{found.cost:,.2f}"),
    ]

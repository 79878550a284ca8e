"""`temperance capacity`: what a request costs here, and the machines that a load needs.

Tested in tests/cli/test_capacity_command.py.
"""

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click
from rich.table import Table

from service.api.cost_measurement import MORE_ROWS, counters, measured, samples
from service.bundle.repository import Repository
from service.capacity.costs import Costs, read_costs, with_values, write_costs
from service.capacity.plan import Goal, Limits, Plan, plan
from service.cli.arguments import file_path, json_flag, models_option, published
from service.cli.console import print_json, print_table
from service.cli.own_server import OF_CALLERS, OF_ROWS, instances, own_server
from service.cli.serve_command import one_blas_thread
from service.environment import read_settings
from service.runtime.model import Model, load_model
from service.settings import Settings

OF_ONE_PROCESS: Final = (*OF_CALLERS, "workers", "threads", "store", "secrets")
"""Settings that the measured server leaves at their defaults: one process, with a store of its own."""
MEBI: Final = 2**20


@click.group()
def capacity() -> None:
    """Plan how many processes and machines a load needs."""


@capacity.command()
@click.argument("name")
@click.option("--data", type=file_path, help="Rows to send.  [default: a synthetic row within the declared ranges]")
@click.option("--verb", type=click.Choice(OF_ROWS), default="decide", show_default=True)
@click.option("--rows", type=click.IntRange(min=1), default=1, show_default=True, help="Rows in a request.")
@click.option("--seconds", type=click.FloatRange(min=0.5), default=2.0, show_default=True, help="Duration of one load.")
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
    seconds: float,
    out: Path | None,
    as_json: bool,
) -> None:
    """Measure what requests to a model cost a process of the service on this machine."""
    model = load_model(published(repository, name, None))
    bodies = [(number, instances(model, data, number)) for number in (rows, MORE_ROWS * rows)]
    settings = read_settings().model_copy(update={"models": repository.root, "log_level": "error"})
    one_blas_thread()  # of the server, which inherits the environment
    costs = _measured(model, settings, f"/v1/models/{name}:{verb}", bodies, seconds=seconds)
    if out is not None:
        write_costs(costs, out)
    if as_json:
        print_json(asdict(costs))
    else:
        print_table(_table([(field, f"{value:.6g}") for field, value in asdict(costs).items()], "cost"))


def _measured(model: Model, settings: Settings, path: str, bodies: list[tuple[int, bytes]], *, seconds: float) -> Costs:
    with tempfile.TemporaryDirectory() as folder:
        with own_server(settings, Path(folder), defaults=OF_ONE_PROCESS) as server:
            sample, more = samples(server, path, bodies)
            costs = measured(server, sample, more, model.run_time, seconds=seconds)
            records = counters(server)["records"]
        found = {"batch_rows": str(model.manifest.runtime.batch_rows)}
        if records:  # the store's own log is written into its file when the server ends
            found["record_bytes"] = str((Path(folder) / "audit.db").stat().st_size / records)
    return with_values(costs, [f"{field}={value}" for field, value in found.items()])


@capacity.command("plan")
@click.option("--costs", "costs_file", type=file_path, help="File that `capacity measure --out` wrote.")
@click.option("--cost", "values", multiple=True, metavar="NAME=NUMBER", help="Another value for one of the costs.")
@click.option("--requests-per-second", type=click.FloatRange(min=0, min_open=True), required=True, help="To be served.")
@click.option("--p99-ms", type=click.FloatRange(min=0, min_open=True), required=True, help="Latency of 99 %.")
@click.option("--headroom", type=click.FloatRange(0, 1, max_open=True), default=0.3, show_default=True)
@click.option("--spare-nodes", type=click.IntRange(min=0), default=1, show_default=True, help="That may fail.")
@click.option(
    "--node-cores", type=click.IntRange(min=1), default=32, show_default=True, help="Processors of a machine."
)
@click.option(
    "--burst", type=click.FloatRange(min=1), default=1.0, show_default=True, help="Requests that come at once."
)
@click.option("--database-records", type=click.FloatRange(min=1), help="Records per second that one database takes.")
@click.option("--proxy-requests", type=click.FloatRange(min=1), help="Requests per second that one proxy passes on.")
@click.option("--price", type=click.FloatRange(min=0), help="Of one processor for one hour, in your currency.")
@json_flag
def plan_(
    costs_file: Path | None,
    values: tuple[str, ...],
    *,
    requests_per_second: float,
    p99_ms: float,
    headroom: float,
    spare_nodes: int,
    node_cores: int,
    burst: float,
    database_records: float | None,
    proxy_requests: float | None,
    price: float | None,
    as_json: bool,
) -> None:
    """Plan the processes and machines for a load, by simulation of one process."""
    costs = with_values(Costs() if costs_file is None else read_costs(costs_file), values)
    goal = Goal(
        requests_per_second,
        p99_ms / 1e3,
        headroom=headroom,
        spare_nodes=spare_nodes,
        node_cores=node_cores,
        burst=burst,
        queue_seconds=read_settings().queue_seconds,
    )
    found = plan(costs, goal, Limits(database_records, proxy_requests), price=price)
    if as_json:
        print_json(asdict(found))
    else:
        print_table(_table(lines(found), "what the load needs"))


def lines(found: Plan) -> list[tuple[str, str]]:
    """A plan for people: what, and how much."""
    unknown = "unknown"
    return [
        ("requests/s of one process, at most", f"{found.most_of_a_process:,.0f}"),
        ("requests/s of one process, planned", f"{found.rate_of_a_process:,.0f}"),
        ("p99, simulated", f"{1e3 * found.p99_seconds:.3g} ms"),
        ("processors in use, of one process", f"{found.busy:.2f}"),
        ("requests in a joint run", f"{found.requests_per_run:.2f}"),
        ("processes", f"{found.processes:,}"),
        ("processors", f"{found.cores:,}"),
        ("machines, with the spare ones", f"{found.nodes:,}"),
        ("memory of the processes", f"{found.memory_bytes / 2**30:,.1f} GiB"),
        ("network in / out", f"{found.bytes_in / MEBI:,.1f} / {found.bytes_out / MEBI:,.1f} MiB/s"),
        ("records, in groups", f"{found.records:,.0f}/s, {found.commits:,.0f}/s"),
        ("bytes of records", f"{found.record_bytes / MEBI:,.1f} MiB/s"),
        ("databases", unknown if found.databases is None else f"{found.databases:,}"),
        ("proxies", unknown if found.proxies is None else f"{found.proxies:,}"),
        ("processor hours in 30 days", f"{found.core_hours:,.0f}"),
        ("cost in 30 days", unknown if found.cost is None else f"{found.cost:,.2f}"),
    ]


def _table(rows: list[tuple[str, str]], title: str) -> Table:
    table = Table(title, "")
    for row in rows:
        table.add_row(*row)
    return table

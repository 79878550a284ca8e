"""`temperance score`: every row of a data set is answered, in a file."""

from importlib import import_module
from typing import Any, Final

import click

from service.bundle.repository import Repository
from service.cli.arguments import file_path, models_option, version_to_use
from service.cli.console import track
from service.data.formats import out_of_order, parts_of
from service.runtime.model import load_model
from service.scoring.score import Engine
from service.scoring.score import score as score_rows
from service.scoring.score_request import ON_ERROR, ScoreRequest

ENGINES: Final = {
    "local": "service.scoring.score:score_here",
    "ray": "service.cluster.sharded_score:RayEngine",
}
"""Who computes; imported when it is chosen."""


@click.command()
@click.argument("name")
@click.option(
    "--data", required=True, type=file_path, help="Rows, of any size: CSV, Parquet, NPZ, or a directory of parts."
)
@click.option("--out", required=True, type=file_path, help="File for the answers: CSV or Parquet.")
@click.option("--version", type=click.IntRange(min=1), help="Version that answers.  [default: stable]")
@click.option("--policy", help="Policy that decides.  [default: the manifest's]")
@click.option("--site", help="Site whose prevalence applies.")
@click.option("--id", "id_column", help="Column that is copied to the answers.")
@click.option(
    "--on-error",
    type=click.Choice(ON_ERROR),
    default="stop",
    show_default=True,
    help="A row that cannot be answered ends the run, or is written with its reason in a column `error`.",
)
@click.option(
    "--chunk-rows", type=click.IntRange(min=1), default=65_536, show_default=True, help="Rows in memory at a time."
)
@click.option(
    "--engine",
    type=click.Choice(tuple(ENGINES)),
    default="local",
    show_default=True,
    help="Who computes: this process, or the processes of a Ray cluster.",
)
@click.option(
    "--address", help="Head of the Ray cluster, HOST:PORT.  [default: a cluster on this machine, for this run]"
)
@click.option("--parallel", type=click.IntRange(min=1), help="Processes of Ray at a time.  [default: its processors]")
@models_option
def score(
    name: str,
    repository: Repository,
    *,
    version: int | None,
    engine: str,
    address: str | None,
    parallel: int | None,
    **request: Any,
) -> None:
    """Answer every row of a data set. An interrupted run continues where it ended."""
    chosen = _engine(engine, address, parallel)
    model = load_model(version_to_use(repository, name, version))
    if (pair := out_of_order(parts_of(request["data"]))) is not None:
        click.echo(f"note: parts are read in the order of their names: {pair[0]} before {pair[1]}", err=True)
    done = score_rows(model, ScoreRequest(**request), engine=chosen, track=track("scoring"))
    reused = f", {done.reused} of them by an earlier run" if done.reused else ""
    skipped = f", {done.skipped} without an answer (the reason is in column error)" if done.skipped else ""
    click.echo(f"Wrote {request['out']}: {done.rows} row{'s' if done.rows > 1 else ''}{reused}{skipped}.")


def _engine(name: str, address: str | None, parallel: int | None) -> Engine:
    module, _, entry = ENGINES[name].partition(":")
    found: Any = getattr(import_module(module), entry)
    if name != "ray" and (address is not None or parallel is not None):
        raise click.UsageError("--address and --parallel are of --engine ray")
    engine: Engine = found(address, parallel) if name == "ray" else found
    return engine

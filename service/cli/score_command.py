"""`temperance score`: every row of a data set is answered, in a file."""

from typing import Any

import click

from service.bundle.repository import Repository
from service.cli.arguments import file_path, models_option, version_to_use
from service.cli.console import track
from service.runtime.model import load_model
from service.scoring.score import score as score_rows
from service.scoring.score_request import ON_ERROR, ScoreRequest


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
@models_option
def score(name: str, repository: Repository, *, version: int | None, **request: Any) -> None:
    """Answer every row of a data set. An interrupted run continues where it ended."""
    model = load_model(version_to_use(repository, name, version))
    done = score_rows(model, ScoreRequest(**request), track=track("scoring"))
    reused = f", {done.reused} of them by an earlier run" if done.reused else ""
    skipped = f", {done.skipped} without an answer (the reason is in column error)" if done.skipped else ""
    click.echo(f"Wrote {request['out']}: {done.rows} row{'s' if done.rows > 1 else ''}{reused}{skipped}.")

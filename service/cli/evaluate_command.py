"""`temperance evaluate`: a version on labelled rows, as tables, JSON or a page."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from service.bundle.repository import Repository
from service.cli.arguments import (
    FiniteRange,
    column_options,
    columns_of,
    file_path,
    models_option,
    split,
    version_to_use,
)
from service.cli.console import print_table, track, write_json
from service.cli.messages import identity
from service.evaluation.evaluate import EvaluateRequest, Evaluation, evaluate_file
from service.evaluation.training_losses import NAMES
from service.reporting import page
from service.reporting.terminal import render_report
from service.runtime.model import Model, load_model

LOSSES = tuple(dict.fromkeys(name for names in NAMES.values() for name in names))


@click.command()
@click.argument("name")
@click.option("--data", required=True, type=file_path, help="Labelled rows.")
@click.option("--ood-data", type=file_path, help="Out-of-distribution data, without labels.")
@column_options("a group is one draw in intervals.")
@click.option("--losses", help=f"Training losses to report, separated by commas: {', '.join(LOSSES)}.")
@click.option("--horizon", type=click.IntRange(min=1), help="Steps of a trajectory: the error rate compounds.")
@click.option(
    "--recovery",
    type=FiniteRange(0, 1),
    help="Probability per step of recovering from an error, for --horizon.  [default: 0]",
)
@click.option("--prequential", is_flag=True, help="Compare calibrators by prequential code length.")
@click.option("--version", type=click.IntRange(min=1), help="Version to evaluate.  [default: stable]")
@click.option(
    "--json", "json_path", is_flag=False, flag_value="-", metavar="[PATH]", help="Write JSON there, or print it."
)
@click.option("--html", "page_path", type=file_path, help="Write a report to look at: one file, nothing to load.")
@models_option
def evaluate(
    name: str,
    repository: Repository,
    *,
    version: int | None,
    json_path: str | None,
    page_path: Path | None,
    **flags: Any,
) -> None:
    """Measure how good a version's probabilities, flags and decisions are on labelled rows."""
    request = _request(flags)
    model = load_model(version_to_use(repository, name, version))
    found = evaluate_file(model, request, track=track(), comparing=track("comparing calibrators"))
    if page_path is not None:
        page.write(page_path, found)
    _print_evaluation(model, found, json_path)


def _request(flags: dict[str, Any]) -> EvaluateRequest:
    losses, recovery = split(flags.pop("losses")) or (), flags.pop("recovery")
    if recovery is not None and flags["horizon"] is None:
        raise click.UsageError("--recovery needs the number of steps of a trajectory: --horizon")
    columns = columns_of(flags)
    return EvaluateRequest(columns=columns, losses=losses, recovery=recovery or 0.0, at=datetime.now(UTC), **flags)


def _print_evaluation(model: Model, found: Evaluation, json_path: str | None) -> None:
    if json_path is not None:
        write_json({**identity(model), "origin": asdict(found.origin), "evaluation": found.report.as_json()}, json_path)
    if json_path != "-":
        click.echo(f"{model.bundle.title}, calibration {model.method} ({model.status}), {model.bundle.digest}")
        click.echo(found.origin.as_text())
        print_table(render_report(found.report))

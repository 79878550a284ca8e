"""Verbs that measure a version: evaluate, score, bench."""

import json
from contextlib import nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import numpy as np

from service import main as composition
from service.api import bench
from service.bundle.repository import Repository
from service.cli.arguments import (
    file_path,
    json_flag,
    models_option,
    newer_than,
    print_json,
    print_table,
    published,
    split,
    track,
    write_json,
)
from service.cli.serving import one_blas_thread
from service.data.columns import LABELS_AS, Columns
from service.data.dataset import read_rows
from service.errors import BenchFailed
from service.evaluation.evaluate import EvaluateRequest, Evaluation, evaluate_file
from service.evaluation.training_losses import NAMES
from service.reporting import page
from service.reporting.terminal import render_report
from service.runtime.model import Model, load_model
from service.scoring.score import ON_ERROR, ScoreRequest
from service.scoring.score import score as score_rows
from service.settings import Settings

LOSSES = tuple(dict.fromkeys(name for names in NAMES.values() for name in names))


@click.command()
@click.argument("name")
@click.option("--data", required=True, type=file_path, help="Labelled rows.")
@click.option("--ood-data", type=file_path, help="Out-of-distribution data, without labels.")
@click.option("--label", help="Column of the labels.  [default: y]")
@click.option("--group", help="Column of groups (patients); a group is one draw in intervals.  [default: group]")
@click.option("--weight", help="Column of row weights.  [default: weight]")
@click.option(
    "--labels-as",
    type=click.Choice(LABELS_AS),
    help="What labels are: names, indices from 0, or indices from 1.  [default: names, or indices where only they fit]",
)
@click.option("--losses", help=f"Training losses to report, separated by commas: {', '.join(LOSSES)}.")
@click.option(
    "--horizon", type=click.IntRange(min=1), help="Steps of a trajectory over which the error rate compounds."
)
@click.option(
    "--recovery",
    type=click.FloatRange(0, 1),
    help="Probability per step of recovering from an error, for --horizon.  [default: 0]",
)
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
    label: str | None,
    group: str | None,
    weight: str | None,
    labels_as: str | None,
    losses: str | None,
    horizon: int | None,
    recovery: float | None,
    version: int | None,
    json_path: str | None,
    page_path: Path | None,
    **request: Any,
) -> None:
    """Say how good a version's probabilities, flags and decisions are on labelled rows."""
    if recovery is not None and horizon is None:
        raise click.UsageError("--recovery needs the number of steps of a trajectory: --horizon")
    model = load_model(published(repository, name, version))
    if version is None and (note := newer_than(repository, name, model.bundle.version)):
        click.echo(f"note: {note}", err=True)
    options = EvaluateRequest(
        columns=Columns(label, group, weight, labels_as),
        losses=split(losses) or (),
        horizon=horizon,
        recovery=recovery or 0.0,
        at=datetime.now(UTC),
        **request,
    )
    found = evaluate_file(model, options, track=track())
    if page_path is not None:
        page.write(page_path, found)
    _print_evaluation(model, found, json_path)


@click.command()
@click.argument("name")
@click.option(
    "--data", required=True, type=file_path, help="Rows, of any size: CSV, Parquet, NPZ, or a directory of parts."
)
@click.option("--out", required=True, type=file_path, help="Where the answers go: CSV or Parquet.")
@click.option("--version", type=click.IntRange(min=1), help="Version that answers.  [default: stable]")
@click.option("--policy", help="Policy that decides.  [default: the manifest's]")
@click.option("--site", help="Site whose prevalence holds.")
@click.option("--id", "id_column", help="Column that is copied to the answers.")
@click.option(
    "--on-error",
    type=click.Choice(ON_ERROR),
    default="stop",
    show_default=True,
    help="A row that cannot be answered ends the run, or is written with its reason in a column `error`.",
)
@click.option("--chunk-rows", type=click.IntRange(min=1), default=65_536, show_default=True, help="Rows at a time.")
@models_option
def score(name: str, repository: Repository, *, version: int | None, **request: Any) -> None:
    """Answer every row of a data set; interrupted, it goes on where it ended."""
    model = load_model(published(repository, name, version))
    if version is None and (note := newer_than(repository, name, model.bundle.version)):
        click.echo(f"note: {note}", err=True)
    done = score_rows(model, ScoreRequest(**request), track=track("scoring"))
    reused = f", {done.reused} of them by an earlier run" if done.reused else ""
    skipped = f", {done.skipped} without an answer (column error says why)" if done.skipped else ""
    click.echo(f"Wrote {request['out']}: {done.rows} row{'s' if done.rows > 1 else ''}{reused}{skipped}.")


@click.command("bench")
@click.argument("name")
@click.option("--data", type=file_path, help="Rows to send.  [default: one made of the declared ranges]")
@click.option("--url", help="A running server that serves the same model.  [default: one of its own]")
@click.option("--verb", type=click.Choice(["predict", "detect", "decide"]), default="decide", show_default=True)
@click.option("--rows", type=click.IntRange(min=1), default=1, show_default=True, help="Rows in a request.")
@click.option("--connections", default="1,8,64", show_default=True, help="How many at once, separated by commas.")
@click.option("--seconds", type=click.FloatRange(min=0.5), default=2.0, show_default=True, help="Of one run.")
@models_option
@json_flag
def bench_(
    name: str,
    repository: Repository,
    *,
    data: Path | None,
    url: str | None,
    verb: str,
    rows: int,
    connections: str,
    seconds: float,
    as_json: bool,
) -> None:
    """Drive a server with rows, beside a floor that answers as many bytes and computes nothing."""
    counts = _whole_numbers(connections)
    model = load_model(published(repository, name, None))
    path, body = f"/v1/models/{name}:{verb}", _instances(model, data, rows)
    settings = composition.read_settings().model_copy(update={"models": repository.root, "log_level": "error"})
    one_blas_thread()  # of a server of its own, which inherits the environment
    with nullcontext(_address(url)) if url else bench.running(_serve_own, settings) as server:
        request = bench.request_bytes(server, path, body)
        with bench.running(bench.serve_floor, bench.ask(server, request)) as floor:
            found = list(bench.compare(server, floor, request, connections=counts, seconds=seconds))
    if as_json:
        print_json({"model": _identity(model), "verb": verb, "rows": rows, "runs": [asdict(one) for one in found]})
        return
    click.echo(
        f"{model.bundle.title}, :{verb}, {rows} row{'s' if rows > 1 else ''} in a request, validated and counted"
    )
    print_table(bench.as_table(found, rows=rows))


def _serve_own(settings: Settings, port: int) -> None:
    composition.serve(settings.model_copy(update={"port": port}))


def _instances(model: Model, data: Path | None, rows: int) -> bytes:
    found = model.inputs.synthetic() if data is None else read_rows(data, model.manifest, inputs=model.inputs)
    if not isinstance(found, np.ndarray):
        raise BenchFailed(f"{model.bundle.title} takes more than columns of numbers; bench sends nothing else")
    chosen = np.resize(found, (rows, found.shape[1]))
    instances = [[None if cell != cell else cell for cell in row] for row in chosen.tolist()]  # noqa: PLR0124  # NaN
    return json.dumps({"instances": instances}).encode()


def _address(url: str) -> bench.Address:
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname is None:
        raise click.BadParameter("a server's URL is http://HOST:PORT", param_hint="--url")
    return bench.Address(parts.hostname, parts.port or 80)


def _whole_numbers(text: str) -> tuple[int, ...]:
    numbers = split(text) or ()
    if not all(number.isdecimal() and int(number) for number in numbers):
        raise click.BadParameter("whole numbers above 0, separated by commas", param_hint="--connections")
    return tuple(map(int, numbers))


def _print_evaluation(model: Model, found: Evaluation, json_path: str | None) -> None:
    if json_path is not None:
        write_json(
            {**_identity(model), "origin": asdict(found.origin), "evaluation": found.report.as_json()}, json_path
        )
    if json_path != "-":
        click.echo(f"{model.bundle.title}, calibration {model.method} ({model.status}), {model.bundle.digest}")
        click.echo(found.origin.as_text())
        print_table(render_report(found.report))


def _identity(model: Model) -> dict[str, object]:
    return {
        "model": model.name,
        "version": model.version,
        "digest": model.bundle.digest,
        "calibration": model.calibration,
    }

"""The command: thin verbs over use cases. Exit code 0, or 1 with one clear line on stderr, or 2 for bad usage."""

import json
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import numpy as np
from rich.console import Console
from rich.progress import track as progress_bar

from service import main as composition
from service import onboarding
from service.api import bench
from service.bundle.repository import Bundle, Repository
from service.bundle.scores import state_bytes
from service.bundle.writer import FIRST_ALIAS, set_alias
from service.core.label_sets import METHODS as SET_METHODS
from service.errors import BenchFailed, BundleNotFound, ServiceError
from service.evaluation import fit as fitting
from service.evaluation import page
from service.evaluation.by_task import EVALUATIONS, TaskEvaluation, measure_task
from service.evaluation.calibrate import METHODS
from service.evaluation.dataset import Columns, read_rows
from service.evaluation.measure import EvaluateRequest, measure
from service.evaluation.named_losses import NAMES
from service.evaluation.render import render_measured, render_record, render_state
from service.evaluation.score import ScoreRequest
from service.evaluation.score import score as score_rows
from service.graph.inspect import inspect_graph
from service.runtime.model import Model, load_model
from service.runtime.session import Session
from service.settings import PREFIX, Settings

TABLE_WIDTH = 132
TASKS = ("multiclass", "multilabel", "sequence")
OUTPUT_KINDS = ("logits", "log_probabilities", "probabilities", "sigmoid_logits", "sigmoid_probabilities")
LOSSES = tuple(dict.fromkeys(name for names in NAMES.values() for name in names))

models_option = click.option(
    "--models",
    "repository",
    type=click.Path(path_type=Path),
    default=Path("models"),
    show_default=True,
    callback=lambda _context, _option, path: Repository(path),
    help="Model repository.",
)
json_flag = click.option("--json", "as_json", is_flag=True, help="Print JSON for a program.")
file_path = click.Path(path_type=Path)


def main() -> None:
    """Entry point of the `temperance` command."""
    try:
        command(prog_name="temperance")
    except ServiceError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename or 'the file system'}: {error.strerror or type(error).__name__}")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="temperance")
def command() -> None:
    """Calibrated probabilities, out-of-distribution flags and least-cost decisions from ONNX classifiers."""


@command.command("import")
@click.argument("path", type=file_path)
@click.option("--name", required=True, help="What to call the model.")
@click.option("--output", help="Tensor that carries the scores.")
@click.option("--output-kind", type=click.Choice(OUTPUT_KINDS), help="What the scores are.")
@click.option("--task", type=click.Choice(TASKS), help="What is classified.")
@click.option("--classes", help="Class names in output order, separated by commas.")
@click.option("--features", help="Feature names in column order, separated by commas.")
@click.option("--missing", type=click.Choice(["nan"]), help="Let numbers be missing, as NaN; the graph must take it.")
@click.option("--expose-logits", is_flag=True, help="Use what the last softmax or sigmoid takes: logits.")
@click.option("--expose-features", metavar="TENSOR|auto", help="Make a tensor an output that feature scores can use.")
@click.option("--force", is_flag=True, help="Replace a draft that is there.")
@models_option
@json_flag
def import_(path: Path, name: str, repository: Repository, *, force: bool, as_json: bool, **declared: Any) -> None:
    """Make a draft from an .onnx file, and say what was concluded about it and from what."""
    lists: dict[str, Any] = {key: _split(declared.pop(key)) for key in ("classes", "features")}
    said = onboarding.Declared(**declared, **lists)
    imported = onboarding.import_model(repository, name, path, said, force=force)
    if as_json:
        found = {c.subject: {"value": c.value, "evidence": c.evidence} for c in imported.conclusions}
        _print_json({"draft": str(imported.draft), "conclusions": found})
        return
    for conclusion in imported.conclusions:
        value = conclusion.value if isinstance(conclusion.value, str) else ", ".join(conclusion.value)
        click.echo(f"{conclusion.subject}: {value}  ({conclusion.evidence})")
    click.echo(f"Wrote {imported.draft}. Edit its manifest.toml, then run `temperance fit {name} --data ROWS`.")


@command.command()
@click.argument("name")
@click.option("--data", required=True, type=file_path, help="Labelled rows the model was not trained on.")
@click.option("--train-data", type=file_path, help="Rows it was trained on, for scores with fitted state.")
@click.option("--ood-data", type=file_path, help="Rows of another population, without labels, to judge scores on.")
@click.option("--label", help="Column of the labels.  [default: y]")
@click.option("--group", help="Column that tells whose row it is; rows of a group are never parted.  [default: group]")
@click.option("--weight", help="Column of row weights.  [default: weight]")
@click.option(
    "--calibrator",
    type=click.Choice(METHODS),
    help="The map to fit; auto lets several compete on held-out rows.  [default: temperature; of labels platt]",
)
@click.option(
    "--false-alarm",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Share of good rows that may be flagged; replaces the manifest's.",
)
@click.option("--per-class", is_flag=True, help="Hold that share within every predicted class.")
@click.option(
    "--label-sets",
    type=click.Choice(list(SET_METHODS)),
    default="lac",
    show_default=True,
    help="How sets of labels are made.",
)
@click.option(
    "--confidence",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Make thresholds hold for these very rows with this probability, not on average.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of folds, halves and bootstrap."
)
@models_option
@json_flag
def fit(
    name: str,
    repository: Repository,
    *,
    label: str | None,
    group: str | None,
    weight: str | None,
    as_json: bool,
    **request: Any,
) -> None:
    """Calibrate a draft and publish it as the next version."""
    wanted = fitting.FitRequest(columns=Columns(label, group, weight), **request)
    result = fitting.fit(repository, name, wanted, track=_track())
    _warn_of_prices(repository, name, result.version)
    if as_json:
        record = result.record.model_dump(mode="json", by_alias=True)
        _print_json({"name": name, "version": result.version, "calibration": record})
        return
    _print_table(render_record(result.record))
    _say_published(repository, name, result.version)


@command.command()
@click.argument("name")
@models_option
@json_flag
def publish(name: str, repository: Repository, *, as_json: bool) -> None:
    """Publish a draft as it is, with its calibration if that still holds."""
    published = onboarding.publish_draft(repository, name)
    _warn_of_prices(repository, name, published.version)
    if as_json:
        _print_json({"name": name, "version": published.version, "why_uncalibrated": published.why_uncalibrated})
        return
    reason = published.why_uncalibrated
    click.echo(
        "The calibration was kept." if reason is None else f"Uncalibrated: {reason}. `temperance fit` calibrates."
    )
    _say_published(repository, name, published.version)


@command.command()
@click.argument("name")
@click.option("--from", "version", type=click.IntRange(min=1), help="Version to start from.  [default: stable]")
@models_option
def draft(name: str, version: int | None, repository: Repository) -> None:
    """Make a draft from a published version, calibration included."""
    click.echo(f"Wrote {onboarding.open_draft(repository, name, version)}")


@command.command()
@click.argument("name")
@click.argument("label")
@click.argument("version", type=click.IntRange(min=1))
@models_option
def alias(name: str, label: str, version: int, repository: Repository) -> None:
    """Point LABEL at VERSION: `alias NAME stable VERSION` deploys, and rolls back."""
    set_alias(repository, name, label, version)
    click.echo(f"{name}: {label} = {version}")


@command.command()
@click.argument("name")
@click.option("--data", required=True, type=file_path, help="Labelled rows.")
@click.option("--ood-data", type=file_path, help="Rows of another population, without labels.")
@click.option("--label", help="Column of the labels.  [default: y]")
@click.option("--group", help="Column that tells whose row it is; groups are resampled whole.  [default: group]")
@click.option("--weight", help="Column of row weights.  [default: weight]")
@click.option("--losses", help=f"Training losses to report, separated by commas: {', '.join(LOSSES)}.")
@click.option("--horizon", type=click.IntRange(min=1), help="Steps of a trajectory: what the error rate comes to.")
@click.option(
    "--recovery",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Chance per step of finding back, for --horizon.",
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
    losses: str | None,
    version: int | None,
    json_path: str | None,
    page_path: Path | None,
    **request: Any,
) -> None:
    """Say how good a version's probabilities, flags and decisions are on labelled rows."""
    model = load_model(_published(repository, name, version))
    wanted = EvaluateRequest(columns=Columns(label, group, weight), losses=_split(losses) or (), **request)
    if model.task in EVALUATIONS:
        if page_path is not None:
            raise ServiceError(f"--html draws multiclass models; of a {model.task} model take the tables, or --json")
        _say_task_evaluation(model, measure_task(model, wanted, track=_track()), json_path)
        return
    found = measure(model, wanted, track=_track())
    if page_path is not None:
        page.write(page_path, model, found)
    if json_path is not None:
        _write_json({**_identity(model), **found.as_json()}, json_path)
    if json_path != "-":
        click.echo(f"{model.bundle.title}, calibration {model.method} ({model.status}), {model.bundle.digest}")
        _print_table(render_measured(found))


@command.command()
@click.argument("name")
@click.option("--data", required=True, type=file_path, help="Rows: CSV, Parquet or NPZ, of any size.")
@click.option("--out", required=True, type=file_path, help="Where the answers go: CSV or Parquet.")
@click.option("--version", type=click.IntRange(min=1), help="Version that answers.  [default: stable]")
@click.option("--policy", help="Policy that decides.  [default: the manifest's]")
@click.option("--site", help="Site whose prevalence holds.")
@click.option("--id", "id_column", help="Column that is copied to the answers.")
@click.option("--chunk-rows", type=click.IntRange(min=1), default=65_536, show_default=True, help="Rows at a time.")
@models_option
def score(name: str, repository: Repository, *, version: int | None, **request: Any) -> None:
    """Answer every row of a data set; interrupted, it goes on where it ended."""
    model = load_model(_published(repository, name, version))
    done = score_rows(model, ScoreRequest(**request), track=_track("scoring"))
    reused = f", {done.reused} of them by an earlier run" if done.reused else ""
    click.echo(f"Wrote {request['out']}: {done.rows} rows{reused}.")


@command.command()
@click.argument("path_or_name")
@models_option
@json_flag
def inspect(path_or_name: str, repository: Repository, *, as_json: bool) -> None:
    """Say what an .onnx file holds, or what a model's `stable` version is."""
    path = Path(path_or_name)
    if path.suffix == ".onnx" or path.is_file():
        _inspect_file(path, as_json=as_json)
        return
    bundle = _published(repository, path_or_name, None)
    if as_json:
        record = None if bundle.record is None else bundle.record.model_dump(mode="json", by_alias=True)
        manifest = bundle.manifest.model_dump(mode="json", by_alias=True)
        told = {"name": bundle.name, "version": bundle.version, "manifest": manifest, "calibration": record}
        _print_json(told | {"state_bytes": state_bytes(bundle.state, bundle.manifest.ood.scores)})
        return
    click.echo(f"{bundle.title}: {bundle.manifest.title}")
    click.echo(f"digest: {bundle.digest}\nclasses: {', '.join(bundle.manifest.graph.classes)}")
    click.echo(f"features: {', '.join(bundle.manifest.columns)}")
    click.echo(f"policies: {', '.join(bundle.manifest.policies) or 'none'}")
    if bundle.record is None:
        click.echo("uncalibrated")
    else:
        click.echo(render_state(state_bytes(bundle.state, bundle.record.scores)))
        _print_table(render_record(bundle.record))


@command.command()
@click.argument("name")
@models_option
@json_flag
def verify(name: str, repository: Repository, *, as_json: bool) -> None:
    """Check every version's files against their sums, and that each still loads and answers."""
    versions = repository.versions(name)
    if not versions:
        raise BundleNotFound(f"{name} has no published version")
    digests = {version: load_model(repository.bundle(name, version)).bundle.digest for version in versions}
    if as_json:
        _print_json({"name": name, "versions": digests})
        return
    for version, digest in digests.items():
        click.echo(f"{name} version {version}: ok, {digest}")


@command.command("list")
@models_option
@json_flag
def list_(repository: Repository, *, as_json: bool) -> None:
    """List models with their versions and aliases."""
    found = {name: (repository.versions(name), repository.aliases(name)) for name in repository.names()}
    if as_json:
        models = [{"name": name, "versions": v, "aliases": a} for name, (v, a) in found.items()]
        _print_json({"models": models})
        return
    for name, (versions, aliases) in found.items():
        labels = ", ".join(f"{label} = {version}" for label, version in aliases.items())
        click.echo(f"{name}: versions {', '.join(map(str, versions)) or 'draft only'}; {labels or 'no alias'}")


@command.command()
@click.option("--models", type=click.Path(), help="Model repository.")
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on.  [default: 8000]")
@click.option("--workers", type=click.IntRange(min=1), help="Processes.  [default: 1]")
def serve(**flags: str | int | None) -> None:
    """Serve every aliased version. Flags win over TEMPERANCE_… variables."""
    # Worker processes read their settings from the environment, so that is where the flags go.
    os.environ.update({f"{PREFIX}{name.upper()}": str(value) for name, value in flags.items() if value is not None})
    composition.serve(composition.read_settings())


@command.command("bench")
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
    model = load_model(_published(repository, name, None))
    path, body = f"/v1/models/{name}:{verb}", _instances(model, data, rows)
    settings = composition.read_settings().model_copy(update={"models": repository.root, "log_level": "error"})
    with nullcontext(_address(url)) if url else bench.running(_serve_own, settings) as server:
        request = bench.request_bytes(server, path, body)
        with bench.running(bench.serve_floor, bench.ask(server, request)) as floor:
            counts = _whole_numbers(connections)
            found = list(bench.compare(server, floor, request, connections=counts, seconds=seconds))
    if as_json:
        _print_json({"model": _identity(model), "verb": verb, "rows": rows, "runs": [asdict(one) for one in found]})
        return
    click.echo(
        f"{model.bundle.title}, :{verb}, {rows} row{'s' if rows > 1 else ''} in a request, validated and counted"
    )
    _print_table(bench.as_table(found, rows=rows))


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
    numbers = _split(text) or ()
    if not all(number.isdecimal() and int(number) for number in numbers):
        raise click.BadParameter("whole numbers above 0, separated by commas", param_hint="--connections")
    return tuple(map(int, numbers))


def _say_task_evaluation(model: Model, said: TaskEvaluation, json_path: str | None) -> None:
    if json_path is not None:
        _write_json({**_identity(model), **said.as_json()}, json_path)
    if json_path != "-":
        click.echo(f"{model.bundle.title}, calibration {model.method} ({model.status}), {model.bundle.digest}")
        for table in said.tables:
            _print_table(table)


def _published(repository: Repository, name: str, version: int | None) -> Bundle:
    wanted = version or repository.aliases(name).get(FIRST_ALIAS)
    if wanted is None:
        known = ", ".join(repository.names()) or "none"
        raise BundleNotFound(f"{name} has no published version (models here: {known})")
    return repository.bundle(name, wanted)


def _inspect_file(path: Path, *, as_json: bool) -> None:
    findings, session = inspect_graph(path), Session(path)
    inputs = [{"name": t.name, "type": t.type, "shape": t.shape} for t in session.inputs]
    outputs = [{"name": t.name, "type": t.type, "shape": t.shape} for t in session.outputs]
    evidence = [{"name": o.name, "output_kind": o.kind, "evidence": o.evidence} for o in findings.outputs]
    if as_json:
        _print_json({"inputs": inputs, "outputs": outputs, "scores": evidence, "classes": findings.classes})
        return
    for title, tensors in (("input", inputs), ("output", outputs)):
        for tensor in tensors:
            shape = ", ".join("?" if d is None else str(d) for d in tensor["shape"])
            click.echo(f"{title} {tensor['name']}: {tensor['type']} [{shape}]")
    for entry in evidence:
        kind = entry["output_kind"] or "not told by the graph"
        click.echo(f"scores in {entry['name']}: {kind} ({entry['evidence']})")
    click.echo(f"classes: {', '.join(findings.classes) if findings.classes else 'not told by the graph'}")


def _identity(model: Model) -> dict[str, object]:
    return {
        "model": model.name,
        "version": model.version,
        "digest": model.bundle.digest,
        "calibration": {"method": model.method, "status": model.status},
    }


def _say_published(repository: Repository, name: str, version: int) -> None:
    labels = [label for label, target in repository.aliases(name).items() if target == version]
    click.echo(f"Published {name} version {version}.")
    if labels:
        click.echo(f"It is {', '.join(labels)}: `temperance serve` serves it.")
    else:
        click.echo(f"It is not served yet: `temperance alias {name} {FIRST_ALIAS} {version}` deploys it.")


def _warn_of_prices(repository: Repository, name: str, version: int) -> None:
    for sentence in onboarding.never_taken(repository.bundle(name, version).manifest):
        click.echo(f"warning: {sentence}", err=True)


def _track(title: str = "judging rows") -> Callable[[Iterable[int]], Iterable[int]]:
    console = Console(stderr=True)
    return lambda starts: progress_bar(
        list(starts), title, console=console, transient=True, disable=not console.is_terminal
    )


def _print_table(table: Any) -> None:
    # A pipe has no width of its own; a table cut to 80 columns there would lose what it says.
    console = Console() if sys.stdout.isatty() else Console(width=TABLE_WIDTH)
    console.print(table, highlight=False)


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, allow_nan=False))


def _write_json(value: object, path: str) -> None:
    if path == "-":
        _print_json(value)
    else:
        Path(path).write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _split(value: str | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(part.strip() for part in value.split(","))


def _fail(message: str) -> None:
    click.echo(f"temperance: {' '.join(message.split())}", err=True)
    sys.exit(1)

"""Verbs that make versions and look at them: import, fit, publish, draft, alias, inspect, verify, list."""

from pathlib import Path
from typing import Any

import click

from service import onboarding
from service.bundle.repository import Repository
from service.bundle.scores import state_bytes
from service.bundle.writer import FIRST_ALIAS, set_alias
from service.core.label_sets import METHODS as SET_METHODS
from service.errors import BundleNotFound
from service.evaluation import fit as fitting
from service.evaluation.calibrate import METHODS
from service.evaluation.dataset import Columns
from service.evaluation.render import render_record, render_state
from service.graph.inspect import inspect_graph
from service.importer.declared import Declared
from service.runtime.model import load_model
from service.runtime.session import Session
from service.terminal import file_path, json_flag, models_option, print_json, print_table, published, split, track

TASKS = ("multiclass", "multilabel", "sequence")
OUTPUT_KINDS = ("logits", "log_probabilities", "probabilities", "sigmoid_logits", "sigmoid_probabilities")


@click.command("import")
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
    lists: dict[str, Any] = {key: split(declared.pop(key)) for key in ("classes", "features")}
    said = Declared(**declared, **lists)
    imported = onboarding.import_model(repository, name, path, said, force=force)
    if as_json:
        found = {c.subject: {"value": c.value, "evidence": c.evidence} for c in imported.conclusions}
        print_json({"draft": str(imported.draft), "conclusions": found})
        return
    for conclusion in imported.conclusions:
        value = conclusion.value if isinstance(conclusion.value, str) else ", ".join(conclusion.value)
        click.echo(f"{conclusion.subject}: {value}  ({conclusion.evidence})")
    click.echo(f"Wrote {imported.draft}. Edit its manifest.toml, then run `temperance fit {name} --data ROWS`.")


@click.command()
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
    help="The map to fit. shrinkage: a temperature pulled towards 1, and biases towards 0 where held-out rows ask for "
    "them; auto lets several compete without that pull.  [default: shrinkage; of labels platt, on Platt's targets]",
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
    result = fitting.fit(repository, name, wanted, track=track())
    _warn_of_prices(repository, name, result.version)
    if as_json:
        record = result.record.model_dump(mode="json", by_alias=True)
        print_json({"name": name, "version": result.version, "calibration": record})
        return
    print_table(render_record(result.record))
    _say_published(repository, name, result.version)


@click.command()
@click.argument("name")
@models_option
@json_flag
def publish(name: str, repository: Repository, *, as_json: bool) -> None:
    """Publish a draft as it is, with its calibration if that still holds."""
    published = onboarding.publish_draft(repository, name)
    _warn_of_prices(repository, name, published.version)
    if as_json:
        print_json({"name": name, "version": published.version, "why_uncalibrated": published.why_uncalibrated})
        return
    reason = published.why_uncalibrated
    click.echo(
        "The calibration was kept." if reason is None else f"Uncalibrated: {reason}. `temperance fit` calibrates."
    )
    _say_published(repository, name, published.version)


@click.command()
@click.argument("name")
@click.option("--from", "version", type=click.IntRange(min=1), help="Version to start from.  [default: stable]")
@models_option
def draft(name: str, version: int | None, repository: Repository) -> None:
    """Make a draft from a published version, calibration included."""
    click.echo(f"Wrote {onboarding.open_draft(repository, name, version)}")


@click.command()
@click.argument("name")
@click.argument("label")
@click.argument("version", type=click.IntRange(min=1))
@models_option
def alias(name: str, label: str, version: int, repository: Repository) -> None:
    """Point LABEL at VERSION: `alias NAME stable VERSION` deploys, and rolls back."""
    set_alias(repository, name, label, version)
    click.echo(f"{name}: {label} = {version}")


@click.command()
@click.argument("path_or_name")
@models_option
@json_flag
def inspect(path_or_name: str, repository: Repository, *, as_json: bool) -> None:
    """Say what an .onnx file holds, or what a model's `stable` version is."""
    path = Path(path_or_name)
    if path.suffix == ".onnx" or path.is_file():
        _inspect_file(path, as_json=as_json)
        return
    bundle = published(repository, path_or_name, None)
    if as_json:
        record = None if bundle.record is None else bundle.record.model_dump(mode="json", by_alias=True)
        manifest = bundle.manifest.model_dump(mode="json", by_alias=True)
        told = {"name": bundle.name, "version": bundle.version, "manifest": manifest, "calibration": record}
        print_json(told | {"state_bytes": state_bytes(bundle.state, bundle.manifest.ood.scores)})
        return
    click.echo(f"{bundle.title}: {bundle.manifest.title}")
    click.echo(f"digest: {bundle.digest}\nclasses: {', '.join(bundle.manifest.graph.classes)}")
    click.echo(f"features: {', '.join(bundle.manifest.columns)}")
    click.echo(f"policies: {', '.join(bundle.manifest.policies) or 'none'}")
    if bundle.record is None:
        click.echo("uncalibrated")
    else:
        click.echo(render_state(state_bytes(bundle.state, bundle.record.scores)))
        print_table(render_record(bundle.record))


@click.command()
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
        print_json({"name": name, "versions": digests})
        return
    for version, digest in digests.items():
        click.echo(f"{name} version {version}: ok, {digest}")


@click.command("list")
@models_option
@json_flag
def list_(repository: Repository, *, as_json: bool) -> None:
    """List models with their versions and aliases."""
    found = {name: (repository.versions(name), repository.aliases(name)) for name in repository.names()}
    if as_json:
        models = [{"name": name, "versions": v, "aliases": a} for name, (v, a) in found.items()]
        print_json({"models": models})
        return
    for name, (versions, aliases) in found.items():
        labels = ", ".join(f"{label} = {version}" for label, version in aliases.items())
        click.echo(f"{name}: versions {', '.join(map(str, versions)) or 'draft only'}; {labels or 'no alias'}")


def _inspect_file(path: Path, *, as_json: bool) -> None:
    findings, session = inspect_graph(path), Session(path)
    inputs = [{"name": t.name, "type": t.type, "shape": t.shape} for t in session.inputs]
    outputs = [{"name": t.name, "type": t.type, "shape": t.shape} for t in session.outputs]
    evidence = [{"name": o.name, "output_kind": o.kind, "evidence": o.evidence} for o in findings.outputs]
    if as_json:
        print_json({"inputs": inputs, "outputs": outputs, "scores": evidence, "classes": findings.classes})
        return
    for title, tensors in (("input", inputs), ("output", outputs)):
        for tensor in tensors:
            shape = ", ".join("?" if d is None else str(d) for d in tensor["shape"])
            click.echo(f"{title} {tensor['name']}: {tensor['type']} [{shape}]")
    for entry in evidence:
        kind = entry["output_kind"] or "not told by the graph"
        click.echo(f"scores in {entry['name']}: {kind} ({entry['evidence']})")
    click.echo(f"classes: {', '.join(findings.classes) if findings.classes else 'not told by the graph'}")


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

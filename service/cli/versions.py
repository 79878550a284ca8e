"""Verbs that make versions and say which are served: import, fit, publish, draft, alias, retire."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from service.bundle.changes import replaced
from service.bundle.guards import guards, offer
from service.bundle.repository import GRAPH_FILE, Bundle, Repository
from service.bundle.writer import FIRST_ALIAS, remove_alias, set_alias
from service.bundle.writer import retire as withdraw
from service.cli.arguments import file_path, json_flag, models_option, print_json, print_table, split, track
from service.core.label_sets import METHODS as SET_METHODS
from service.data.columns import LABELS_AS, Columns
from service.errors import ServiceError
from service.fitting import fit as fitting
from service.fitting.calibrate import METHODS
from service.importer import onboarding
from service.importer.declared import Declared
from service.importer.name_files import check_names, read_names
from service.importer.plausible import Proposal, propose_ranges
from service.reporting.terminal import render_record
from service.runtime.model import load_model

TASKS = ("multiclass", "multilabel", "sequence")
MOST_RANGES = 8
OUTPUT_KINDS = ("logits", "log_probabilities", "probabilities", "sigmoid_logits", "sigmoid_probabilities")


@click.command("import")
@click.argument("path", type=file_path)
@click.option("--name", required=True, help="What to call the model.")
@click.option("--output", help="Tensor that carries the scores.")
@click.option("--output-kind", type=click.Choice(OUTPUT_KINDS), help="What the scores are.")
@click.option("--task", type=click.Choice(TASKS), help="What is classified.")
@click.option("--classes", help="Class names in output order, separated by commas.")
@click.option("--classes-from", metavar="FILE", type=file_path, help="Class names: one per line, or JSON (id2label).")
@click.option("--features", help="Feature names in column order, separated by commas.")
@click.option("--features-from", metavar="FILE", type=file_path, help="Feature names: one per line, or a JSON list.")
@click.option("--width", type=click.IntRange(min=1), help="How many columns a table has that nothing else tells.")
@click.option("--missing", type=click.Choice(["nan"]), help="Let numbers be missing, as NaN; the graph must take it.")
@click.option("--expose-logits", is_flag=True, help="Use what the last softmax or sigmoid takes: logits.")
@click.option("--expose-features", metavar="TENSOR|auto", help="Make a tensor an output that feature scores can use.")
@click.option(
    "--expect", metavar="REF.npz", type=file_path, help="Rows, and the toolchain's own probabilities of them."
)
@click.option("--tolerance", type=click.FloatRange(min=0), default=1e-4, show_default=True, help="Of --expect.")
@click.option("--train-data", type=file_path, help="Rows it was trained on: plausible ranges are proposed from them.")
@click.option("--force", is_flag=True, help="Replace a draft that is there.")
@models_option
@json_flag
def import_(
    path: Path,
    name: str,
    repository: Repository,
    *,
    train_data: Path | None,
    force: bool,
    as_json: bool,
    **declared: Any,
) -> None:
    """Make a draft from an .onnx file, and say what was concluded about it and from what."""
    lists: dict[str, Any] = {key: _names(key, declared) for key in ("classes", "features")}
    if declared["width"] is not None and lists["features"] is not None:
        raise click.UsageError("--width numbers the features that --features names; give one of them")
    said = Declared(**declared, **lists)
    imported = onboarding.import_model(repository, name, path, said, force=force)
    ranges = {} if train_data is None else _write_ranges(repository, name, train_data)
    manifest = repository.draft(name).manifest
    line, offered = guards(manifest, imported.kinds), offer(manifest, imported.kinds)
    if as_json:
        found = {c.subject: {"value": c.value, "evidence": c.evidence} for c in imported.conclusions}
        told = {"draft": str(imported.draft), "conclusions": found, "guards": line, "offered": offered}
        print_json(told | {"plausible": {n: [p.low, p.high] for n, p in ranges.items()}})
        return
    for conclusion in imported.conclusions:
        value = conclusion.value if isinstance(conclusion.value, str) else ", ".join(conclusion.value)
        click.echo(f"{conclusion.subject}: {value}  ({conclusion.evidence})")
    _say_ranges(ranges)
    click.echo("\n".join(filter(None, (line, offered))))
    run = repository.command("fit", name, "--data", "ROWS")
    click.echo(f"Wrote {imported.draft}. Edit its manifest.toml, then run {run}.")


@click.command()
@click.argument("name")
@click.option("--data", required=True, type=file_path, help="Labelled rows the model was not trained on.")
@click.option("--train-data", type=file_path, help="Rows it was trained on: fitted scores learn from them.")
@click.option("--ood-data", type=file_path, help="Rows of another population, without labels, to judge scores on.")
@click.option("--label", help="Column of the labels.  [default: y]")
@click.option("--group", help="Column that tells whose row it is; rows of a group are never parted.  [default: group]")
@click.option("--weight", help="Column of row weights.  [default: weight]")
@click.option(
    "--labels-as",
    type=click.Choice(LABELS_AS),
    help="What labels are: names, indices from 0, or indices from 1.  [default: names, or indices where only they fit]",
)
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
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of folds, halves and simulations."
)
@click.option("--allow-overlap", is_flag=True, help="Fit even where --data holds the rows of --train-data.")
@models_option
@json_flag
def fit(
    name: str,
    repository: Repository,
    *,
    label: str | None,
    group: str | None,
    weight: str | None,
    labels_as: str | None,
    as_json: bool,
    **request: Any,
) -> None:
    """Calibrate a draft and publish it as the next version."""
    wanted = fitting.FitRequest(columns=Columns(label, group, weight, labels_as), **request)
    result = fitting.fit(repository, name, wanted, track=track())
    _warn_of_prices(repository, name, result.version)
    bundle = repository.bundle(name, result.version)
    kinds = onboarding.kinds_of(bundle)
    line, offered = guards(bundle.manifest, kinds), offer(bundle.manifest, kinds)
    ranges = {} if wanted.train_data is None else _new_ranges(bundle, wanted.train_data)
    if as_json:
        record = result.record.model_dump(mode="json", by_alias=True)
        told = {"name": name, "version": result.version, "calibration": record, "notes": result.notes}
        told |= _served_as(repository, name, result.version)
        told |= {"guards": line, "offered": offered, "plausible": {n: [p.low, p.high] for n, p in ranges.items()}}
        print_json(told)
        return
    print_table(render_record(result.record))
    for note in result.notes:
        click.echo(f"note: {note}")
    _say_ranges(ranges, f"; write them into the manifest of `temperance draft {name}`: publish keeps the calibration")
    click.echo("\n".join(filter(None, (line, offered))))
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
        told = {"name": name, "version": published.version, "why_uncalibrated": published.why_uncalibrated}
        print_json(told | _served_as(repository, name, published.version))
        return
    reason = published.why_uncalibrated
    click.echo(
        "The calibration was kept."
        if reason is None
        else f"Uncalibrated: {reason}. {repository.command('fit', name, '--data', 'ROWS')} calibrates a draft."
    )
    _say_published(repository, name, published.version)


@click.command()
@click.argument("name")
@click.option("--from", "version", type=click.IntRange(min=1), help="Version to start from.  [default: stable]")
@click.option("--force", is_flag=True, help="Replace a draft that is there.")
@models_option
def draft(name: str, version: int | None, repository: Repository, *, force: bool) -> None:
    """Make a draft from a published version, calibration included."""
    click.echo(f"Wrote {onboarding.open_draft(repository, name, version, force=force)}")


@click.command()
@click.argument("name")
@click.argument("label")
@click.argument("version", type=click.IntRange(min=1), required=False)
@click.option("--remove", is_flag=True, help="Take LABEL away; without any alias, no version is served.")
@models_option
def alias(name: str, label: str, version: int | None, repository: Repository, *, remove: bool) -> None:
    """Point LABEL at VERSION: `alias NAME stable VERSION` deploys, and rolls back."""
    if (version is None) != remove:
        raise click.UsageError("say which VERSION the alias names, or --remove, and not both")
    if version is None:
        left = remove_alias(repository, name, label)
        _say_withdrawn(repository, name, [label], left)
        return
    repository.check_published(name, version)
    for sentence in replaced(repository, name, label, version):
        click.echo(f"warning: {sentence}", err=True)
    set_alias(repository, name, label, version)
    click.echo(f"{name}: {label} = {version}")


@click.command()
@click.argument("name")
@click.argument("version", type=click.IntRange(min=1))
@click.option("--purge", is_flag=True, help="Delete its weights too; manifest, record and sums stay.")
@models_option
def retire(name: str, version: int, repository: Repository, *, purge: bool) -> None:
    """Withdraw a version for good: from aliases and from serving. Its number is never used again."""
    gone = withdraw(repository, name, version, purge=purge)
    is_there = (repository.folder(name) / str(version) / GRAPH_FILE).is_file()
    weights = "its files stay; --purge deletes its weights" if is_there else "its weights are deleted"
    click.echo(f"{name} version {version} is retired: {weights}.")
    _say_withdrawn(repository, name, gone, repository.aliases(name))


def _new_ranges(bundle: Bundle, train_data: Path) -> dict[str, Proposal]:
    """Ranges of the columns that have none, or one that training rows leave."""
    found = propose_ranges(load_model(bundle), train_data)
    held = {name for name, feature in bundle.manifest.features.items() if feature.plausible is not None}
    return {name: proposal for name, proposal in found.items() if name not in held or proposal.outside}


def _write_ranges(repository: Repository, name: str, train_data: Path) -> dict[str, Proposal]:
    """Ranges from rows, written into a draft just made; it goes if the rows do not fit it."""
    draft = repository.draft(name)
    try:
        found = propose_ranges(load_model(draft), train_data)
        ranges = {column: replace(proposal, outside=0) for column, proposal in found.items()}  # it replaces the graph's
        onboarding.write_ranges(draft.path, {n: (p.low, p.high, p.why) for n, p in ranges.items()})
    except ServiceError:
        shutil.rmtree(draft.path)
        raise
    return ranges


def _say_ranges(ranges: dict[str, Proposal], what_next: str = "") -> None:
    for name, proposal in list(ranges.items())[:MOST_RANGES]:
        left = f"; {proposal.outside} of them leave the manifest's range" if proposal.outside else ""
        click.echo(f"plausible: {name} from {proposal.low:g} to {proposal.high:g}  ({proposal.why}{left})")
    if ranges:
        more = f" and of {len(ranges) - MOST_RANGES} others (--json lists all)" if len(ranges) > MOST_RANGES else ""
        click.echo(f"These ranges{more} are wider than the training rows, and rounded{what_next}.")


def _names(key: str, declared: dict[str, Any]) -> tuple[str, ...] | None:
    """Names of a flag, or of the file that its twin names."""
    listed, file = split(declared.pop(key)), declared.pop(f"{key}_from")
    if listed is not None and file is not None:
        raise click.UsageError(f"--{key} and --{key}-from say the same thing; give one of them")
    if file is not None:
        return read_names(file, f"--{key}-from")
    return None if listed is None else check_names(listed, f"--{key}")


def _served_as(repository: Repository, name: str, version: int) -> dict[str, Any]:
    """The aliases that a version is served under, and what all of them name."""
    aliases = repository.aliases(name)
    return {"served_as": [label for label, target in aliases.items() if target == version], "aliases": aliases}


def _say_published(repository: Repository, name: str, version: int) -> None:
    labels = _served_as(repository, name, version)["served_as"]
    click.echo(f"Published {name} version {version}.")
    if labels:
        click.echo(f"It is {', '.join(labels)}: {repository.command('serve')} serves it.")
        return
    served = ", ".join(f"{label} = {target}" for label, target in repository.aliases(name).items()) or "none"
    command = repository.command("alias", name, FIRST_ALIAS, version)
    click.echo(f"It is not served yet (aliases: {served}): {command} deploys it.")


def _say_withdrawn(repository: Repository, name: str, gone: list[str], left: dict[str, int]) -> None:
    command = repository.command("alias", name, FIRST_ALIAS, "VERSION")
    if gone:
        click.echo(f"Removed alias{'es' if len(gone) > 1 else ''}: {', '.join(gone)}.")
    if not repository.versions(name):
        click.echo(f"No version of {name} is left to serve: `temperance fit` or `publish` makes the next from a draft.")
    elif gone and not left:
        click.echo(f"No alias is left, so {name} is not served: {command} serves a version.")
    elif FIRST_ALIAS in gone:
        click.echo(f"Requests that name no version are refused until {command} says what they go to.")


def _warn_of_prices(repository: Repository, name: str, version: int) -> None:
    manifest = repository.bundle(name, version).manifest
    for sentence in (*onboarding.never_taken(manifest), *onboarding.taken_for_equal(manifest)):
        click.echo(f"warning: {sentence}", err=True)

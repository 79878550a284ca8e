"""`temperance fit`: a draft and labelled rows become a calibrated version."""

from typing import Any

import click

from service.bundle.repository import Repository
from service.cli.arguments import (
    FiniteRange,
    column_options,
    columns_of,
    file_path,
    json_flag,
    models_option,
    proof_options,
    proofs_of,
)
from service.cli.console import print_json, print_table, track
from service.cli.messages import (
    aliases_of,
    guard_lines,
    print_cost_warnings,
    print_published,
    print_ranges,
    ranges_as_json,
)
from service.core.label_sets import METHODS as SET_METHODS
from service.fitting import fit as fitting
from service.fitting.candidate_chains import METHODS
from service.importer.input_kinds import kinds_of
from service.importer.plausible_ranges import ranges_to_add
from service.reporting.terminal import render_record


@click.command()
@click.argument("name")
@click.option("--data", required=True, type=file_path, help="Labelled rows that the model was not trained on.")
@click.option(
    "--train-data",
    type=file_path,
    help="Rows that the model was trained on: OOD scores with fitted state learn from them.",
)
@click.option(
    "--ood-data", type=file_path, help="Out-of-distribution rows, without labels: OOD scores are compared on them."
)
@column_options("rows of a group are never split.")
@click.option(
    "--calibrator",
    type=click.Choice(METHODS),
    help="Calibration method. shrinkage: a temperature pulled towards 1, and biases towards 0 where held-out rows need "
    "them; auto lets several compete without that pull.  [default: shrinkage; of a multilabel model platt, on Platt's "
    "targets]",
)
@click.option(
    "--false-alarm",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    help="Share of in-distribution rows that may be flagged; replaces the manifest's.",
)
@click.option("--per-class", is_flag=True, help="Hold the false-alarm rate within every predicted class.")
@click.option(
    "--label-sets",
    type=click.Choice(list(SET_METHODS)),
    default="lac",
    show_default=True,
    help="How label sets are made.",
)
@click.option(
    "--confidence",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    help="Make thresholds hold the false-alarm rate with this probability, not only on average.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of folds, halves and simulations."
)
@click.option("--allow-overlap", is_flag=True, help="Fit even where --data holds the rows of --train-data.")
@models_option
@proof_options
@json_flag
def fit(name: str, repository: Repository, *, as_json: bool, **flags: Any) -> None:
    """Calibrate a draft and publish it as the next version."""
    proofs = proofs_of(flags)
    request = fitting.FitRequest(columns=columns_of(flags), **flags)
    result = fitting.fit(repository, name, request, track=track(), proofs=proofs)
    print_cost_warnings(repository, name, result.version)
    bundle = repository.bundle(name, result.version)
    lines = guard_lines(bundle.manifest, kinds_of(bundle))
    ranges = {} if request.train_data is None else ranges_to_add(bundle, request.train_data)
    if as_json:
        served = aliases_of(repository, name, result.version)
        print_json({**_as_json(result), **served, **lines, "plausible": ranges_as_json(ranges)})
        return
    print_table(render_record(result.record))
    for note in result.notes:
        click.echo(f"note: {note}")
    print_ranges(ranges, f"; write them into the manifest of `temperance draft {name}`: publish keeps the calibration")
    click.echo("\n".join(filter(None, lines.values())))
    print_published(repository, name, result.version)


def _as_json(result: fitting.FitResult) -> dict[str, object]:
    record = result.record.model_dump(mode="json", by_alias=True)
    return {"name": result.name, "version": result.version, "calibration": record, "notes": result.notes}

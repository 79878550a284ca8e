"""`temperance import`: an .onnx file becomes a draft."""

from pathlib import Path
from typing import Any, Final

import click

from service.bundle.repository import Repository
from service.bundle.tasks import TASKS
from service.cli.arguments import FiniteRange, file_path, json_flag, models_option, split
from service.cli.console import print_json
from service.cli.messages import guard_lines, print_ranges, ranges_as_json
from service.importer.declared import Declared
from service.importer.import_model import Imported, import_model
from service.importer.name_files import check_names, read_names
from service.importer.plausible_ranges import Proposal, add_ranges

OUTPUT_KINDS: Final = tuple(dict.fromkeys(kind for task in TASKS.values() for kind in task.kinds))


@click.command("import")
@click.argument("path", type=file_path)
@click.option("--name", required=True, help="Name of the model in the repository.")
@click.option("--output", help="Tensor that carries the scores.")
@click.option("--output-kind", type=click.Choice(OUTPUT_KINDS), help="Kind of the scores.")
@click.option(
    "--task",
    type=click.Choice(list(TASKS)),
    help="A class of several for every row, labels that hold independently, or a class for every position.",
)
@click.option("--classes", help="Class names in output order, separated by commas.")
@click.option("--classes-from", metavar="FILE", type=file_path, help="Class names: one per line, or JSON (id2label).")
@click.option("--features", help="Feature names in column order, separated by commas.")
@click.option("--features-from", metavar="FILE", type=file_path, help="Feature names: one per line, or a JSON list.")
@click.option("--width", type=click.IntRange(min=1), help="Number of columns of a table, where nothing else shows it.")
@click.option("--missing", type=click.Choice(["nan"]), help="Let numbers be missing, as NaN; the graph must take it.")
@click.option("--expose-logits", is_flag=True, help="Use the input of the last softmax or sigmoid: logits.")
@click.option("--expose-features", metavar="TENSOR|auto", help="Make a tensor an output that feature scores can use.")
@click.option(
    "--expect",
    metavar="REF.npz",
    type=file_path,
    help="Rows and the toolchain's own probabilities for them; the graph must return the same.",
)
@click.option(
    "--tolerance",
    type=FiniteRange(min=0),
    default=1e-4,
    show_default=True,
    help="Largest difference for --expect.",
)
@click.option(
    "--train-data", type=file_path, help="Rows that the model was trained on: plausible ranges are proposed from them."
)
@click.option("--force", is_flag=True, help="Replace a draft that exists.")
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
    **flags: Any,
) -> None:
    """Make a draft from an .onnx file, and print every conclusion about it with its evidence."""
    imported = import_model(repository, name, path, _declared(flags), force=force)
    ranges = {} if train_data is None else add_ranges(repository, name, train_data)
    lines = guard_lines(repository.draft(name).manifest, imported.kinds)
    if as_json:
        print_json({**_as_json(imported), **lines, "plausible": ranges_as_json(ranges)})
        return
    _print_conclusions(imported, ranges)
    click.echo("\n".join(filter(None, lines.values())))
    run = repository.command("fit", name, "--data", "ROWS")
    click.echo(f"Wrote {imported.draft}. Edit its manifest.toml, then run {run}.")


def _declared(flags: dict[str, Any]) -> Declared:
    lists: dict[str, Any] = {key: _names(key, flags) for key in ("classes", "features")}
    if flags["width"] is not None and lists["features"] is not None:
        raise click.UsageError("--width numbers the features that --features names; give one of them")
    return Declared(**flags, **lists)


def _names(key: str, flags: dict[str, Any]) -> tuple[str, ...] | None:
    """Names of a flag, or of the file that its twin names."""
    listed, file = split(flags.pop(key)), flags.pop(f"{key}_from")
    if listed is not None and file is not None:
        raise click.UsageError(f"--{key} and --{key}-from name the same thing; give one of them")
    if file is not None:
        return read_names(file, f"--{key}-from")
    return None if listed is None else check_names(listed, f"--{key}")


def _as_json(imported: Imported) -> dict[str, object]:
    conclusions = {c.subject: {"value": c.value, "evidence": c.evidence} for c in imported.conclusions}
    return {"draft": str(imported.draft), "conclusions": conclusions}


def _print_conclusions(imported: Imported, ranges: dict[str, Proposal]) -> None:
    for conclusion in imported.conclusions:
        value = conclusion.value if isinstance(conclusion.value, str) else ", ".join(conclusion.value)
        click.echo(f"{conclusion.subject}: {value}  ({conclusion.evidence})")
    print_ranges(ranges)

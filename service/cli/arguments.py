"""Options that several verbs share, and the version that a verb works on.

Tested in tests/cli/test_main.py.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from service.bundle.repository import Bundle, Repository
from service.bundle.writer import FIRST_ALIAS
from service.data.column_roles import LABELS_AS, Columns
from service.errors import BundleNotFound
from service.runtime.limited_process import Limits
from service.runtime.proofs import Proofs
from service.settings import LEAST_LOAD_MEMORY, MOST_LOAD_MEMORY, MOST_LOAD_SECONDS, PREFIX, Settings


class FiniteRange(click.FloatRange):
    """Numbers of a range; `nan`, which no bound refuses, and `inf` are none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number; BadParameter for any other text."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
file_path = click.Path(path_type=Path)
json_flag = click.option("--json", "as_json", is_flag=True, help="Print JSON for a program.")


def _repository(context: click.Context, option: click.Parameter, path: Path) -> Repository:
    is_named = context.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
    return Repository(path, is_named=is_named)


models_option = click.option(
    "--models",
    "repository",
    type=click.Path(path_type=Path),
    default=Path("models"),
    envvar=f"{PREFIX}MODELS",
    show_default=True,
    show_envvar=True,
    callback=_repository,
    help="Model repository.",
)


def column_options(group_help: str) -> Decorator:
    """Options that name the columns of labelled rows; `columns_of` takes their values from a verb's keywords."""
    options = (
        click.option("--label", help="Column of the labels.  [default: y]"),
        click.option("--group", help=f"Column that names the group (patient) of a row; {group_help}  [default: group]"),
        click.option("--weight", help="Column of row weights.  [default: weight]"),
        click.option("--labels-as", type=click.Choice(LABELS_AS), help=_LABELS_AS_HELP),
    )

    def add(verb: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            verb = option(verb)
        return verb

    return add


def columns_of(flags: dict[str, Any]) -> Columns:
    """Take the values of `column_options` out of a verb's keywords."""
    return Columns(*(flags.pop(name) for name in ("label", "group", "weight", "labels_as")))


def proof_options(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Options of the process that loads first what is new; `proofs_of` takes their values from a verb's keywords."""
    seconds, memory = (Settings.model_fields[name] for name in ("load_seconds", "load_memory"))
    options = (
        click.option(
            "--load-seconds",
            type=FiniteRange(min=0, min_open=True, max=MOST_LOAD_SECONDS),
            default=seconds.default,
            envvar=f"{PREFIX}LOAD_SECONDS",
            show_default=True,
            show_envvar=True,
            help="Seconds in which the model must load and answer, in a process of its own.",
        ),
        click.option(
            "--load-memory",
            type=click.IntRange(min=LEAST_LOAD_MEMORY, max=MOST_LOAD_MEMORY),
            default=memory.default,
            envvar=f"{PREFIX}LOAD_MEMORY",
            show_default=True,
            show_envvar=True,
            help="Bytes that this process may take, beyond Python's own and four times the model's files.",
        ),
    )
    for option in reversed(options):
        verb = option(verb)
    return verb


def proofs_of(flags: dict[str, Any]) -> Proofs:
    """Take the values of `proof_options` out of a verb's keywords; nothing is kept of what is proven."""
    return Proofs(Limits(seconds=flags.pop("load_seconds"), memory=flags.pop("load_memory")))


def version_to_use(repository: Repository, name: str, version: int | None) -> Bundle:
    """A published version: the one that is named, or else `stable`. A note is printed where a newer one exists."""
    bundle = published(repository, name, version)
    newest = max(repository.versions(name))
    if version is None and newest != bundle.version:
        click.echo(
            f"note: this is version {bundle.version}, which {FIRST_ALIAS} names; for version {newest}, the newest: "
            f"--version {newest}",
            err=True,
        )
    return bundle


def published(repository: Repository, name: str, version: int | None) -> Bundle:
    """A published version: the one that is named, or else `stable`."""
    chosen = version or repository.aliases(name).get(FIRST_ALIAS)
    if chosen is None:
        raise BundleNotFound(_no_version(repository, name))
    return repository.bundle(name, chosen)


def split(value: str | None) -> tuple[str, ...] | None:
    """Parts of a flag that lists several, separated by commas."""
    return None if value is None else tuple(part.strip() for part in value.split(","))


def _no_version(repository: Repository, name: str) -> str:
    versions, retired = repository.versions(name), repository.retired(name)
    if versions:
        known, command = ", ".join(map(str, versions)), repository.command("alias", name, FIRST_ALIAS, "VERSION")
        return f"no alias {FIRST_ALIAS!r} of {name} names a version (published: {known}); {command} does"
    known = ", ".join(repository.names()) or "none"
    why = f"retired: {', '.join(map(str, retired))}" if retired else f"models here: {known}"
    return f"{name} has no published version ({why})"


_LABELS_AS_HELP = (
    "What labels are: names, indices from 0, or indices from 1.  [default: names, or indices where only they fit]"
)

"""Sentences that several verbs print: versions, aliases, costs and plausible ranges."""

from typing import TYPE_CHECKING, Any

import click

from service.bundle.guards import Kinds, guards, offer
from service.bundle.manifest import Manifest
from service.bundle.repository import Repository
from service.bundle.writer import FIRST_ALIAS
from service.fitting.cost_warnings import cost_warnings
from service.runtime.model import Model

if TYPE_CHECKING:  # it imports `onnx`, which most verbs do without
    from service.importer.plausible_ranges import Proposal

MOST_RANGES = 8


def aliases_of(repository: Repository, name: str, version: int) -> dict[str, Any]:
    """The aliases that name a version, and all aliases of the model, for JSON."""
    aliases = repository.aliases(name)
    return {"served_as": [label for label, target in aliases.items() if target == version], "aliases": aliases}


def identity(model: Model) -> dict[str, object]:
    """Model, version and calibration of a figure, for JSON."""
    return {
        "model": model.name,
        "version": model.version,
        "digest": model.bundle.digest,
        "calibration": model.calibration,
    }


def versions_line(repository: Repository, name: str) -> str:
    """Versions, aliases and retired versions of a model in a line."""
    versions, aliases = repository.versions(name), repository.alias_entries(name)
    labels = ", ".join(f"{label} = {own.version}{' (shadow)' * own.is_shadow}" for label, own in aliases.items())
    retired = ", ".join(map(str, repository.retired(name)))
    none = "none" if retired else "draft only"
    more = f"; retired {retired}" if retired else ""
    return f"{name}: versions {', '.join(map(str, versions)) or none}; {labels or 'no alias'}{more}"


def guard_lines(manifest: Manifest, kinds: Kinds) -> dict[str, str | None]:
    """What refuses or flags rows of a model, and what could: keys of JSON, lines of text."""
    return {"guards": guards(manifest, kinds), "offered": offer(manifest, kinds)}


def print_published(repository: Repository, name: str, version: int) -> None:
    """Print which version was published, and whether it is served."""
    labels = aliases_of(repository, name, version)["served_as"]
    click.echo(f"Published {name} version {version}.")
    if labels:
        click.echo(f"It is {', '.join(labels)}: {repository.command('serve')} serves it.")
        return
    served = ", ".join(f"{label} = {target}" for label, target in repository.aliases(name).items()) or "none"
    command = repository.command("alias", name, FIRST_ALIAS, version)
    click.echo(f"It is not served yet (aliases: {served}): {command} deploys it.")


def print_removed(repository: Repository, name: str, removed: list[str]) -> None:
    """Print which aliases were removed, and what is served without them."""
    command = repository.command("alias", name, FIRST_ALIAS, "VERSION")
    if removed:
        click.echo(f"Removed alias{'es' if len(removed) > 1 else ''}: {', '.join(removed)}.")
    if not repository.versions(name):
        click.echo(f"No version of {name} is left to serve: `temperance fit` or `publish` makes the next from a draft.")
    elif removed and not repository.aliases(name):
        click.echo(f"No alias is left, so {name} is not served: {command} serves a version.")
    elif FIRST_ALIAS in removed:
        click.echo(f"Requests that name no version are refused until {command} names one for them.")


def print_cost_warnings(repository: Repository, name: str, version: int) -> None:
    """Warn, beside the output, about actions that are never taken and costs that are treated as equal."""
    for sentence in cost_warnings(repository.bundle(name, version).manifest):
        click.echo(f"warning: {sentence}", err=True)


def print_ranges(ranges: "dict[str, Proposal]", what_next: str = "") -> None:
    """Print plausible ranges that training rows propose, the first few of them."""
    for name, proposal in list(ranges.items())[:MOST_RANGES]:
        more = f"; {proposal.exceeding} of them leave the manifest's range" if proposal.exceeding else ""
        click.echo(f"plausible: {name} from {proposal.low:g} to {proposal.high:g}  ({proposal.why}{more})")
    if ranges:
        more = f" and of {len(ranges) - MOST_RANGES} others (--json lists all)" if len(ranges) > MOST_RANGES else ""
        click.echo(f"These ranges{more} are wider than the training rows, and rounded{what_next}.")


def ranges_as_json(ranges: "dict[str, Proposal]") -> dict[str, list[float]]:
    """Plausible ranges for JSON."""
    return {name: [proposal.low, proposal.high] for name, proposal in ranges.items()}

"""`temperance pull`: published versions from a registry, a bucket, a web server or a folder into the repository."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from service.bundle.repository import Repository
from service.cli.arguments import json_flag, models_option, proof_options, proofs_of
from service.cli.console import print_json
from service.pull.fetching import Advance
from service.pull.pull_plan import PullRequest, choice
from service.pull.pull_versions import PulledModel, pull
from service.pull.source_kinds import open_source

DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
MOST_BYTES: Final = 100 << 30


@click.command("pull")
@click.argument("source")
@click.argument("names", nargs=-1, metavar="[NAME[/VERSION]]...")
@click.option(
    "--aliases",
    type=click.Choice(["new", "set", "keep"]),
    default="new",
    show_default=True,
    help="Take the source's aliases: of models that have none here, of every model, or of none.",
)
@click.option("--digest", "digests", multiple=True, help="Digest that a version may have; others are refused.")
@click.option(
    "--max-bytes",
    type=click.IntRange(min=1),
    default=MOST_BYTES,
    show_default=True,
    help="Bytes that may be fetched.",
)
@click.option("--plain-http", is_flag=True, help="Allow connections to other machines without TLS.")
@click.option("--verify", is_flag=True, help="Load every version, in a process of its own, before an alias names it.")
@models_option
@proof_options
@json_flag
def pull_(source: str, names: tuple[str, ...], repository: Repository, *, as_json: bool, **flags: Any) -> None:
    """Bring published versions from SOURCE into the repository, checked, and whole or not at all.

    SOURCE is oci://REGISTRY/REPOSITORY:TAG, s3://BUCKET/PREFIX, https://HOST/PATH or a folder. NAME brings the versions
    that its aliases name there; without a NAME every model comes, from a source that can list them.
    """
    proofs, is_proven = proofs_of(flags), flags.pop("verify")
    with open_source(source, plain_http=flags.pop("plain_http")) as opened:
        found = pull(opened, repository, _request(names, **flags), proofs=proofs if is_proven else None, track=_bar)
    if as_json:
        print_json({"models": [asdict(model) for model in found]})
        return
    for model in found:
        _print(repository, model)


def _request(names: tuple[str, ...], *, digests: tuple[str, ...], **flags: Any) -> PullRequest:
    for digest in digests:
        if not DIGEST.fullmatch(digest):
            raise click.UsageError("--digest is sha256: and 64 hexadecimal digits, as `temperance verify` prints it")
    return PullRequest(tuple(choice(name) for name in names), digests=frozenset(digests), **flags)


@contextmanager
def _bar(total: int | None) -> Iterator[Advance]:
    """A bar on a terminal, and none in a pipe."""
    console = Console(stderr=True)
    columns = (TextColumn("pulling"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("pulling", total=total)
        yield lambda count: progress.advance(task, count)


def _print(repository: Repository, model: PulledModel) -> None:
    for one in model.versions:
        was = "pulled" if one.state == "pulled" else "was here already"
        click.echo(f"{model.name} version {one.version}: {was}, {one.digest}")
    aliases = ", ".join(f"{label} = {version}" for label, version in model.aliases.items()) or "none"
    click.echo(f"{model.name}: aliases {'set' if model.aliases_set else 'left as they are'}: {aliases}")
    if model.differ:
        command = repository.command("alias", model.name, "LABEL", "VERSION")
        click.echo(f"note: the source has other aliases of {model.name}; --aliases set takes them, {command} sets one")

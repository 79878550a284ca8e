"""`temperance verify`: every version's files against their sums."""

from typing import Any

import click

from service.bundle.repository import Repository
from service.bundle.sums import verify_retired
from service.cli.arguments import json_flag, models_option, proof_options, proofs_of
from service.cli.console import print_json
from service.errors import BundleNotFound
from service.runtime.proofs import digest_of


@click.command()
@click.argument("name")
@models_option
@proof_options
@json_flag
def verify(name: str, repository: Repository, *, as_json: bool, **flags: Any) -> None:
    """Check aliases, every version's files against their checksums, and that every version loads and answers."""
    versions, retired = repository.versions(name), repository.retired(name)
    if not versions and not retired:
        raise BundleNotFound(f"{name} has no published version")
    repository.aliases(name)  # a damaged file of theirs, or one that names no version, is a fault like any other
    proofs_of(flags).check(repository, [(name, version) for version in versions])
    digests = {version: digest_of(repository, (name, version)) for version in versions}
    withdrawn = {version: _retired_line(repository, name, version) for version in retired}
    if as_json:
        print_json({"name": name, "versions": digests} | ({"retired": retired} if retired else {}))
        return
    for version, digest in digests.items():
        click.echo(f"{name} version {version}: ok, {digest}")
    for version, line in withdrawn.items():
        click.echo(f"{name} version {version}: retired, {line}")


def _retired_line(repository: Repository, name: str, version: int) -> str:
    """What is left of a retired version, in words; what is left is checked."""
    folder = repository.folder(name) / str(version)
    if not folder.is_dir():
        return "nothing is left"
    is_purged = verify_retired(folder)
    return "manifest and record match their sums, weights are deleted" if is_purged else "all files match their sums"

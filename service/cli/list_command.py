"""`temperance list`: models with their versions and aliases.

Tested in tests/cli/test_main.py.
"""

import click

from service.bundle.repository import Repository
from service.cli.arguments import json_flag, models_option
from service.cli.console import print_json
from service.cli.messages import versions_line


@click.command("list")
@models_option
@json_flag
def list_(repository: Repository, *, as_json: bool) -> None:
    """List models with their versions and aliases."""
    if as_json:
        print_json({"models": [_as_json(repository, name) for name in repository.names()]})
        return
    for name in repository.names():
        click.echo(versions_line(repository, name))


def _as_json(repository: Repository, name: str) -> dict[str, object]:
    retired = repository.retired(name)
    found: dict[str, object] = {
        "name": name,
        "versions": repository.versions(name),
        "aliases": repository.aliases(name),
    }
    return {**found, **({"retired": retired} if retired else {})}

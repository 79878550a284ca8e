"""`temperance alias`: which version a movable name stands for.

Tested in tests/cli/test_retire_command.py.
"""

import click

from service.bundle.changes import replaced
from service.bundle.repository import Repository
from service.bundle.writer import remove_alias, set_alias
from service.cli.arguments import models_option
from service.cli.messages import print_removed


@click.command()
@click.argument("name")
@click.argument("label")
@click.argument("version", type=click.IntRange(min=1), required=False)
@click.option("--remove", is_flag=True, help="Remove LABEL; without any alias, no version is served.")
@models_option
def alias(name: str, label: str, version: int | None, repository: Repository, *, remove: bool) -> None:
    """Point LABEL at VERSION. `alias NAME stable VERSION` deploys a version, and rolls back to one."""
    if (version is None) != remove:
        raise click.UsageError("give the VERSION that the alias names, or --remove, and not both")
    if version is None:
        remove_alias(repository, name, label)
        print_removed(repository, name, [label])
        return
    repository.check_published(name, version)
    for sentence in replaced(repository, name, label, version):
        click.echo(f"warning: {sentence}", err=True)
    set_alias(repository, name, label, version)
    click.echo(f"{name}: {label} = {version}")

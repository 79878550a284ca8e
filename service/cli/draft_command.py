"""`temperance draft`: a published version becomes a draft."""

import click

from service.bundle.drafts import open_draft
from service.bundle.repository import Repository
from service.cli.arguments import models_option


@click.command()
@click.argument("name")
@click.option("--from", "version", type=click.IntRange(min=1), help="Version to start from.  [default: stable]")
@click.option("--force", is_flag=True, help="Replace a draft that exists.")
@models_option
def draft(name: str, version: int | None, repository: Repository, *, force: bool) -> None:
    """Make a draft from a published version, calibration included."""
    click.echo(f"Wrote {open_draft(repository, name, version, force=force)}")

"""`temperance retire`: a version is withdrawn for good."""

import click

from service.bundle import writer
from service.bundle.repository import Repository
from service.bundle.sums import GRAPH_FILE
from service.cli.arguments import models_option
from service.cli.messages import print_removed


@click.command()
@click.argument("name")
@click.argument("version", type=click.IntRange(min=1))
@click.option("--purge", is_flag=True, help="Delete its weights too; manifest, record and sums stay.")
@models_option
def retire(name: str, version: int, repository: Repository, *, purge: bool) -> None:
    """Withdraw a version for good: from aliases and from serving. Its number is never used again."""
    removed = writer.retire(repository, name, version, purge=purge)
    is_there = (repository.folder(name) / str(version) / GRAPH_FILE).is_file()
    weights = "its files stay; --purge deletes its weights" if is_there else "its weights are deleted"
    click.echo(f"{name} version {version} is retired: {weights}.")
    print_removed(repository, name, removed)

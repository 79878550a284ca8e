"""`temperance publish`: a draft becomes the next version, without new data."""

from typing import Any

import click

from service.bundle.repository import Repository
from service.cli.arguments import json_flag, models_option, proof_options, proofs_of
from service.cli.console import print_json
from service.cli.messages import aliases_of, print_cost_warnings, print_published
from service.fitting.publish import publish_draft


@click.command()
@click.argument("name")
@models_option
@proof_options
@json_flag
def publish(name: str, repository: Repository, *, as_json: bool, **flags: Any) -> None:
    """Publish a draft as it is, with its calibration if that still holds."""
    published = publish_draft(repository, name, proofs=proofs_of(flags))
    print_cost_warnings(repository, name, published.version)
    if as_json:
        found = {"name": name, "version": published.version, "why_uncalibrated": published.why_uncalibrated}
        print_json(found | aliases_of(repository, name, published.version))
        return
    reason = published.why_uncalibrated
    click.echo(
        "The calibration was kept."
        if reason is None
        else f"Uncalibrated: {reason}. {repository.command('fit', name, '--data', 'ROWS')} calibrates a draft."
    )
    print_published(repository, name, published.version)

"""`temperance doctor`: whether the service can run here, and what is not secure.

Tested in tests/test_doctor.py.
"""

import os
import sys
from dataclasses import asdict

import click

from service.cli.arguments import json_flag
from service.cli.console import print_json
from service.doctor import Finding, examine, failed_settings
from service.environment import read_settings
from service.errors import SettingsInvalid
from service.settings import PREFIX


@click.command()
@click.option("--models", type=click.Path(), help="Model repository.")
@click.option("--host", help="Address that `serve` is to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port that `serve` is to listen on.  [default: 8000]")
@json_flag
def doctor(*, as_json: bool, **flags: str | int | None) -> None:
    """Check versions, models, settings, folders, the machine, and what is not secure. Exit code 1 if a check failed."""
    os.environ.update({f"{PREFIX}{name.upper()}": str(value) for name, value in flags.items() if value is not None})
    try:
        findings = list(examine(read_settings()))
    except SettingsInvalid as error:
        findings = [failed_settings(error)]
    if as_json:
        print_json({"findings": [asdict(finding) for finding in findings]})
    else:
        click.echo("\n".join(map(_line, findings)))
    sys.exit(any(finding.state == "failed" for finding in findings))


def _line(finding: Finding) -> str:
    advice = f"\n{'':25}{finding.advice}" if finding.advice else ""
    return f"{finding.state:<9}{finding.check:<16}{finding.detail}{advice}"

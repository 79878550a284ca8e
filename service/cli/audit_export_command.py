"""`temperance audit export`: records for other programs.

Tested in tests/cli/test_audit_export_command.py.
"""

from pathlib import Path
from typing import Any

import click

from service.cli.arguments import file_path
from service.cli.audit_options import moment, opened, place_options, settings_of
from service.errors import DataError
from service.monitoring.record_export import FORMATS, export
from service.monitoring.record_table import answered_rows
from service.record_places import secrets_path
from service.store.entries import Selection
from service.store.seals import Seals
from service.store.secrets import Secrets


@click.command("export")
@click.option(
    "--format",
    "format_name",
    type=click.Choice(tuple(FORMATS)),
    default="parquet",
    show_default=True,
    help="What is written.",
)
@click.option(
    "--out", type=file_path, required=True, help="File to write; of seismometer, a folder. It must not exist."
)
@click.option("--from", "since", callback=moment, metavar="DATE", help="Answers from this time on.")
@click.option("--to", "until", callback=moment, metavar="DATE", help="Answers before this time.")
@click.option("--model", help="Answers of this model alone.")
@click.option("--clear", is_flag=True, help="Write clear text of ids, subjects and groups too; it needs the secrets.")
@place_options("data", "store", "secrets")
def export_(
    format_name: str,
    out: Path,
    since: int | None,
    until: int | None,
    model: str | None,
    *,
    clear: bool,
    **flags: Any,
) -> None:
    """Write answers, one row each, with the outcome in force."""
    settings = settings_of(flags)
    if out.exists():
        raise DataError(f"{out} is there already; name another file")
    seals = Seals(Secrets.read(secrets_path(settings))) if clear else None
    with opened(settings) as store:
        selection = Selection(model=model, since=since, until=until)
        count = export(answered_rows(store, selection, seals=seals), format_name, out)
    click.echo(f"Wrote {count} answered rows to {out}.")

"""`temperance outcomes import`: what turned out to be true, from a file into the record."""

import time
from pathlib import Path
from typing import Any, Final

import click
from rich.table import Table

from service.cli.arguments import file_path, json_flag
from service.cli.audit_options import opened, place_options, settings_of
from service.cli.console import print_json, print_table
from service.cli.outcome_file import COLUMNS, read_reports
from service.monitoring.reported_outcomes import STATUSES, Reporter, receive
from service.record_places import secrets_path
from service.store.entries import Write
from service.store.secrets import Secrets

CALLER: Final = "command:outcomes-import"
EMPTY: Final = "empty"


@click.group()
def outcomes() -> None:
    """Bring in what turned out to be true of answered rows."""


def _names(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    del context, option
    pairs = [value.partition("=") for value in values]
    if any(role not in COLUMNS or not name for role, _, name in pairs):
        raise click.BadParameter(f"COLUMN=NAME, where COLUMN is one of {', '.join(COLUMNS)}")
    return {role: name for role, _, name in pairs}


@outcomes.command("import")
@click.argument("path", metavar="FILE", type=file_path)
@click.option(
    "--map",
    "names",
    multiple=True,
    metavar="COLUMN=NAME",
    callback=_names,
    help="Column of the file that takes the place of prediction_id, outcome, observed_at, source or ascertainment.",
)
@place_options("data", "store", "secrets")
@json_flag
def import_(path: Path, names: dict[str, str], *, as_json: bool, **flags: Any) -> None:
    """Keep the outcomes of a CSV or Parquet file. Again, or after an interruption, it adds what is new."""
    settings, now = settings_of(flags), time.time_ns() // 1000
    signer = Secrets.read(secrets_path(settings)).current.signer
    reporter = Reporter(CALLER, now, lambda _: True, untyped=True)
    counts = dict.fromkeys((*STATUSES, EMPTY), 0)
    with opened(settings, signer) as store:
        for chunk in read_reports(path, names, now=now):
            received = receive(store, chunk.reports, reporter)
            if received.outcomes:
                store.write([Write(outcomes=received.outcomes)])
            counts[EMPTY] += chunk.empty
            for status, n in received.counts.items():
                counts[status] += n
    _show(counts, as_json=as_json)


def _show(counts: dict[str, int], *, as_json: bool) -> None:
    if as_json:
        print_json({name.replace("-", "_"): n for name, n in counts.items()})
        return
    table = Table("outcomes", "rows")
    for name, n in counts.items():
        table.add_row(MEANINGS[name], str(n))
    print_table(table)


MEANINGS: Final = {
    "accepted": "accepted",
    "repeated": "repeated: already kept",
    "contradicting": "contradicting: kept, and another outcome of the row differs",
    "unknown": "unknown: no record of the prediction",
    "not-a-class": "not a class of the model",
    EMPTY: "empty: no outcome in the file",
}

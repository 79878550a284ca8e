"""`temperance performance`: what came of a model's answers."""

from typing import Any

import click

from service.cli.arguments import json_flag
from service.cli.audit_options import opened, place_options, settings_of
from service.cli.console import print_json, print_table
from service.monitoring.group_performance import GROUP_BY, GroupBy
from service.monitoring.performance_query import report_performance
from service.monitoring.window import Window, read_moment
from service.reporting.performance_tables import performance_tables
from service.reporting.terminal import render_table


def _moment(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    del context, option
    if value is not None:
        try:
            read_moment(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None
    return value


@click.command()
@click.argument("name")
@click.option("--from", "since", metavar="DATE", callback=_moment, help="Answered on this day or later (RFC 3339).")
@click.option("--to", "until", metavar="DATE", callback=_moment, help="Answered before this day.")
@click.option("--version", type=click.IntRange(1, 10**9 - 1), help="Answered by this version.")
@click.option("--site", help="Answered for this site.")
@click.option("--caller", help="Answered to this caller.")
@click.option("--group-by", type=click.Choice(GROUP_BY), help="Groups of fewer than 20 subjects are withheld.")
@place_options("data", "store")
@json_flag
def performance(
    name: str,
    *,
    since: str | None,
    until: str | None,
    version: int | None,
    site: str | None,
    caller: str | None,
    group_by: GroupBy | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Show what came of a model's answers: calibration, discrimination, costs and alarms."""
    window = Window(since, until, site, caller, version)
    with opened(settings_of(flags)) as store:
        report = report_performance(store, name, window, group_by=group_by)
    if as_json:
        print_json(report.as_json())
        return
    for table in performance_tables(report):
        print_table(render_table(table))

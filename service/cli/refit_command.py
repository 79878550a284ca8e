"""`temperance refit`: a candidate version from the outcomes of one that is served."""

import dataclasses
import time
from typing import Any

import click
from rich.table import Table

from service.bundle.repository import Repository
from service.cli.arguments import json_flag, models_option, version_to_use
from service.cli.audit_options import moment, opened, place_options, settings_of
from service.cli.console import print_json, print_table
from service.errors import RefitRefused
from service.monitoring.recorded_outcomes import labelled_answers
from service.monitoring.refit import CANDIDATE, Refitted, record_refit, refit
from service.record_places import secrets_of
from service.runtime.model import load_model


@click.command("refit")
@click.argument("name")
@click.option("--from-version", type=click.IntRange(min=1), help="Version whose outcomes count.  [default: stable]")
@click.option("--since", callback=moment, help="Count answers from this date or time on.")
@click.option("--until", callback=moment, help="Count answers before this date or time.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the folds.")
@click.option("--dry-run", is_flag=True, help="Publish nothing.")
@place_options("data", "store", "secrets")
@models_option
@json_flag
def refit_(name: str, repository: Repository, *, as_json: bool, **flags: Any) -> None:
    """Make a version from recorded outcomes: published as `candidate` where the change protocol lets it through."""
    settings = settings_of(flags)
    since, until, seed, dry_run = (flags[key] for key in ("since", "until", "seed", "dry_run"))
    model = load_model(version_to_use(repository, name, flags["from_version"]))
    with opened(settings, None if dry_run else secrets_of(settings).current.signer) as store:
        answers = labelled_answers(store, model, since=since, until=until)
        if not dry_run:
            store.check()
        found = refit(repository, model, answers, seed=seed, dry_run=dry_run)
        if found.version is not None:
            record_refit(store, found, answers, now=time.time_ns() // 1000)
    print_json(_as_json(found)) if as_json else _print(repository, found)
    failed = [gate.sentence for gate in found.proposal.gates if not gate.passed]
    if found.proposal.changes and failed:
        raise RefitRefused(f"nothing was published: {'; '.join(failed)}")


def _print(repository: Repository, found: Refitted) -> None:
    print_table(_table(found))
    if not found.proposal.changes:
        click.echo("The closed test does not reject the calibration in force: nothing was published.")
    elif found.version is not None:
        shadow = repository.command("alias", found.name, CANDIDATE, found.version, "--shadow")
        stable = repository.command("alias", found.name, "stable", CANDIDATE)
        click.echo(f"Published {found.name} version {found.version} as {CANDIDATE}.")
        click.echo(f"{shadow} runs it beside stable; {stable} promotes it.")
    elif found.proposal.passed:
        click.echo("A dry run: nothing was published.")


def _table(found: Refitted) -> Table:
    table = Table(title=f"{found.name}: outcomes of version {found.before}, {found.rows} rows, {found.events} events")
    for heading in ("", "before", "after, out of fold", "change (95 %)"):
        table.add_column(heading)
    for loss, one in found.proposal.improvement.items():
        interval = f"{one.difference:+.4f} ({one.low:+.4f} to {one.high:+.4f})"
        table.add_row(loss.replace("_", " "), f"{one.before:.4f}", f"{one.after:.4f}", interval)
    for name, step in found.proposal.steps.items():
        tested = ", ".join(f"{simpler}: p = {p:.3g}" for simpler, p in step.p_values.items())
        table.add_row(f"step of {name}", "slope 1", f"{step.step}, slope {step.slope:.3f}", tested)
    for gate in found.proposal.gates:
        table.add_row(gate.name.replace("_", " "), "", "passes" if gate.passed else "fails", gate.sentence)
    return table


def _as_json(found: Refitted) -> dict[str, object]:
    proposal = found.proposal
    return {
        "name": found.name,
        "from_version": found.before,
        "version": found.version,
        "rows": found.rows,
        "events": found.events,
        "changes": proposal.changes,
        "passed": proposal.passed,
        "steps": {name: step.model_dump(mode="json") for name, step in proposal.steps.items()},
        "improvement": {loss: one.model_dump(mode="json") for loss, one in proposal.improvement.items()},
        "flag_rate": proposal.flag_rate,
        "coverage": proposal.coverage,
        "gates": [dataclasses.asdict(gate) for gate in proposal.gates],
    }

"""The command: thin verbs over use cases. Exit code 0, or 1 with one clear line on stderr, or 2 for bad usage."""

import sys
from importlib import import_module
from typing import Final, NoReturn

import click

from service.cli.extras import Missing
from service.errors import ServiceError

VERBS: Final = {
    "alarms": "service.cli.alarms_command:alarms",
    "alias": "service.cli.alias_command:alias",
    "audit": "service.cli.audit_command:audit",
    "bench": "service.cli.bench_command:bench_",
    "capacity": "service.cli.capacity_command:capacity",
    "doctor": "service.cli.doctor_command:doctor",
    "draft": "service.cli.draft_command:draft",
    "evaluate": "service.cli.evaluate_command:evaluate",
    "fit": "service.cli.fit_command:fit",
    "import": "service.cli.import_command:import_",
    "inspect": "service.cli.inspect_command:inspect",
    "keys": "service.cli.keys_command:keys",
    "list": "service.cli.list_command:list_",
    "outcomes": "service.cli.outcomes_command:outcomes",
    "performance": "service.cli.performance_command:performance",
    "publish": "service.cli.publish_command:publish",
    "pull": "service.cli.pull_command:pull_",
    "ray": "service.cli.ray_command:ray",
    "refit": "service.cli.refit_command:refit_",
    "retire": "service.cli.retire_command:retire",
    "score": "service.cli.score_command:score",
    "serve": "service.cli.serve_command:serve",
    "verify": "service.cli.verify_command:verify",
}
"""Verb -> its function, imported when the verb is used: `serve` needs a fraction of what all verbs import."""


def main() -> None:
    """Entry point of the `temperance` command."""
    try:
        command(prog_name="temperance")
    except ServiceError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename or 'the file system'}: {error.strerror or type(error).__name__}")
    except ModuleNotFoundError as error:
        missing = Missing.of(error)
        if missing is None:
            raise
        _fail(missing.sentence)


class Verbs(click.Group):
    """A group whose commands are imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, in order of the alphabet."""
        del ctx
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, or None; one that states what to install where a package is missing."""
        del ctx
        if cmd_name not in VERBS:
            return None
        try:
            return _imported(VERBS[cmd_name])
        except ModuleNotFoundError as error:
            missing = Missing.of(error)
            if missing is None:
                raise
            return _unavailable(cmd_name, missing)


def _imported(place: str) -> click.Command:
    module, _, name = place.partition(":")
    verb: click.Command = getattr(import_module(module), name)
    return verb


def _unavailable(name: str, missing: Missing) -> click.Command:
    # It takes any arguments, `--help` too: none of them is known before the verb can be imported.
    def state(arguments: tuple[str, ...]) -> NoReturn:
        del arguments
        _fail(missing.sentence)

    anything = {"ignore_unknown_options": True, "help_option_names": []}
    arguments: list[click.Parameter] = [click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED)]
    return click.Command(name, anything, state, arguments, short_help=f"(needs {missing.requirement})")


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="temperance")
def command() -> None:
    """Calibrated probabilities, out-of-distribution flags and least-cost decisions from ONNX classifiers."""


def _fail(message: str) -> NoReturn:
    click.echo(f"temperance: {' '.join(message.split())}", err=True)
    sys.exit(1)

"""The command: thin verbs over use cases. Exit code 0, or 1 with one clear line on stderr, or 2 for bad usage."""

import sys
from importlib import import_module
from typing import Final

import click

from service.errors import ServiceError

VERBS: Final = {
    "alias": "service.cli.versions:alias",
    "bench": "service.cli.verbs:bench_",
    "draft": "service.cli.versions:draft",
    "evaluate": "service.cli.verbs:evaluate",
    "fit": "service.cli.versions:fit",
    "import": "service.cli.versions:import_",
    "inspect": "service.cli.inspection:inspect",
    "list": "service.cli.inspection:list_",
    "publish": "service.cli.versions:publish",
    "retire": "service.cli.versions:retire",
    "score": "service.cli.verbs:score",
    "serve": "service.cli.serving:serve",
    "verify": "service.cli.inspection:verify",
}
"""Verb -> where it is; imported when it is called, because `serve` needs a fraction of what all verbs import."""


def main() -> None:
    """Entry point of the `temperance` command."""
    try:
        command(prog_name="temperance")
    except ServiceError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename or 'the file system'}: {error.strerror or type(error).__name__}")


class Verbs(click.Group):
    """A group whose commands are imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, in order of the alphabet."""
        del ctx
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, or None."""
        del ctx
        if cmd_name not in VERBS:
            return None
        module, _, name = VERBS[cmd_name].partition(":")
        verb: click.Command = getattr(import_module(module), name)
        return verb


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="temperance")
def command() -> None:
    """Calibrated probabilities, out-of-distribution flags and least-cost decisions from ONNX classifiers."""


def _fail(message: str) -> None:
    click.echo(f"temperance: {' '.join(message.split())}", err=True)
    sys.exit(1)

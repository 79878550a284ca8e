"""`temperance bench`: a server under load, beside a floor that answers as many bytes.

Tested in tests/api/test_bench.py.
"""

import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

import click

from service.api import bench
from service.bundle.repository import Repository
from service.cli.arguments import FiniteRange, file_path, json_flag, models_option, published, split
from service.cli.console import print_json, print_table
from service.cli.messages import identity
from service.cli.own_server import OF_ROWS, instances, own_server
from service.cli.serve_command import one_blas_thread
from service.environment import read_settings
from service.runtime.model import load_model


@click.command("bench")
@click.argument("name")
@click.option("--data", type=file_path, help="Rows to send.  [default: a synthetic row within the declared ranges]")
@click.option("--url", help="A running server that serves the same model.  [default: one of its own]")
@click.option("--key", type=click.File(), help="File with the API key that this server needs.")
@click.option("--verb", type=click.Choice(OF_ROWS), default="decide", show_default=True)
@click.option("--rows", type=click.IntRange(min=1), default=1, show_default=True, help="Rows in a request.")
@click.option("--connections", default="1,8,64", show_default=True, help="Numbers of connections, separated by commas.")
@click.option("--seconds", type=FiniteRange(min=0.5), default=2.0, show_default=True, help="Duration of one run.")
@models_option
@json_flag
def bench_(
    name: str,
    repository: Repository,
    *,
    data: Path | None,
    url: str | None,
    key: TextIO | None,
    verb: str,
    rows: int,
    connections: str,
    seconds: float,
    as_json: bool,
) -> None:
    """Measure a server under load, and a floor that answers as many bytes and computes nothing."""
    counts = _whole_numbers(connections)
    model = load_model(published(repository, name, None))
    path, body = f"/v1/models/{name}:{verb}", instances(model, data, rows)
    settings = read_settings().model_copy(update={"models": repository.root, "log_level": "error"})
    one_blas_thread()  # of a server of its own, which inherits the environment
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = _address(url) if url else stack.enter_context(own_server(settings, folder))
        request = bench.request_bytes(server, path, body, key=None if key is None else key.read().strip())
        floor = stack.enter_context(bench.running(bench.serve_floor, bench.ask(server, request)))
        found = list(bench.compare(server, floor, request, connections=counts, seconds=seconds))
    if as_json:
        print_json({"model": identity(model), "verb": verb, "rows": rows, "runs": [asdict(one) for one in found]})
        return
    click.echo(
        f"{model.bundle.title}, :{verb}, {rows} row{'s' if rows > 1 else ''} in a request, validated and counted"
    )
    print_table(bench.as_table(found, rows=rows))


def _address(url: str) -> bench.Address:
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname is None:
        raise click.BadParameter("a server's URL is http://HOST:PORT", param_hint="--url")
    return bench.Address(parts.hostname, parts.port or 80)


def _whole_numbers(text: str) -> tuple[int, ...]:
    numbers = split(text) or ()
    if not all(number.isdecimal() and int(number) for number in numbers):
        raise click.BadParameter("whole numbers above 0, separated by commas", param_hint="--connections")
    return tuple(map(int, numbers))

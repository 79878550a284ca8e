"""`temperance serve`: requests are answered. It starts often, so it imports nothing that only other verbs need.

Tested in tests/test_main.py.
"""

import os

import click

from service.metrics_folder import SHARED_METRICS
from service.settings import PREFIX
from service.start_signals import take_signals


def one_blas_thread() -> None:
    """Let NumPy, which must not be imported yet, multiply on one thread; a number that is set already stays.

    For matrices as small as those of a request, the threads of OpenBLAS wait for each other longer than they multiply.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@click.command()
@click.option("--models", type=click.Path(), help="Model repository.")
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on.  [default: 8000]")
@click.option("--uds", type=click.Path(), help="Unix domain socket to listen on, in place of host and port.")
@click.option("--ssl-certfile", type=click.Path(), help="Certificate chain for TLS.")
@click.option("--ssl-keyfile", type=click.Path(), help="Private key of the certificate.")
@click.option("--ssl-keyfile-password-file", type=click.Path(), help="File with the password of the private key.")
@click.option("--ssl-ca-certs", type=click.Path(), help="Authorities by which certificates of clients are checked.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes.  [default: 1]")
@click.option("--insecure", is_flag=True, default=None, help="Let everyone in, also from other machines.")
def serve(**flags: str | int | None) -> None:
    """Serve every aliased version. Flags win over TEMPERANCE_… variables."""
    take_signals()
    # Worker processes read their settings from the environment, so that is where the flags go.
    given = {name: str(value) for name, value in flags.items() if value is not None}
    os.environ.update({f"{PREFIX}{name.upper()}": value for name, value in given.items()})
    one_blas_thread()
    from service.environment import Sources, read_settings  # noqa: PLC0415  # it imports NumPy

    sources = Sources.of_environment(given)
    for name in (SHARED_METRICS, SHARED_METRICS.lower()):  # else prometheus_client, imported now, would count there
        os.environ.pop(name, None)
    from service import main as composition  # noqa: PLC0415

    composition.serve(read_settings(sources), sources)

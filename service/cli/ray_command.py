"""`temperance ray`: the service on the nodes of a Ray cluster.

Tested in tests/cluster/test_ray_process.py.
"""

import os
from pathlib import Path
from typing import Any

import click

from service.settings import PREFIX
from service.start_signals import take_signals


@click.command()
@click.option("--models", type=click.Path(), help="Model repository, at the same path on every node.")
@click.option("--host", help="Address that the proxy of every node listens on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(1, 65535), help="Port of these proxies.  [default: 8000]")
@click.option("--address", help="Head node of the cluster, HOST:PORT; auto is the one that runs on this machine.")
@click.option("--groups", type=click.Path(path_type=Path), help="File of groups of models, TOML.")
@click.option("--replicas", type=click.IntRange(min=1), help="Processes, without a file of groups.  [default: 1]")
@click.option("--most-replicas", type=click.IntRange(min=1), help="To which their number grows with the requests.")
@click.option("--haproxy/--no-haproxy", default=True, show_default=True, help="HAProxy or Ray's own proxy in front.")
@click.option("--detach", is_flag=True, help="End once all is served; `serve shutdown` takes it down.")
@click.option("--insecure", is_flag=True, default=None, help="Let everyone in, also from other machines.")
def ray(groups: Path | None, address: str | None, *, haproxy: bool, detach: bool, **flags: Any) -> None:
    """Serve on Ray. Without an address, Ray is started on this machine and ends with this command."""
    take_signals()
    sizes = {name: flags.pop(name) for name in ("replicas", "most_replicas")}
    given = {name: str(value) for name, value in flags.items() if value is not None}
    os.environ.update({f"{PREFIX}{name.upper()}": value for name, value in given.items()})
    from service.cluster.serving_on_ray import OnRay, serve_on_ray  # noqa: PLC0415  # it imports NumPy
    from service.environment import Sources  # noqa: PLC0415

    sizes = {name: value for name, value in sizes.items() if value is not None}
    options = OnRay(groups=groups, sizes=sizes, address=address, haproxy=haproxy, detach=detach)
    serve_on_ray(options, Sources.of_environment(given))

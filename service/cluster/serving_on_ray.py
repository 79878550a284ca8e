"""The use case of `temperance ray`: check, connect, deploy, and stay until a signal.

Tested in tests/cluster/test_ray_process.py.
"""

import logging
import signal
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service.cluster.connection import connected
from service.cluster.groups import Groups, one_group, read_groups
from service.cluster.ray_settings import check_nodes, check_ray_settings, variables_of
from service.cluster.serve_application import APPLICATION, applications, deploy, ray_variables, take_down
from service.deployment import check_names
from service.environment import Sources, read_settings
from service.errors import SettingsInvalid
from service.main import configure_logging, repository_of
from service.record_parts import check_record
from service.runtime.registry import published_names
from service.settings import Settings
from service.start_signals import take_signals

log = logging.getLogger("temperance")


@dataclass(frozen=True, slots=True)
class OnRay:
    """How a service is deployed.

    Attributes
    ----------
    groups : Path or None
        File of groups; None for one group of all models.
    sizes : mapping of str to object
        Of that one group.
    address : str or None
        Of the cluster; None for one on this machine that ends with the command.
    haproxy : bool
        Whether HAProxy takes the requests, in place of Ray's own proxy.
    detach : bool
        Whether the service stays when the command ends.
    """

    groups: Path | None = None
    sizes: Mapping[str, Any] = field(default_factory=dict)
    address: str | None = None
    haproxy: bool = True
    detach: bool = False


def serve_on_ray(options: OnRay, sources: Sources) -> None:
    """Serve until a signal, or until all is served.

    Parameters
    ----------
    options : OnRay
    sources : Sources
        Where the values of settings came from.

    Raises
    ------
    SettingsInvalid, LoadFailed
    """
    settings, groups = read_settings(sources), groups_of(options)
    configure_logging(settings)
    access = check_ray_settings(settings, sources, haproxy=options.haproxy)
    with sources.named("models"):
        published = published_names(repository_of(settings))
        check_models(groups, published)
    with sources.named("deployment"):
        check_names(settings, published)
    with sources.named("store", "data", "secrets"):
        check_record(settings)
    log.log(access.level, "%s", access.sentence)
    _deploy(options, settings, groups)


def groups_of(options: OnRay) -> Groups:
    """The groups of the file, or the one of the options.

    Raises
    ------
    SettingsInvalid
    """
    if options.groups is None:
        return one_group(options.sizes)
    if options.sizes:
        raise SettingsInvalid("--groups has the number of replicas of every group; leave --replicas and the like out")
    return read_groups(options.groups)


def check_models(groups: Groups, published: list[str]) -> None:
    """Refuse a group that has no model, or names one that is not published.

    Raises
    ------
    SettingsInvalid
    """
    for name, group in groups.groups.items():
        missing = sorted({*group.models} - {*published, "*"})
        if missing:
            raise SettingsInvalid(f"group {name}: no model of the name {missing[0]} is published")
        if not groups.members(name, published):
            raise SettingsInvalid(f"group {name} has no model: others have them all")


def check_alone(running: Iterable[str]) -> None:
    """Refuse a cluster whose Ray Serve runs other applications: it would end with this service, and they with it.

    Raises
    ------
    SettingsInvalid
    """
    if others := sorted({*running} - {APPLICATION}):
        raise SettingsInvalid(
            f"Ray Serve runs another application on this cluster, {others[0]}, and would end together with this one: "
            "name another cluster, or take that application down"
        )


def _deploy(options: OnRay, settings: Settings, groups: Groups) -> None:
    if options.detach and options.address is None:
        raise SettingsInvalid("--detach needs --address: a cluster of this command ends with it")
    proxies = ray_variables(settings, haproxy=options.haproxy)
    with connected(options.address, runtime_env={"env_vars": proxies}, logging_level="warning"):
        import ray  # noqa: PLC0415

        check_nodes(settings, sum(node["Alive"] for node in ray.nodes()))
        check_alone(applications())
        take_signals()  # Ray has set handlers of its own
        stays = False
        try:
            url = deploy(groups, settings, proxies | variables_of(settings))
            log.info("serving on Ray: %s on every node that has a replica", url)
            stays = options.detach
            if not stays:
                _wait_for_a_signal()
        finally:
            if not stays:
                take_down()


def _wait_for_a_signal() -> None:
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    over.wait()

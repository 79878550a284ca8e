"""A deployment on Ray Serve: groups of replicas, their number by the requests under way, and what Ray is to do.

Tested in tests/cluster/test_ray_process.py.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from service.cluster.groups import Group, Groups, Size
from service.cluster.replicas import FrontReplica, Replica
from service.errors import LoadFailed
from service.settings import Settings

APPLICATION: Final = "temperance"
FRONT: Final = "front"
MOST_UNDER_WAY: Final = 4096
"""Requests in one replica: the application refuses what it cannot answer in time, and Ray must not hold it back."""
SETTLE_SECONDS: Final = 5.0
"""Beyond the deadline, in which a replica that is to end writes its record out."""
DEREGISTRATION_SECONDS: Final = 3.0
"""At least, in which proxies learn that a replica ends, while it still takes requests."""
CONSTRUCTOR_TRIES: Final = 3


def ray_variables(settings: Settings, *, haproxy: bool) -> dict[str, str]:
    """Ray's variables for every process of the deployment, its proxies among them."""
    return {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_SERVE_ENABLE_HA_PROXY": str(int(haproxy)),
        # Every request may be repeated (docs/guide/outcomes.md): one whose replica dies goes to another.
        "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
        "RAY_SERVE_HAPROXY_TCP_NODELAY": "1",
        # One loop for Ray's server and the application: a second thread would halve the throughput.
        "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": str(max(settings.drain_seconds, DEREGISTRATION_SECONDS)),
    }


@contextmanager
def deployed(groups: Groups, settings: Settings, variables: Mapping[str, str]) -> Iterator[str]:
    """Serve while the context lasts, if it is not left by `keep`.

    Parameters
    ----------
    groups : Groups
    settings : Settings
    variables : mapping of str to str
        Of every replica.

    Yields
    ------
    str
        URL of this node's proxy.

    Raises
    ------
    LoadFailed
        If replicas do not start; the reason is the last line of their log.
    """
    from ray import serve  # noqa: PLC0415

    options = {"host": settings.host, "port": settings.port, "keep_alive_timeout_s": int(settings.keep_alive) or 1}
    try:
        serve.start(proxy_location="EveryNode", http_options=options)
        serve.run(_application(groups, settings, variables), name=APPLICATION, route_prefix="/")
    except RuntimeError as error:
        taken_down()
        raise LoadFailed(f"Ray could not serve: {_reason(str(error))}") from None
    yield f"http://{settings.host}:{settings.port}"


def taken_down() -> None:
    """End the application on every node, each replica once its requests are answered."""
    from ray import serve  # noqa: PLC0415

    serve.shutdown()


def _application(groups: Groups, settings: Settings, variables: Mapping[str, str]) -> Any:
    def bound(name: str, group: Group, *, takes_requests: bool) -> Any:
        made = _deployment(Replica, name, group, settings, variables)
        return made.bind(name, groups, takes_requests=takes_requests)

    if not groups.has_front:
        ((name, group),) = groups.groups.items()
        return bound(name, group, takes_requests=True)
    handles = {name: bound(name, group, takes_requests=False) for name, group in groups.groups.items()}
    return _deployment(FrontReplica, FRONT, groups.front, settings, variables).bind(groups, handles)


def _deployment(made: type, name: str, size: Size, settings: Settings, variables: Mapping[str, str]) -> Any:
    from ray import serve  # noqa: PLC0415

    actor = {"num_cpus": size.processors, "resources": size.resources, "runtime_env": {"env_vars": dict(variables)}}
    seconds = settings.deadline + SETTLE_SECONDS + max(settings.drain_seconds, DEREGISTRATION_SECONDS)
    deployment: Any = serve.deployment(serve.ingress()(made))
    return deployment.options(
        name=name,
        ray_actor_options=actor,
        max_ongoing_requests=MOST_UNDER_WAY,
        graceful_shutdown_timeout_s=seconds,
        max_constructor_retry_count=CONSTRUCTOR_TRIES,
        **_number(size),
    )


def _number(size: Size) -> dict[str, Any]:
    if size.most_replicas is None:
        return {"num_replicas": size.replicas}
    return {
        "autoscaling_config": {
            "min_replicas": size.replicas,
            "max_replicas": size.most_replicas,
            "target_ongoing_requests": size.requests,
        }
    }


def _reason(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[-1] if lines else "its log has the reason")[:500]

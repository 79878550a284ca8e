"""A deployment on Ray Serve: groups of replicas, their number by the requests under way, and what Ray is to do.

Tested in tests/cluster/test_ray_process.py, and what needs no cluster in tests/cluster/test_serve_application.py.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

from service.cluster.groups import Groups, Size
from service.cluster.replicas import FrontReplica, GroupReplica, Replica
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
QUIET: Final = {"enable_access_log": False, "log_level": "WARNING"}
"""The application logs every request; Ray's own line of it would cost a tenth of the throughput."""


def ray_variables(settings: Settings, *, haproxy: bool) -> dict[str, str]:
    """Ray's variables for every process of the deployment, its proxies among them."""
    return {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_SERVE_ENABLE_HA_PROXY": str(int(haproxy)),
        # Every request may be repeated (docs/guide/outcomes.md): one whose replica dies goes to another.
        "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
        "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": str(math.ceil(settings.deadline + SETTLE_SECONDS)),
        # Ray's 5 seconds end the proxies of a busy machine before they have started.
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
        # One loop for Ray's server and the application: a second thread would halve the throughput.
        "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
        # uvicorn, inside Ray, would take the X-Forwarded-For of any client on its own machine for true.
        "FORWARDED_ALLOW_IPS": "none",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": str(max(settings.drain_seconds, DEREGISTRATION_SECONDS)),
    }


def deploy(groups: Groups, settings: Settings, variables: Mapping[str, str]) -> str:
    """Start every replica, and the proxies; what is served already by this name is replaced, replica by replica.

    Parameters
    ----------
    groups : Groups
    settings : Settings
    variables : mapping of str to str
        Of every replica.

    Returns
    -------
    str
        URL of a node's proxy.

    Raises
    ------
    LoadFailed
        If replicas do not start; the reason is the last line of their log.
    """
    from ray import serve  # noqa: PLC0415
    from ray.exceptions import RayError  # noqa: PLC0415
    from ray.serve.exceptions import RayServeException  # noqa: PLC0415

    options = {"host": settings.host, "port": settings.port, "keep_alive_timeout_s": int(settings.keep_alive) or 1}
    try:
        serve.start(proxy_location="EveryNode", http_options=options, logging_config=QUIET)
        application = _application(groups, settings, variables)
        serve.run(application, name=APPLICATION, route_prefix="/", logging_config=QUIET)
    except (RuntimeError, RayError, RayServeException) as error:
        raise LoadFailed(f"Ray could not serve: {_reason(str(error))}") from None
    return f"http://{settings.host}:{settings.port}"


def applications() -> list[str]:
    """Names of all applications that Ray Serve runs on the cluster, those of others too."""
    from ray import serve  # noqa: PLC0415

    return list(serve.status().applications)


def take_down() -> None:
    """End Ray Serve on every node, each replica once its requests are answered."""
    from ray import serve  # noqa: PLC0415

    serve.shutdown()


def _application(groups: Groups, settings: Settings, variables: Mapping[str, str]) -> Any:
    from ray import serve  # noqa: PLC0415

    def of(made: Any, name: str, size: Size) -> Any:
        return _deployment(made, name, size, settings, variables)

    if not groups.has_front:
        ((name, group),) = groups.groups.items()
        return of(serve.ingress()(Replica), name, group).bind(name, groups)
    handles = {name: of(GroupReplica, name, group).bind(name, groups) for name, group in groups.groups.items()}
    return of(serve.ingress()(FrontReplica), FRONT, groups.front).bind(groups, handles)


def _deployment(made: Any, name: str, size: Size, settings: Settings, variables: Mapping[str, str]) -> Any:
    from ray import serve  # noqa: PLC0415

    actor = {"num_cpus": size.processors, "resources": size.resources, "runtime_env": {"env_vars": dict(variables)}}
    seconds = settings.deadline + SETTLE_SECONDS + max(settings.drain_seconds, DEREGISTRATION_SECONDS)
    deployment: Any = serve.deployment(made)
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

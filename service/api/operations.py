"""For the people and machines that run the service: health, metrics, the offline documentation page."""

import platform
from collections.abc import Callable, Iterator
from importlib import resources
from importlib.metadata import version
from typing import Final

from fastapi import APIRouter, Response
from fastapi.openapi.docs import get_swagger_ui_html
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from service.api.page_headers import page_headers
from service.api.remembered_routes import READ
from service.errors import ServiceError
from service.runtime.provider_packages import runtime_release
from service.runtime.registry import Registry

ASSETS: Final = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon.png": "image/png",
}


def health_router(check_ready: Callable[[], None]) -> APIRouter:
    """`/livez` and `/readyz`.

    Parameters
    ----------
    check_ready : callable
        Raises the error that says why the service is not ready.
    """
    routes = APIRouter()

    async def livez() -> Response:
        """The process responds."""
        return Response('{"status":"alive"}', media_type="application/json")

    async def readyz() -> Response:
        """Whether requests belong here: every expected model has passed its self-test, and answers can leave."""
        check_ready()
        return Response('{"status":"ready"}', media_type="application/json")

    for path, endpoint in (("/livez", livez), ("/readyz", readyz)):
        routes.add_api_route(path, endpoint, methods=READ)
    return routes


class Readiness(Collector):
    """`temperance_ready`, found out at every request as `/readyz` does.

    Parameters
    ----------
    check_ready : callable
        As `health_router`'s.
    """

    def __init__(self, check_ready: Callable[[], None]) -> None:
        self._check_ready = check_ready

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One sample."""
        yield GaugeMetricFamily(
            "temperance_ready", "1 while /readyz answers 200, else 0", value=float(self._is_ready())
        )

    def _is_ready(self) -> bool:
        try:
            self._check_ready()
        except ServiceError:
            return False
        return True


class ServedVersions(Collector):
    """What is served and what is not, read off the registry at every request.

    And `temperance_build_info`, which does not change.

    Parameters
    ----------
    registry : Registry
    expected : tuple of str, optional
        Models without which the service is not ready.
    """

    def __init__(self, registry: Registry, expected: tuple[str, ...] = ()) -> None:
        self._registry, self._expected = registry, expected
        self._build = GaugeMetricFamily("temperance_build_info", "1, for what serves them", labels=list(_BUILD))
        self._build.add_metric(list(_BUILD.values()), 1)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One sample per served version, and one each for models that are refused and that are missing."""
        family = GaugeMetricFamily(
            "temperance_model_info",
            "1 for every served version",
            labels=["model", "version", "digest", "calibration"],
        )
        for model in self._registry.all_models():
            family.add_metric([model.name, model.version, str(model.bundle.digest), model.status], 1)
        yield family
        yield GaugeMetricFamily(
            "temperance_refused_models",
            "Models of which no version could be loaded",
            value=len(self._registry.refused),
        )
        yield GaugeMetricFamily(
            "temperance_missing_models",
            "Expected models that are not served",
            value=len(self._registry.missing(self._expected)),
        )
        yield self._build


def exposed(
    counted: CollectorRegistry, served: Registry, *, shared: str | None, expected: tuple[str, ...] = ()
) -> CollectorRegistry:
    """What `/metrics` shows: counts of this process, or of every worker, and the served versions.

    Parameters
    ----------
    counted : CollectorRegistry
        Counts of this process.
    served : Registry
    shared : str or None
        Folder that the workers count in together; None for a process of its own.
    expected : tuple of str, optional
        Models without which the service is not ready.
    """
    shown = CollectorRegistry()
    shown.register(ServedVersions(served, expected))
    if shared is None:
        shown.register(_Counted(counted))
    else:
        MultiProcessCollector(shown, path=shared)  # type: ignore[no-untyped-call]  # it ships no types
    return shown


class _Counted(Collector):
    def __init__(self, counted: CollectorRegistry) -> None:
        self._counted = counted

    def collect(self) -> Iterator[Metric]:
        yield from self._counted.collect()


def metrics_router(registry: CollectorRegistry, check_ready: Callable[[], None]) -> APIRouter:
    """`/metrics` in Prometheus' text format: of a registry, and whether the service is ready.

    Parameters
    ----------
    registry : CollectorRegistry
    check_ready : callable
        As `health_router`'s.
    """
    routes, own = APIRouter(), CollectorRegistry()
    own.register(Readiness(check_ready))

    async def metrics() -> Response:
        """Counters and histograms."""
        text = generate_latest(own) + generate_latest(registry)
        return Response(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)

    routes.add_api_route("/metrics", metrics, methods=READ)
    return routes


def docs_router(title: str) -> APIRouter:
    """`/docs`, its files read from an installed package: no request leaves the machine."""
    routes = APIRouter()
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=title,
        swagger_js_url="docs/swagger-ui-bundle.js",
        swagger_css_url="docs/swagger-ui.css",
        swagger_favicon_url="docs/favicon.png",
    )

    page.headers.update(page_headers(bytes(page.body)))

    async def docs() -> Response:
        return page

    routes.add_api_route("/docs", docs, methods=READ)
    for name, media_type in ASSETS.items():
        content = resources.files("fastapi_offline").joinpath("static", name).read_bytes()
        routes.add_api_route(f"/docs/{name}", _asset(content, media_type), methods=READ)
    return routes


def _asset(content: bytes, media_type: str) -> Callable[[], Response]:
    def asset() -> Response:
        return Response(content, media_type=media_type, headers={"Cache-Control": "max-age=86400"})

    return asset


_BUILD: Final = {
    "version": version("temperance"),
    "python": platform.python_version(),
    "onnxruntime": runtime_release(),
}

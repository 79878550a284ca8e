"""`/v1/models/{name}/performance`: what came of a model's answers."""

import re
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Final

import orjson
from fastapi import APIRouter, Request, Response

from service.api.record_access import RecordAccess
from service.api.remembered_routes import READ
from service.errors import MOST_FAULTS, Fault, InvalidParameters
from service.monitoring.group_performance import GROUP_BY, GroupBy
from service.monitoring.performance_query import report_performance
from service.monitoring.window import Window, read_moment
from service.record_errors import StoreUnavailable
from service.runtime.registry import Registry
from service.store.engine import Store

Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]
VERSION: Final = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
LONGEST: Final = 256
"""Characters of a site's or caller's name."""


def performance_router(access: RecordAccess | None, registry: Registry) -> APIRouter:
    """The route of performance.

    Parameters
    ----------
    access : RecordAccess or None
        None in a process that keeps no record.
    registry : Registry
    """

    async def report(request: Request) -> Response:
        name, state = request.path_params["name"], request.scope["state"]
        window, group_by = performance_parameters(request.query_params.multi_items())
        registry.served(name)
        if access is None:
            raise StoreUnavailable("this process keeps no record")
        use = partial(_report, name=name, window=window, group_by=group_by)
        body = await access.readers.read(use, deadline=state["deadline"])
        return Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})

    routes = APIRouter(prefix="/v1")
    routes.add_api_route("/models/{name}/performance", report, methods=READ)
    return routes


def performance_parameters(items: list[tuple[str, str]]) -> tuple[Window, GroupBy | None]:
    """The window and grouping that a query asks for.

    Parameters
    ----------
    items : list of (name, value)

    Raises
    ------
    InvalidParameters
        For names that are unknown or repeated, and values that are not as documented; no value is repeated.
    """
    faults = [Fault((), "unknown", f"the parameters are {', '.join(READS)}") for name, _ in items if name not in READS]
    known = dict(item for item in items if item[0] in READS)
    faults += [Fault((name,), "repeated", "at most once") for name in known if sum(n == name for n, _ in items) > 1]
    faults += [Fault((name,), "invalid", why) for name, text in known.items() if (why := READS[name](text))]
    if not faults and _ends(known, "from") >= _ends(known, "to"):
        faults.append(Fault(("to",), "invalid", "must be later than `from`"))
    if faults:
        detail = "; ".join(
            dict.fromkeys(f"{''.join(map(str, f.path)) or 'query'}: {f.detail}" for f in faults[:MOST_FAULTS])
        )
        raise InvalidParameters(detail, faults)
    version = known.get("version")
    window = Window(
        since=known.get("from"),
        until=known.get("to"),
        site=known.get("site"),
        caller=known.get("caller"),
        version=None if version is None else int(version),
    )
    return window, next((by for by in GROUP_BY if by == known.get("group_by")), None)


def _report(store: Store, *, name: str, window: Window, group_by: GroupBy | None) -> bytes:
    # encoded on the reader's thread: a report of many groups takes milliseconds
    return orjson.dumps(report_performance(store, name, window, group_by=group_by).as_json())


def _ends(known: Mapping[str, str], name: str) -> float:
    if name in known:
        return read_moment(known[name])
    return -1.0 if name == "from" else float("inf")


def _moment(text: str) -> str | None:
    try:
        read_moment(text)
    except ValueError as error:
        return str(error)
    return None


def _version(text: str) -> str | None:
    return None if VERSION.fullmatch(text) else "must be a version's number"


def _name(text: str) -> str | None:
    if 0 < len(text) <= LONGEST and text.isprintable():
        return None
    return f"must be a name of 1 to {LONGEST} characters"


def _group_by(text: str) -> str | None:
    return None if text in GROUP_BY else f"must be one of {', '.join(GROUP_BY)}"


READS: Final[dict[str, Callable[[str], str | None]]] = {
    "from": _moment,
    "to": _moment,
    "version": _version,
    "site": _name,
    "caller": _name,
    "group_by": _group_by,
}
"""Parameters, and what is wrong with a value; None where nothing is."""

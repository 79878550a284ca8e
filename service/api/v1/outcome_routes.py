"""`/v1/outcomes` and `/v1/predictions`: what turned out to be true is received, and records are shown."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import Any, Final

import orjson
from fastapi import APIRouter, Request, Response

from service.access.caller import Caller
from service.api.addresses import Limits
from service.api.body import parse_json, read_json
from service.api.intake import LARGE, is_large
from service.api.large_bodies import Held
from service.api.record_access import RecordAccess
from service.api.remembered_routes import READ
from service.api.v1.outcome_requests import parse_reports
from service.api.v1.recorded_prediction import recorded_prediction
from service.errors import DeadlineExceeded, StoreUnavailable
from service.monitoring.reported_outcomes import Received, Report, Reporter, receive
from service.store.entries import Write

LIMIT: Final = 16 << 20
"""Bytes of 10,000 outcomes, sequences of some hundred positions among them."""
Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]


def outcome_router(access: RecordAccess | None, limits: Limits, clock: Callable[[], datetime]) -> APIRouter:
    """Routes of the record.

    Parameters
    ----------
    access : RecordAccess or None
        None in a process that keeps no record.
    limits : Limits
    clock : callable
        The time of day, with its zone.
    """
    routes = APIRouter(prefix="/v1")
    routes.add_api_route("/outcomes", _report(access, limits, clock), methods=["POST"])
    routes.add_api_route("/predictions/{prediction_id}", _show(access), methods=READ)
    return routes


def outcomes_answer(reports: list[Report], received: Received) -> dict[str, Any]:
    """The answer to reports, plain values."""
    counts = {status.replace("-", "_"): n for status, n in received.counts.items()}
    each = zip(reports, received.statuses, strict=True)
    return {**counts, "results": [{"prediction_id": one.prediction_id, "status": status} for one, status in each]}


def _report(access: RecordAccess | None, limits: Limits, clock: Callable[[], datetime]) -> Endpoint:
    one_at_a_time = asyncio.Lock()  # else a repeated report that comes meanwhile would be new too
    parser = ThreadPoolExecutor(1, thread_name_prefix="outcomes")

    async def report(request: Request) -> Response:
        state = request.scope["state"]
        now = int(clock().timestamp() * 1e6)
        reports = await _reports(request, limits, parser, now)
        available = _available(access)
        caller: Caller = state["caller"]
        use = partial(receive, reports=reports, reporter=Reporter(caller.name, now, caller.may_use))
        try:
            async with asyncio.timeout_at(state["deadline"]), one_at_a_time:
                received = await available.readers.read(use, deadline=state["deadline"])
                if received.outcomes:
                    await available.keep(Write(outcomes=received.outcomes), state["deadline"])
        except TimeoutError:
            raise DeadlineExceeded("the outcomes were not kept in time; send them again, or fewer at a time") from None
        return _json(outcomes_answer(reports, received))

    return report


async def _reports(request: Request, limits: Limits, parser: ThreadPoolExecutor, now: int) -> list[Report]:
    scope, most = request.scope, LIMIT

    def parse(body: bytes) -> list[Report]:
        return parse_reports(parse_json(body), now=now)

    if not is_large(scope):
        return parse(await read_json(scope, request.receive, limit=most))
    limits.bodies.check_wait()
    with Held(limits.bodies, request.receive) as held:
        body = await read_json(scope, held, limit=most)
        if len(body) <= LARGE:
            return parse(body)
        return await asyncio.get_running_loop().run_in_executor(parser, parse, body)


def _show(access: RecordAccess | None) -> Endpoint:
    async def show(request: Request) -> Response:
        state = request.scope["state"]
        caller: Caller = state["caller"]
        use = partial(recorded_prediction, place=request.path_params["prediction_id"], may_use=caller.may_use)
        return _json(await _available(access).readers.read(use, deadline=state["deadline"]))

    return show


def _available(access: RecordAccess | None) -> RecordAccess:
    if access is None:
        raise StoreUnavailable("this process keeps no record")
    return access


def _json(body: object) -> Response:
    return Response(orjson.dumps(body), media_type="application/json", headers={"Cache-Control": "no-store"})

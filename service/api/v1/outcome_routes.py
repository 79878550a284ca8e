"""`/v1/outcomes` and `/v1/predictions`: what turned out to be true is received, and records are shown."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import Any, Final

import orjson
from fastapi import APIRouter, Request, Response
from starlette.types import Receive, Scope

from service.access.caller import Caller
from service.api.addresses import Limits
from service.api.body import parse_json, read_json
from service.api.idempotency import REPLAYED, Idempotency, Stored, has_key
from service.api.idempotency import Held as Key
from service.api.intake import LARGE, State, is_large
from service.api.large_bodies import Held
from service.api.record_access import RecordAccess
from service.api.remembered_routes import READ
from service.api.v1.outcome_requests import parse_reports
from service.api.v1.recorded_prediction import recorded_prediction
from service.errors import DeadlineExceeded
from service.monitoring.reported_outcomes import Received, Report, Reporter, receive
from service.record_errors import StoreUnavailable
from service.store.entries import Write

LIMIT: Final = 16 << 20
"""Bytes of 10,000 outcomes, sequences of some hundred positions among them."""
_FIELDS: Final = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))
Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]


def outcome_router(
    access: RecordAccess | None,
    limits: Limits,
    clock: Callable[[], datetime],
    idempotency: Idempotency | None = None,
) -> APIRouter:
    """Routes of the record.

    Parameters
    ----------
    access : RecordAccess or None
        None in a process that keeps no record.
    limits : Limits
    clock : callable
        The time of day, with its zone.
    idempotency : Idempotency or None
        None where no key is looked at.
    """
    routes = APIRouter(prefix="/v1")
    routes.add_api_route("/outcomes", _Reports(access, limits, clock, idempotency).report, methods=["POST"])
    routes.add_api_route("/predictions/{prediction_id}", _show(access), methods=READ)
    return routes


def outcomes_answer(reports: list[Report], received: Received) -> dict[str, Any]:
    """The answer to reports, plain values."""
    counts = {status.replace("-", "_"): n for status, n in received.counts.items()}
    each = zip(reports, received.statuses, strict=True)
    return {**counts, "results": [{"prediction_id": one.prediction_id, "status": status} for one, status in each]}


class _Reports:
    # The endpoint of reports.

    def __init__(
        self,
        access: RecordAccess | None,
        limits: Limits,
        clock: Callable[[], datetime],
        idempotency: Idempotency | None,
    ) -> None:
        self._access, self._limits, self._clock, self._idempotency = access, limits, clock, idempotency
        self._one_at_a_time = asyncio.Lock()  # else a repeated report that comes meanwhile would be new too
        self._parser = ThreadPoolExecutor(1, thread_name_prefix="outcomes")

    async def report(self, request: Request) -> Response:
        if not is_large(request.scope):
            return await self._answer(request.scope, request.receive)
        self._limits.bodies.check_wait()
        with Held(self._limits.bodies, request.receive) as held:
            return await self._answer(request.scope, held)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        body = await read_json(scope, receive, limit=LIMIT)
        if self._idempotency is None or not has_key(scope):
            return await self._received(None, body, scope["state"])
        make = partial(self._received, body=body, state=scope["state"])
        answer = await self._idempotency.answer(scope, body, make)
        return Response(answer.body, headers=answer.fields(REPLAYED)) if isinstance(answer, Stored) else answer

    async def _received(self, key: Key | None, body: bytes, state: State) -> Response:
        now = int(self._clock().timestamp() * 1e6)
        reports = await self._parsed(body, now)
        available = _available(self._access)
        caller: Caller = state["caller"]
        use = partial(receive, reports=reports, reporter=Reporter(caller.name, now, caller.may_use))
        try:
            async with asyncio.timeout_at(state["deadline"]), self._one_at_a_time:
                received = await available.readers.read(use, deadline=state["deadline"])
                answer = Stored(_FIELDS, orjson.dumps(outcomes_answer(reports, received)))
                replies = [] if key is None else [key.reply(answer)]
                if received.outcomes or replies:
                    await available.keep(Write(outcomes=received.outcomes, replies=replies), state["deadline"])
        except TimeoutError:
            raise DeadlineExceeded("the outcomes were not kept in time; send them again, or fewer at a time") from None
        return Response(answer.body, headers=answer.fields())

    async def _parsed(self, body: bytes, now: int) -> list[Report]:
        def parse() -> list[Report]:
            return parse_reports(parse_json(body), now=now)

        if len(body) <= LARGE:
            return parse()
        return await asyncio.get_running_loop().run_in_executor(self._parser, parse)


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

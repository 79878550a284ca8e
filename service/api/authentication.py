"""Who may: every request but those about health is from a known caller, and its route needs a scope and a model of it.

A request is checked before its body is read, and before the router says that a path or a method does not exist. What
no rule names needs a credential. The rules are written with the paths of the routes, so what fits a route here fits it
in the router too.
"""

from collections.abc import Awaitable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from service.access.authenticator import Authenticator
from service.access.caller import ANONYMOUS, Caller
from service.access.quotas import Quotas
from service.api import problems
from service.api.addresses import PLACES, VERSION_PLACES
from service.api.failed_logins import FailedLogins
from service.api.proxies import is_proxied
from service.api.v1.verbs import VERBS
from service.errors import Forbidden, ServiceError, TokenExpired, Unauthenticated

MOST_PATHS: Final = 1024
CHALLENGE: Final = 'Bearer realm="temperance"'


@dataclass(frozen=True, slots=True)
class CallerChecks:
    """What a request is checked by before it is answered.

    Attributes
    ----------
    authenticator : Authenticator
    quotas : Quotas
    certificate_header : str or None
        In which a proxy names the subject of the client's certificate.
    metrics_open, docs_open : bool
        Whether these need no credential.
    origins : tuple of str
        Pages of these origins may read answers in a browser.
    """

    authenticator: Authenticator
    quotas: Quotas
    certificate_header: str | None = None
    metrics_open: bool = False
    docs_open: bool = False
    origins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Need:
    """What a request of some path needs.

    Attributes
    ----------
    is_open : bool
        Nothing at all.
    scope : str or None
    model : str or None
        Name of the model that the credential must be for.
    is_of_all_models : bool
        Whether the answer is about every model, so that the credential must be for all of them.
    route : Route or None
        By whose path metrics and logs know a request that is refused; None for a path that no rule names.
    """

    is_open: bool = False
    scope: str | None = None
    model: str | None = None
    is_of_all_models: bool = False
    route: Route | None = None


class Needs:
    """What requests need, by their path.

    Parameters
    ----------
    metrics_open, docs_open : bool
    """

    def __init__(self, *, metrics_open: bool, docs_open: bool) -> None:
        rules = _rules(metrics_open=metrics_open, docs_open=docs_open)
        self._rules = [(Route(path, _nothing), need) for path, need in rules]
        self.of = lru_cache(maxsize=MOST_PATHS)(self._find)

    def _find(self, path: str, root_path: str) -> Need:
        if "\n" in path:  # no route has it, though a pattern that ends in $ fits before a last line feed too
            return Need()
        scope = {"type": "http", "method": "GET", "path": path, "root_path": root_path}
        for route, need in self._rules:
            match, child = route.matches(scope)
            if match is not Match.NONE:
                return replace(need, model=child["path_params"].get("name"), route=route)
        return Need()


class Authentication:
    """ASGI middleware: names the caller of a request in its state, or refuses it.

    Parameters
    ----------
    app : ASGI application
    checks : CallerChecks
    failed : FailedLogins or None
        Records requests whose credential is not accepted.
    """

    def __init__(self, app: ASGIApp, checks: CallerChecks, failed: FailedLogins | None = None) -> None:
        self._app, self._failed = app, failed
        self._authenticator, self._quotas = checks.authenticator, checks.quotas
        self._needs = Needs(metrics_open=checks.metrics_open, docs_open=checks.docs_open)
        self._is_free = not checks.quotas.limits_requests(ANONYMOUS)
        self._subject = (checks.certificate_header or "").lower().encode()

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer one request."""
        if scope["type"] == "lifespan":
            return self._app(scope, receive, send)
        if scope["type"] != "http":
            return _close(send)
        need = self._needs.of(scope["path"], scope.get("root_path", ""))
        if need.is_open or (self._is_free and self._authenticator.is_open()):
            scope["state"]["caller"] = ANONYMOUS
            return self._app(scope, receive, send)
        return self._checked(need, scope, receive, send)

    async def _checked(self, need: Need, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            caller = scope["state"]["caller"] = await self._authenticator.caller(*self._credentials(scope))
            self._quotas.charge_request(caller)
            check(caller, need)
        except ServiceError as error:
            if self._failed is not None and isinstance(error, Unauthenticated):
                self._failed.add(scope["state"]["request_id"], error.code)
            await _refuse(error, need, scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _credentials(self, scope: Scope) -> tuple[bytes | None, bytes | None]:
        found = _fields(scope, b"authorization")
        subjects = _fields(scope, self._subject) if self._subject and is_proxied(scope) else ()
        if (len(found) > 1 or len(subjects) > 1) and not self._authenticator.is_open():
            raise Unauthenticated("send one credential, once")
        return found[0] if found else None, subjects[0] if subjects else None


def check(caller: Caller, need: Need) -> None:
    """Whether a caller has what is needed.

    Parameters
    ----------
    caller : Caller
    need : Need

    Raises
    ------
    Forbidden
    """
    if need.scope is not None and need.scope not in caller.scopes:
        raise Forbidden(f"this needs the scope {need.scope}, which the credential does not have")
    if need.model is not None and not caller.may_use(need.model):
        raise Forbidden("the credential is not for that model; GET /v1/models lists those that it is for")
    if need.is_of_all_models and caller.models is not None:
        raise Forbidden("this describes every model, and the credential is for some of them")


def _fields(scope: Scope, name: bytes) -> list[bytes]:
    return [value for key, value in scope["headers"] if key == name]


async def _refuse(error: ServiceError, need: Need, scope: Scope, receive: Receive, send: Send) -> None:
    if need.route is not None:
        scope["route"] = need.route
    scope["state"]["code"] = error.code
    shows_one = bool(_fields(scope, b"authorization"))
    headers = _challenge(error, need, scope["state"].get("caller"), shows_one=shows_one)
    answer = problems.refusal(scope["path"], error, request_id=scope["state"]["request_id"], headers=headers)
    await answer(scope, receive, send)


def _challenge(error: ServiceError, need: Need, caller: Caller | None, *, shows_one: bool) -> dict[str, str]:
    # RFC 6750, section 3.1
    if isinstance(error, TokenExpired):
        return {"WWW-Authenticate": f'{CHALLENGE}, error="invalid_token", error_description="expired"'}
    if isinstance(error, Unauthenticated):
        return {"WWW-Authenticate": f'{CHALLENGE}, error="invalid_token"' if shows_one else CHALLENGE}
    if isinstance(error, Forbidden) and caller is not None and need.scope not in caller.scopes | {None}:
        return {"WWW-Authenticate": f'{CHALLENGE}, error="insufficient_scope", scope="{need.scope}"'}
    return {}


async def _close(send: Send) -> None:
    await send({"type": "websocket.close", "code": 1008, "reason": ""})


async def _nothing(request: Request) -> Response:
    del request
    return Response()


def _rules(*, metrics_open: bool, docs_open: bool) -> Iterator[tuple[str, Need]]:
    """Paths of routes and what they need; the first that fits counts."""
    yield from ((path, Need(is_open=True)) for path in HEALTH)
    yield "/metrics", Need(is_open=metrics_open, scope="metrics", is_of_all_models=True)
    yield from ((path, Need(is_open=docs_open, is_of_all_models=True)) for path in DOCUMENTS)
    yield from _of_v1()
    yield from _of_v2()


def _of_v1() -> Iterator[tuple[str, Need]]:
    for verb in VERBS.values():
        yield from _of_a_model("/v1", PLACES, f":{verb.name}", Need(scope=verb.scope))
    yield from _of_a_model("/v1", PLACES, "", Need())
    yield "/v1/models/{name}/performance", Need(scope="evaluate")
    yield "/v1/outcomes", Need(scope="outcomes")
    yield "/v1/predictions/{prediction_id}", Need(scope="audit")


def _of_v2() -> Iterator[tuple[str, Need]]:
    yield "/v2/models/stats", Need()
    yield from _of_a_model("/v2", VERSION_PLACES, "/infer", Need(scope="predict"))
    for end in ("", "/ready", "/stats"):
        yield from _of_a_model("/v2", VERSION_PLACES, end, Need())
    yield "/v2/repository/models/{name}/{change}", Need(scope="admin")
    yield "/v2/repository/{rest:path}", Need(scope="admin")


def _of_a_model(version: str, places: Iterable[str], end: str, need: Need) -> Iterator[tuple[str, Need]]:
    return ((f"{version}/models/{{name}}{place}{end}", need) for place in places)


HEALTH: Final = ("/livez", "/readyz", "/v2/health/live", "/v2/health/ready")
"""Always open; whether a single model is ready is not, for that would name the models."""
DOCUMENTS: Final = ("/docs", "/docs/{rest:path}", "/openapi.json")

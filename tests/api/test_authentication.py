"""Who may: the inventory of all routes, scopes, models of a key, quotas, and what a refusal gives away."""

import json
import re
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import httpx
import numpy as np
import pytest
from starlette.types import Message

from service.access.caller import ANONYMOUS, SCOPES
from service.access.caller import Scope as KeyScope
from service.access.key_file import KeyFile
from service.access.keys import KeyOptions, new_key
from service.api.authentication import Needs
from service.api.v1.verbs import VERBS
from service.main import compose
from service.runtime.registry import Registry
from service.settings import Settings
from tests.app_routes import routes_of
from tests.shipped_model import SHIPPED

NAME = "breast-cancer"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
ANY, OPEN = "any credential", "open"
NEEDED = {
    "/livez": OPEN,
    "/readyz": OPEN,
    "/metrics": "metrics",
    "/docs": ANY,
    "/docs/swagger-ui-bundle.js": ANY,
    "/docs/swagger-ui.css": ANY,
    "/docs/favicon.png": ANY,
    "/openapi.json": ANY,
    "/v1/models": ANY,
    "/v1/models/{name}": ANY,
    "/v1/models/{name}:predict": "predict",
    "/v1/models/{name}:detect": "predict",
    "/v1/models/{name}:decide": "predict",
    "/v1/models/{name}:evaluate": "evaluate",
    "/v1/models/{name}:estimate": "evaluate",
    "/v1/models/{name}/performance": "evaluate",
    "/v1/models/{rest:path}": ANY,
    "/v1/outcomes": "outcomes",
    "/v1/predictions/{prediction_id}": "audit",
    "/v2": ANY,
    "/v2/health/live": OPEN,
    "/v2/health/ready": OPEN,
    "/v2/models/stats": ANY,
    "/v2/models/{name}": ANY,
    "/v2/models/{name}/ready": ANY,
    "/v2/models/{name}/stats": ANY,
    "/v2/models/{name}/infer": "predict",
    "/v2/repository/index": "admin",
    "/v2/repository/models/{name}/load": "admin",
    "/v2/repository/models/{name}/unload": "admin",
}
"""Route, without the place of a version or an alias -> what it needs."""
PLACE = re.compile(r"/(versions/\{version\}|labels/\{alias\})")
VALUES = {
    "{prediction_id}": "none",
    "{name}": NAME,
    "{version}": "1",
    "{alias}": "stable",
    "{rest:path}": f"{NAME}/more",
}

Door = Callable[..., httpx.AsyncClient]
MakeKey = Callable[..., dict[str, str]]


@pytest.fixture
def key_file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "keys.json")


@pytest.fixture
def make_key(key_file: KeyFile) -> MakeKey:
    """Makes a key and gives the header that shows it: ``make_key("predict", models=("a",))``."""

    def make(*scopes: KeyScope, name: str = "ehr", **options: Any) -> dict[str, str]:
        stored, text = new_key(name, KeyOptions(scopes, **options), now=datetime.now(UTC))
        key_file.add(stored)
        return {"Authorization": f"Bearer {text}"}

    return make


@pytest.fixture
def door(key_file: KeyFile, shipped: Registry) -> Door:
    """A client of an application that needs one of the keys."""

    def make(registry: Registry | None = None, **settings: Any) -> httpx.AsyncClient:
        if key_file.revision() is None:
            stored, _ = new_key("unused", KeyOptions(("audit",)), now=datetime.now(UTC))
            key_file.add(stored)
        served = registry or Registry({NAME: shipped.served(NAME)})  # of its own, for requests change it
        app = compose(Settings(keys=key_file.path, **{"repository_api": True, "audit": "off", **settings}), served)
        return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://temperance")

    return make


def all_routes(registry: Registry) -> list[str]:
    return sorted({route.path for route in routes_of(compose(Settings(repository_api=True, audit="off"), registry))})


def example(route: str) -> str:
    for name, value in VALUES.items():
        route = route.replace(name, value)
    return route


def need_of(route: str) -> str:
    return NEEDED[PLACE.sub("", route)]


async def status(app: Any, path: str, *headers: tuple[bytes, bytes], method: str = "GET") -> int:
    """Status of the answer to a request whose path is sent as it is, and whose body is not there to be read."""
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("read")

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": headers, "query_string": b""}
    await app(scope, receive, send)
    found: int = sent[0]["status"]
    return found


def is_error(answer: httpx.Response, status: int) -> bool:
    """Whether an answer is an error in the form of its protocol."""
    if answer.status_code != status:
        return False
    if answer.request.method == "HEAD":
        return True
    if answer.request.url.path.startswith("/v2"):
        return list(answer.json()) == ["error"]
    is_problem = answer.headers["content-type"] == "application/problem+json"
    return is_problem and answer.json()["status"] == status


def test_every_route_has_its_need_in_this_inventory(shipped: Registry) -> None:
    assert {PLACE.sub("", route) for route in all_routes(shipped)} == NEEDED.keys()
    assert {need for need in NEEDED.values() if need not in {ANY, OPEN}} <= set(SCOPES) == set(get_args(KeyScope))


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer tmp_unknown"}, {"Authorization": "Basic YTpi"}])
async def test_every_route_but_health_refuses_without_a_valid_credential(
    header: dict[str, str], door: Door, shipped: Registry
) -> None:
    async with door() as client:
        for route in all_routes(shipped):
            for method in METHODS:
                answer = await client.request(method, example(route), headers=header)
                if need_of(route) == OPEN:
                    assert answer.status_code not in {401, 403}, (method, route)
                else:
                    assert is_error(answer, 401), (method, route)
                    assert answer.headers["www-authenticate"].startswith('Bearer realm="temperance"')


async def test_every_route_refuses_a_credential_without_its_scope_and_takes_one_with_it(
    door: Door, make_key: MakeKey, shipped: Registry
) -> None:
    lacking = {scope: make_key(*(other for other in get_args(KeyScope) if other != scope)) for scope in SCOPES}
    having = {scope: make_key(scope) for scope in get_args(KeyScope)}
    async with door() as client:
        for route in all_routes(shipped):
            need = need_of(route)
            if need not in SCOPES:
                assert (await client.get(example(route), headers=having["outcomes"])).status_code not in {401, 403}
                continue
            for method in METHODS:
                answer = await client.request(method, example(route), headers=lacking[need])
                assert is_error(answer, 403), (method, route)
                assert f'error="insufficient_scope", scope="{need}"' in answer.headers["www-authenticate"]
                answer = await client.request(method, example(route), headers=having[need])
                assert answer.status_code not in {401, 403}, (method, route)


def test_the_scope_of_a_verb_is_one_that_there_is() -> None:
    assert {verb.scope for verb in VERBS.values()} <= set(SCOPES)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/livez/",
        "//livez",
        "/livez/..",
        "/LIVEZ",
        "/livez\x00",
        "/livez\n",
        "/v2/health",
        "/v2/health/live/",
        "/v2/health/live/x",
        "/x/livez",
        "/docs/../livez",
        "/metrics/",
        "/nothing",
        "/v3/models",
        f"/v1/models/{NAME}:unknown",
        f"/v1/models/{NAME}/versions/1/more",
    ],
)
async def test_what_no_rule_names_needs_a_credential(
    path: str, key_file: KeyFile, make_key: MakeKey, shipped: Registry
) -> None:
    key = make_key("outcomes")["Authorization"].encode()
    app = compose(Settings(keys=key_file.path, audit="off"), shipped)
    assert await status(app, path) == 401
    assert await status(app, path, (b"authorization", key)) in {404, 405}


@pytest.mark.parametrize(
    ("method", "path", "headers", "body"),
    [
        ("GET", "/v1/models/unknown", {}, b""),
        ("DELETE", f"/v1/models/{NAME}", {}, b""),
        ("POST", f"/v1/models/{NAME}:decide", {"Content-Type": "text/csv"}, b"1,2"),
        ("POST", f"/v1/models/{NAME}:decide", {"Content-Type": "application/json"}, b"{"),
        ("POST", f"/v1/models/{NAME}:decide", {"Content-Type": "application/json"}, b'{"instances": []}'),
        ("POST", f"/v1/models/{NAME}:decide", {"Content-Length": str(1 << 40)}, b""),
        ("POST", f"/v1/models/{NAME}:unknown", {}, b"{}"),
    ],
)
async def test_a_missing_credential_comes_before_every_other_fault(
    method: str, path: str, headers: dict[str, str], body: bytes, door: Door
) -> None:
    async with door() as client:
        assert is_error(await client.request(method, path, headers=headers, content=body), 401)


@pytest.mark.parametrize("scope", ["none", "metrics"])
async def test_a_refused_request_is_never_read(
    scope: str, key_file: KeyFile, make_key: MakeKey, shipped: Registry
) -> None:
    shown = [] if scope == "none" else [(b"authorization", make_key("metrics")["Authorization"].encode())]
    make_key("audit")
    app = compose(Settings(keys=key_file.path, audit="off"), shipped)
    found = await status(app, f"/v1/models/{NAME}:decide", *shown, method="POST")
    assert found == (401 if scope == "none" else 403)


async def test_a_websocket_is_closed_with_a_credential_too(
    key_file: KeyFile, make_key: MakeKey, shipped: Registry
) -> None:
    header = make_key("predict")["Authorization"].encode()
    app, sent = compose(Settings(keys=key_file.path, audit="off"), shipped), list[Message]()

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await app({"type": "websocket", "path": "/v1/models", "headers": [(b"authorization", header)]}, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


async def test_callers_read_nothing_of_models_that_are_not_theirs(
    door: Door, make_key: MakeKey, shipped: Registry
) -> None:
    rng = np.random.default_rng(0)
    served = shipped.served(NAME)
    names = [f"model-{i}" for i in range(12)]
    registry = Registry(dict.fromkeys(names[:10], served))  # of two, there is only the name
    own = {f"c{i}": tuple(str(n) for n in rng.choice(names, rng.integers(1, 6), replace=False)) for i in range(90)}
    keys = {name: make_key("predict", "evaluate", "admin", name=name, models=models) for name, models in own.items()}
    shapes = (
        ("GET", "/v1/models/{}"),
        ("GET", "/v1/models/{}/versions/1"),
        ("GET", "/v1/models/{}/labels/stable"),
        ("POST", "/v1/models/{}:decide"),
        ("POST", "/v1/models/{}/versions/1:evaluate"),
        ("GET", "/v2/models/{}"),
        ("GET", "/v2/models/{}/ready"),
        ("GET", "/v2/models/{}/stats"),
        ("POST", "/v2/models/{}/infer"),
        ("POST", "/v2/repository/models/{}/load"),
    )
    pairs = 0
    async with door(registry) as client:
        for caller, models in own.items():
            assert (await client.get("/v1/models", headers=keys[caller])).json()["models"] == sorted(
                set(models) & set(registry.names())
            )
            for name in names:
                method, shape = shapes[rng.integers(len(shapes))]
                answer = await client.request(method, shape.format(name), headers=keys[caller])
                others = set(names) - set(models)
                assert (answer.status_code == 403) == (name in others), (shape, answer.text)
                assert not re.search("|".join(rf"{other}\b" for other in others), answer.text)
                pairs += 1
    assert pairs >= 1_000


async def test_a_refusal_of_a_model_names_no_scope(door: Door, make_key: MakeKey) -> None:
    header = make_key("predict", models=("other",))
    async with door() as client:
        answer = await client.post(f"/v1/models/{NAME}:decide", headers=header, json={})
    assert is_error(answer, 403)
    assert "www-authenticate" not in answer.headers


async def test_what_describes_every_model_is_for_credentials_of_every_model(door: Door, make_key: MakeKey) -> None:
    some = make_key("predict", "metrics", "admin", models=(NAME,))
    every = make_key("predict", "metrics", "admin")
    async with door() as client:
        for path in ("/metrics", "/docs", "/docs/swagger-ui.css", "/openapi.json"):
            assert is_error(await client.get(path, headers=some), 403)
            assert (await client.get(path, headers=every)).status_code == 200


async def test_lists_show_a_caller_its_own_models(door: Door, make_key: MakeKey, every_task: Registry) -> None:
    first, *others = every_task.names()
    own, every = make_key("admin", models=(first, "none")), make_key("admin")
    async with door(every_task) as client:
        for header, names in ((own, {first}), (every, {first, *others})):
            stats = (await client.get("/v2/models/stats", headers=header)).json()["model_stats"]
            assert {entry["name"] for entry in stats} == names
            assert set((await client.get("/v1/models", headers=header)).json()["models"]) == names
    async with door(every_task, models=SHIPPED) as client:
        index = (await client.post("/v2/repository/index", headers=own)).json()
        assert {entry["name"] for entry in index} <= {first}
        assert {entry["name"] for entry in (await client.post("/v2/repository/index", headers=every)).json()} > {first}


@pytest.mark.parametrize(("setting", "path"), [("metrics_open", "/metrics"), ("docs_open", "/openapi.json")])
async def test_a_setting_opens_metrics_or_documents(setting: str, path: str, door: Door) -> None:
    async with door(**{setting: True}) as client:
        assert (await client.get(path)).status_code == 200
        assert (await client.get("/v1/models")).status_code == 401


async def test_without_credentials_configured_everyone_may_do_everything(
    tmp_path: Path, client_of: Door, shipped: Registry
) -> None:
    async with client_of(shipped, data=tmp_path) as client:
        for path in ("/v1/models", "/metrics", "/docs", "/openapi.json", "/v2/models/stats"):
            assert (await client.get(path)).status_code == 200
            assert (await client.get(path, headers={"Authorization": "Bearer other"})).status_code == 200


@pytest.mark.parametrize(
    ("headers", "challenge"),
    [
        ([], 'Bearer realm="temperance"'),
        ([("Authorization", "Bearer tmp_x")], 'Bearer realm="temperance", error="invalid_token"'),
        ([("Authorization", "")], 'Bearer realm="temperance", error="invalid_token"'),
        ([("Authorization", "KEY"), ("Authorization", "KEY")], 'Bearer realm="temperance", error="invalid_token"'),
    ],
)
async def test_a_refusal_names_the_scheme(
    headers: list[tuple[str, str]], challenge: str, door: Door, make_key: MakeKey
) -> None:
    key = make_key("predict")["Authorization"]
    async with door() as client:
        shown = [(name, value.replace("KEY", key)) for name, value in headers]
        answer = await client.get("/v1/models", headers=shown)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, challenge)
    assert key.removeprefix("Bearer ") not in answer.text


async def test_a_refusal_is_counted_under_the_path_of_its_route(door: Door, make_key: MakeKey) -> None:
    header = make_key("metrics")
    async with door() as client:
        for path in (f"/v1/models/{NAME}:decide", "/v1/models/zq7canary", "/zq7canary", "/metrics"):
            assert (await client.get(path)).status_code == 401
        exposed = (await client.get("/metrics", headers=header)).text
    for route in ("/v1/models/{name}:decide", "/v1/models/{name}", "(other)", "/metrics"):
        assert f'temperance_requests_total{{method="GET",route="{route}",status="401"}} 1.0' in exposed
    assert "zq7canary" not in exposed


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_scheme_has_any_case(scheme: str, door: Door, make_key: MakeKey) -> None:
    key = make_key("predict")["Authorization"].removeprefix("Bearer ")
    async with door() as client:
        assert (await client.get("/v1/models", headers={"Authorization": f"{scheme} {key}"})).status_code == 200


async def test_a_subject_counts_only_from_a_proxy(tmp_path: Path, shipped: Registry) -> None:
    settings = Settings(
        audit="off", data=tmp_path, client_certificate_header="X-Client-Subject", proxies=("127.0.0.1",)
    )
    app = compose(settings, shipped)
    header = {"X-Client-Subject": "CN=ehr"}
    statuses = []
    for peer in ("127.0.0.1", "203.0.113.9"):
        transport = httpx.ASGITransport(app, client=(peer, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://temperance") as client:
            statuses.append((await client.get("/v1/models", headers=header)).status_code)
            statuses.append((await client.get("/v1/models", headers=[*header.items(), *header.items()])).status_code)
    assert statuses == [200, 401, 401, 401]


async def test_a_quota_of_requests_is_429_and_says_when_to_come_back(door: Door, make_key: MakeKey) -> None:
    header = make_key("predict", requests_per_minute=3)
    async with door() as client:
        statuses = [(await client.get("/v1/models", headers=header)).status_code for _ in range(5)]
        refused = await client.get("/v1/models", headers=header)
        assert statuses == [200, 200, 200, 429, 429]
        assert is_error(refused, 429)
        assert 1 <= int(refused.headers["retry-after"]) <= 120
        assert refused.headers["ratelimit-policy"] == '"requests";q=3;w=60'
        assert refused.headers["ratelimit"].startswith('"requests";r=0;t=')
        assert is_error(await client.get("/v2", headers=header), 429)
        assert (await client.get("/livez", headers=header)).status_code == 200


@pytest.mark.parametrize("verb", [*VERBS, "infer"])
async def test_a_quota_of_rows_counts_the_rows_of_every_verb(
    verb: str, door: Door, make_key: MakeKey, test_rows: list[list[float]], test_labels: list[str]
) -> None:
    header = make_key("predict", "evaluate", rows_per_minute=80)
    labels = {"labels": test_labels[:50]} if verb == "evaluate" else {}
    body: dict[str, Any] = {"instances": test_rows[:50], **labels}
    path = f"/v1/models/{NAME}:{verb}"
    if verb == "infer":
        data = [value for row in test_rows[:50] for value in row]
        body = {"inputs": [{"name": "X", "shape": [50, len(test_rows[0])], "datatype": "FP32", "data": data}]}
        path = f"/v2/models/{NAME}/infer"
    async with door() as client:
        answers = [await client.post(path, headers=header, json=body) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 429], answers[0].text
        assert answers[1].headers["ratelimit-policy"] == '"rows";q=80;w=60'
        few = {"instances": test_rows[:30]}
        assert (await client.post(f"/v1/models/{NAME}:predict", headers=header, json=few)).status_code == 200


async def test_a_request_whose_rows_are_wrong_costs_no_rows(
    door: Door, make_key: MakeKey, test_rows: list[list[float]]
) -> None:
    header = make_key("predict", rows_per_minute=2)
    async with door() as client:
        for _ in range(5):
            wrong = await client.post(f"/v1/models/{NAME}:decide", headers=header, json={"instances": [[1], [2]]})
            assert wrong.status_code == 422
        right = await client.post(f"/v1/models/{NAME}:decide", headers=header, json={"instances": test_rows[:2]})
        assert right.status_code == 200


def test_workers_of_a_real_server_count_one_quota(
    key_file: KeyFile, make_key: MakeKey, serving: Callable[..., AbstractContextManager[Any]]
) -> None:
    header = make_key("predict", requests_per_minute=200)
    with serving(SHIPPED, TEMPERANCE_KEYS=str(key_file.path), TEMPERANCE_WORKERS="2") as running:
        address, statuses = str(running.client.base_url), Counter[int]()
        for count in (150, 40, 80, 10, 120):  # connections live as long as so many requests, on one worker or another
            with httpx.Client(base_url=address, headers=header) as client:
                statuses.update(client.get("/v1/models").status_code for _ in range(count))
        assert set(statuses) == {200, 429}
        assert 0.95 * 200 <= statuses[200] <= 1.05 * 200


async def test_a_setting_limits_callers_without_a_quota_of_their_own(door: Door, make_key: MakeKey) -> None:
    own, other = make_key("predict", requests_per_minute=5), make_key("predict", name="lab")
    async with door(quota_requests=2) as client:
        found = {
            name: [(await client.get("/v1/models", headers=key)).status_code for _ in range(6)]
            for name, key in (("own", own), ("other", other))
        }
    assert found == {"own": [200] * 5 + [429], "other": [200] * 2 + [429] * 4}


async def test_a_token_of_an_issuer_is_a_caller(issuer: Any, tmp_path: Path, shipped: Registry) -> None:
    entry = {"issuer": issuer.address, "audience": "temperance", "jwks_url": f"{issuer.address}/jwks"}
    app = compose(Settings(data=tmp_path, jwt_issuers=(entry,), audit="off"), shipped)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://temperance") as client:

        async def status(path: str, token: bytes) -> int:
            return (await client.get(path, headers={"Authorization": f"Bearer {token.decode()}"})).status_code

        assert await status("/v1/models", issuer.token()) == 200
        assert await status("/metrics", issuer.token()) == 403
        assert await status("/metrics", issuer.token(scope=["metrics"])) == 200
        assert await status("/v1/models", issuer.token("other", header={"kid": "rsa"})) == 401
        expired = {"Authorization": f"Bearer {issuer.token(exp=1).decode()}"}
        refused = await client.get("/v1/models", headers=expired)
    assert refused.json()["type"] == "urn:temperance:problem:token-expired"
    assert 'error="invalid_token", error_description="expired"' in refused.headers["www-authenticate"]


def test_tokens_are_callers_of_a_real_server(
    issuer: Any, tmp_path: Path, serving: Callable[..., AbstractContextManager[Any]]
) -> None:
    entry = {"issuer": issuer.address, "audience": "temperance", "jwks_url": f"{issuer.address}/jwks"}
    with serving(SHIPPED, TEMPERANCE_DATA=str(tmp_path), TEMPERANCE_JWT_ISSUERS=json.dumps([entry])) as running:
        token = issuer.token().decode()
        answers = [running.client.get("/v1/models", headers={"Authorization": f"Bearer {token}"}) for _ in range(20)]
        assert {answer.status_code for answer in answers} == {200}
        assert answers[0].headers["x-content-type-options"] == "nosniff"
        assert running.client.get("/v1/models").status_code == 401
        forged = issuer.token("other", header={"kid": "rsa"}).decode()
        assert running.client.get("/v1/models", headers={"Authorization": f"Bearer {forged}"}).status_code == 401
        log = running.log.read_text()
    assert issuer.paths == ["/jwks"]
    assert "a token was refused: InvalidSignatureError" in log
    assert not [part for part in (token, forged, *token.split("."), *forged.split(".")) if part in log]


async def test_a_token_that_cannot_be_checked_is_503(issuer: Any, tmp_path: Path, shipped: Registry) -> None:
    issuer.status = 500
    entry = {"issuer": issuer.address, "audience": "temperance", "jwks_url": f"{issuer.address}/jwks"}
    app = compose(Settings(data=tmp_path, jwt_issuers=(entry,), audit="off"), shipped)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://temperance") as client:
        answer = await client.get("/v1/models", headers={"Authorization": f"Bearer {issuer.token().decode()}"})
    assert is_error(answer, 503)
    assert int(answer.headers["retry-after"]) >= 1


def test_what_is_remembered_of_paths_is_bounded() -> None:
    needs = Needs(metrics_open=False, docs_open=False)
    for i in range(5_000):
        needs.of(f"/v1/models/{i}", "")
    assert needs.of.cache_info().currsize == 1024


def test_a_path_below_a_root_path_needs_what_it_needs_without_it() -> None:
    needs = Needs(metrics_open=False, docs_open=False)
    assert needs.of("/svc/livez", "/svc").is_open
    assert not needs.of("/svc/livez", "").is_open
    assert needs.of(f"/svc/v1/models/{NAME}:decide", "/svc").scope == "predict"


def test_everyone_is_anonymous_where_the_service_is_open() -> None:
    assert ANONYMOUS.may_use("any")

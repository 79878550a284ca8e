"""What a real server answers to what it should not have been sent."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson
import pytest

from service.api.problems import STATUS, pointer, problem, status_of
from service.errors import MOST_FAULTS, Fault, InvalidInstances, ModelNotFound, ServiceError

JSON = {"content-type": "application/json"}
DECIDE = "/v1/models/breast-cancer:decide"
EVALUATE = "/v1/models/breast-cancer:evaluate"
CANARY, NUMBER = "zq7canary", "73.918273645"  # sent as keys, strings and values; never seen again
LARGEST_PROBLEM = 16 << 10
OVER_LIMIT = 17 << 20  # the most that any setting leaves by default is 16 MiB
PLAIN = '{"instances": [$ROW]}'


@dataclass(frozen=True)
class Bad:
    """A request that must be refused, and how."""

    body: str | bytes
    status: int
    code: str
    pointer: str | None = None
    path: str = DECIDE
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)
    chunked: bool = False
    says: str = ""


def cell(value: str, status: int, code: str, pointer: str | None = "/instances/0/0", **more: Any) -> Bad:
    """A value that no measurement can have, at the front of a row."""
    return Bad(f'{{"instances": [[{value}, $REST]]}}', status, code, pointer, **more)


def options(parameters: str, pointer: str, code: str = "invalid-parameters", status: int = 422, **more: Any) -> Bad:
    """Parameters beside a good row."""
    return Bad(f'{{"instances": [$ROW], "parameters": {{{parameters}}}}}', status, code, pointer, **more)


def costs(first: str, second: str = '{"benign": 1, "malignant": 1}') -> str:
    """Costs of two actions, the first of them in doubt."""
    return f'"costs": {{"{CANARY}": {first}, "b": {second}}}'


def by_row(costs: str) -> str:
    """The same costs, of the one row alone."""
    return costs.replace('"costs": ', '"costs": [') + "]"


BYTES = {
    "an empty body": Bad("", 400, "invalid-json"),
    "a truncated body": Bad(f'{{"instances": [[{NUMBER}, ', 400, "invalid-json"),
    "something after the document": Bad(f"{PLAIN} {CANARY}", 400, "invalid-json"),
    "a second document": Bad(f"{PLAIN}{{}}", 400, "invalid-json"),
    "NaN": cell("NaN", 400, "non-finite-number", None),
    "Infinity": cell("Infinity", 400, "non-finite-number", None),
    "-Infinity": cell("-Infinity", 400, "non-finite-number", None),
    "a number beyond a double": cell("1e400", 400, "number-out-of-range"),
    "a number below a double": cell("-1e400", 400, "number-out-of-range"),
    "a number of 5000 digits": cell("7" * 5000, 400, "number-out-of-range", None),
    "a key that appears twice": Bad('{"instances": [$ROW], "instances": [$ROW]}', 400, "duplicate-key"),
    "a feature that appears twice": Bad(
        '{"instances": [{"mean radius": 1, "mean radius": 2, $MEMBERS}]}', 400, "duplicate-key"
    ),
    "a byte order mark": Bad(b"\xef\xbb\xbf" + PLAIN.encode(), 400, "invalid-json"),
    "UTF-16": Bad(PLAIN.replace("$ROW", "[1]").encode("utf-16"), 400, "invalid-json"),
    "bytes that are not UTF-8": Bad(b'{"instances": [["\xff"]]}', 400, "invalid-json"),
    "a lone surrogate": Bad('{"instances": [$ROW], "\\ud800": 1}', 400, "invalid-json"),
    "nesting without end": Bad("[" * 100_000, 400, "too-deep"),
    "a single-quoted string": Bad(f"{{'{CANARY}': 1}}", 400, "invalid-json"),
    "a comment": Bad(f"{PLAIN} // {CANARY}", 400, "invalid-json"),
}
ENVELOPE = {
    "a list in place of an object": Bad(f'["{CANARY}"]', 422, "invalid-request", ""),
    "a string in place of an object": Bad(f'"{CANARY}"', 422, "invalid-request", ""),
    "no instances": Bad("{}", 422, "invalid-request", "/instances"),
    "empty instances": Bad('{"instances": []}', 422, "invalid-request", "/instances"),
    "instances that are no list": Bad(f'{{"instances": "{CANARY}"}}', 422, "invalid-request", "/instances"),
    "an unknown field": Bad(f'{{"instances": [$ROW], "{CANARY}": 1}}', 422, "invalid-request", "/?"),
    "parameters that are null": Bad('{"instances": [$ROW], "parameters": null}', 422, "invalid-request", "/parameters"),
    "too many rows": Bad(
        '{"instances": [' + "[]," * 10_000 + "[]]}", 422, "too-many-rows", says="at most 10000 instances"
    ),
}
ROWS = {
    "a row that is too short": Bad('{"instances": [$ROW, [$REST]]}', 422, "invalid-instances", "/instances/1"),
    "a row that is too long": Bad(
        f'{{"instances": [[{NUMBER}, {NUMBER}, $REST]]}}', 422, "invalid-instances", "/instances/0"
    ),
    "a ragged batch": Bad('{"instances": [$ROW, [], $ROW]}', 422, "invalid-instances", "/instances/1"),
    "a row that is a string": Bad(f'{{"instances": ["{CANARY}"]}}', 422, "invalid-instances", "/instances/0"),
    "a row that is null": Bad('{"instances": [null]}', 422, "invalid-instances", "/instances/0"),
    "a misspelt feature": Bad(
        f'{{"instances": [{{"mean radios": {NUMBER}, $MEMBERS}}]}}',
        422,
        "invalid-instances",
        "/instances/0/?",
        says="did you mean 'mean radius'?",
    ),
    "an unknown feature": Bad(
        f'{{"instances": [{{"mean radius": 1, "{CANARY}": 1, $MEMBERS}}]}}', 422, "invalid-instances", "/instances/0/?"
    ),
    "a missing feature": Bad(
        '{"instances": [{$MEMBERS}]}', 422, "invalid-instances", "/instances/0/mean radius", says="is missing"
    ),
    "a number that the graph cannot hold": cell("1e39", 422, "invalid-instances", says="float32"),
    "a number of 400 digits": cell("7" * 400, 400, "number-out-of-range"),
    "a boolean": cell("true", 422, "invalid-instances", says="a boolean"),
    "a number in quotes": cell(f'"{NUMBER}"', 422, "invalid-instances", says="a string"),
    "null": cell("null", 422, "invalid-instances", says="missing"),
    "a list in a cell": cell(f"[{NUMBER}]", 422, "invalid-instances", says="a list"),
    "an object in a cell": cell(f'{{"value": {NUMBER}}}', 422, "invalid-instances", says="an object"),
    "a number in quotes, by name": Bad(
        f'{{"instances": [{{"mean radius": "{CANARY}", $MEMBERS}}]}}',
        422,
        "invalid-instances",
        "/instances/0/mean radius",
    ),
}
PARAMETERS = {
    "an unknown parameter": options(f'"{CANARY}": 1', "/parameters/?"),
    "a misspelt parameter": options(f'"polcy": "{CANARY}"', "/parameters/?", says="did you mean 'policy'?"),
    "an unknown policy": options(f'"policy": "{CANARY}"', "/parameters/policy", says="biopsy"),
    "a policy and costs": options(
        '"policy": "biopsy", ' + costs('{"benign": 0, "malignant": 9}'), "/parameters/policy"
    ),
    "costs without a class": options(costs('{"benign": 0}'), "/parameters/costs/?/malignant"),
    "costs of an unknown class": options(
        costs(f'{{"benign": 0, "malignant": 1, "{CANARY}": 2}}'), "/parameters/costs/?/?"
    ),
    "costs of one action": options(f'"costs": {{"{CANARY}": {{"benign": 0, "malignant": 1}}}}', "/parameters/costs"),
    "a cost in quotes": options(costs(f'{{"benign": "{NUMBER}", "malignant": 1}}'), "/parameters/costs/?/benign"),
    "a cost beyond a double": options(
        costs('{"benign": 1e999, "malignant": 1}'), "/parameters/?/?/?", "number-out-of-range", 400
    ),
    "a cost that is NaN": Bad(
        '{"instances": [$ROW], "parameters": {' + costs('{"benign": NaN, "malignant": 1}') + "}}",
        400,
        "non-finite-number",
    ),
    "a site and a prevalence": options(
        '"site": "screening", "prevalence": {"benign": 0.5, "malignant": 0.5}', "/parameters/site"
    ),
    "an unknown site": options(f'"site": "{CANARY}"', "/parameters/site", says="screening"),
    "a prevalence that does not sum to 1": options(
        '"prevalence": {"benign": 0.5, "malignant": 0.5000021}', "/parameters/prevalence"
    ),
    "a negative prevalence": options(
        '"prevalence": {"benign": -0.5, "malignant": 1.5}', "/parameters/prevalence/benign"
    ),
    "a prevalence of zero": options('"prevalence": {"benign": 0, "malignant": 1}', "/parameters/prevalence/benign"),
    "a prevalence of an unknown class": options(
        f'"prevalence": {{"benign": 0.5, "malignant": 0.4, "{CANARY}": 0.1}}', "/parameters/prevalence/?"
    ),
    "a prevalence without a class": options('"prevalence": {"benign": 1}', "/parameters/prevalence/malignant"),
    "a prevalence that is a boolean": options(
        '"prevalence": {"benign": true, "malignant": 0.5}', "/parameters/prevalence/benign"
    ),
    "policies of another length": options('"policy": ["biopsy", "biopsy"]', "/parameters/policy"),
    "an unknown policy of one row": options(f'"policy": ["{CANARY}"]', "/parameters/policy/0", says="biopsy"),
    "a policy of one row that is a number": options(f'"policy": [{NUMBER}]', "/parameters/policy/0"),
    "no costs at all": options('"costs": []', "/parameters/costs"),
    "costs of one row without a class": options(by_row(costs('{"benign": 0}')), "/parameters/costs/0/?/malignant"),
    "a cost of one row in quotes": options(
        by_row(costs(f'{{"benign": "{NUMBER}", "malignant": 1}}')), "/parameters/costs/0/?/benign"
    ),
    "costs of one row that name one action": options(
        f'"costs": [{{"{CANARY}": {{"benign": 0, "malignant": 1}}}}]', "/parameters/costs/0"
    ),
    "policies and costs": options(
        '"policy": ["biopsy"], ' + by_row(costs('{"benign": 0, "malignant": 9}')), "/parameters/policy"
    ),
    "sites of another length": options('"site": []', "/parameters/site"),
    "an unknown site of one row": options(f'"site": ["{CANARY}"]', "/parameters/site/0", says="screening"),
    "sites and prevalences": options(
        '"site": ["screening"], "prevalence": [{"benign": 0.5, "malignant": 0.5}]', "/parameters/site"
    ),
    "a prevalence of one row that does not sum to 1": options(
        '"prevalence": [{"benign": 0.5, "malignant": 0.6}]', "/parameters/prevalence/0"
    ),
    "a prevalence of one row without a class": options(
        '"prevalence": [{"benign": 1}]', "/parameters/prevalence/0/malignant"
    ),
    "a session that is a number": options(f'"session": {NUMBER}', "/parameters/session"),
    "a session with an unknown key": options(f'"session": {{"{CANARY}": {NUMBER}}}', "/parameters/session/?"),
    "a session without its steps": options(
        '"session": {"model": "breast-cancer", "version": "1"}', "/parameters/session/statistic"
    ),
    "ids of another length": options(f'"ids": ["{CANARY}", "b"]', "/parameters/ids"),
    "ids that are numbers": options(f'"ids": [{NUMBER}]', "/parameters/ids/0"),
    "no classes wanted": options('"top_k": 0', "/parameters/top_k"),
    "a policy where nothing is decided": options(
        '"policy": "biopsy"', "/parameters/?", path="/v1/models/breast-cancer:detect"
    ),
}
LABELS = {
    "no labels": Bad(PLAIN, 422, "invalid-request", "/labels", EVALUATE),
    "too few labels": Bad('{"instances": [$ROW], "labels": []}', 422, "invalid-labels", "/labels", EVALUATE),
    "an unknown label": Bad(
        f'{{"instances": [$ROW], "labels": ["{CANARY}"]}}', 422, "invalid-labels", "/labels/0", EVALUATE
    ),
    "a label that is no index": Bad(
        '{"instances": [$ROW], "labels": [2]}', 422, "invalid-labels", "/labels/0", EVALUATE
    ),
    "a label that is a fraction": Bad(
        f'{{"instances": [$ROW], "labels": [{NUMBER}]}}', 422, "invalid-labels", "/labels/0", EVALUATE
    ),
    "a label that is a boolean": Bad(
        '{"instances": [$ROW], "labels": [true]}', 422, "invalid-labels", "/labels/0", EVALUATE
    ),
}
HTTP = {
    "a body that is called text": Bad(PLAIN, 415, "unsupported-media-type", headers={"content-type": f"text/{CANARY}"}),
    "JSON that is called UTF-16": Bad(
        PLAIN, 415, "unsupported-media-type", headers={"content-type": "application/json; charset=utf-16"}
    ),
    "a compressed body": Bad(PLAIN, 415, "unsupported-media-type", headers={"content-encoding": "gzip"}),
    "a body that is too large": Bad(b" " * OVER_LIMIT, 413, "body-too-large"),
    "a chunked body that is too large": Bad(b" " * OVER_LIMIT, 413, "body-too-large", chunked=True),
    "an unknown model": Bad(PLAIN, 404, "model-not-found", path=f"/v1/models/{CANARY}:decide", says="list of models"),
    "an unknown version": Bad(
        PLAIN, 404, "version-not-served", path="/v1/models/breast-cancer/versions/999:decide", says="stable = 1"
    ),
    "a malformed version": Bad(
        PLAIN, 404, "version-not-served", path=f"/v1/models/breast-cancer/versions/{CANARY}:decide"
    ),
    "version zero": Bad(PLAIN, 404, "version-not-served", path="/v1/models/breast-cancer/versions/0:decide"),
    "an unknown alias": Bad(PLAIN, 404, "version-not-served", path=f"/v1/models/breast-cancer/labels/{CANARY}:decide"),
    "an unknown verb": Bad(
        PLAIN,
        404,
        "unknown-verb",
        path=f"/v1/models/breast-cancer:{CANARY}",
        says="predict, detect, decide, evaluate",
    ),
    "a verb that is reserved": Bad(PLAIN, 404, "unknown-verb", path="/v1/models/breast-cancer:explain"),
    "no verb": Bad(PLAIN, 404, "unknown-verb", path="/v1/models/breast-cancer"),
    "an unknown path": Bad(PLAIN, 404, "not-found", path=f"/{CANARY}"),
    "GET on a verb": Bad("", 405, "method-not-allowed", path=DECIDE, method="GET", says="OPTIONS, POST"),
    "PUT on a verb": Bad(PLAIN, 405, "method-not-allowed", path=DECIDE, method="PUT", says="OPTIONS, POST"),
    "DELETE on a verb of a version": Bad(
        "",
        405,
        "method-not-allowed",
        path="/v1/models/breast-cancer/versions/1:decide",
        method="DELETE",
        says="OPTIONS, POST",
    ),
    "PUT on the models": Bad("", 405, "method-not-allowed", path="/v1/models", method="PUT", says="GET, HEAD, OPTIONS"),
    "DELETE of a model": Bad(
        "", 405, "method-not-allowed", path="/v1/models/breast-cancer", method="DELETE", says="GET, HEAD, OPTIONS"
    ),
    "metadata of an unknown model": Bad("", 404, "model-not-found", path=f"/v1/models/{CANARY}", method="GET"),
    "metadata of a malformed version": Bad(
        "", 404, "version-not-served", path="/v1/models/breast-cancer/versions/01", method="GET"
    ),
}
BAD = BYTES | ENVELOPE | ROWS | PARAMETERS | LABELS | HTTP


def send(client: httpx.Client, bad: Bad, content: bytes) -> httpx.Response:
    def chunks() -> Iterator[bytes]:
        for start in range(0, len(content), 1 << 18):
            yield content[start : start + (1 << 18)]

    headers = {**JSON, **bad.headers}
    body = chunks() if bad.chunked else content
    return client.request(bad.method, bad.path, content=body, headers=headers)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_is_refused_with_its_problem_and_the_next_one_is_answered(
    name: str, server: Any, fill: Callable[..., bytes]
) -> None:
    bad = BAD[name]
    answer = send(server.client, bad, fill(bad.body))
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (bad.status, f"urn:temperance:problem:{bad.code}"), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["status"] == bad.status
    members = {"type", "title", "status", "detail", "instance"}
    assert members <= set(problem) <= {*members, "errors"}
    assert problem["instance"] == f"urn:uuid:{answer.headers['temperance-id']}"
    assert [entry["pointer"] for entry in problem.get("errors", [])][:1] == (
        [] if bad.pointer is None else [bad.pointer]
    )
    assert bad.says in answer.text
    if bad.status == 405:
        assert answer.headers["allow"] == bad.says
    good = server.client.post(DECIDE, content=fill(PLAIN), headers=JSON)
    assert good.status_code == 200, good.text


@pytest.mark.parametrize("name", BAD)
def test_an_error_repeats_nothing_that_was_sent_and_stays_small(
    name: str, server: Any, fill: Callable[..., bytes]
) -> None:
    bad = BAD[name]
    text = send(server.client, bad, fill(bad.body)).text
    for said in (text, server.log.read_text()):
        assert CANARY not in said
        assert NUMBER not in said
        assert "mean radios" not in said
    assert len(text) <= LARGEST_PROBLEM
    assert len(orjson.loads(text).get("errors", [])) <= MOST_FAULTS


CROWDS = {
    "rows of strings": ("decide", {"instances": [["zq7canary"] * 30] * 500}),
    "rows that miss everything": ("decide", {"instances": [{}] * 500}),
    "a row of unknown names": ("decide", {"instances": [{f"zq7canary {i}": 1 for i in range(100_000)}]}),
    "numbers too large": ("decide", {"instances": [[1e39] * 30] * 500}),
    "missing values": ("decide", {"instances": [[None] * 30] * 500}),
    "unknown fields": ("decide", {"instances": [[1]]} | {f"zq7canary {i}": 1 for i in range(100_000)}),
    "ids that are numbers": ("decide", {"instances": [[1]], "parameters": {"ids": [1] * 100_000}}),
    "labels that are fractions": ("evaluate", {"instances": [[1]], "labels": [0.5] * 100_000}),
    "classes that the model does not have": (
        "decide",
        {"instances": [[1]], "parameters": {"prevalence": {f"zq7canary {i}": 2 for i in range(100_000)}}},
    ),
}


@pytest.mark.parametrize("name", CROWDS)
def test_a_crowd_of_mistakes_is_answered_at_once_with_the_first_twenty(name: str, server: Any) -> None:
    verb, body = CROWDS[name]
    answer = server.post(verb, body)
    assert answer.status_code == 422
    assert 1 <= len(answer.json()["errors"]) <= MOST_FAULTS
    assert len(answer.content) <= LARGEST_PROBLEM
    assert CANARY not in answer.text
    assert answer.elapsed.total_seconds() < 3.0  # the event loop waits for it, and every other caller with it


def subclasses(kind: type[ServiceError]) -> Iterator[type[ServiceError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from subclasses(child)


@pytest.mark.parametrize("kind", list(subclasses(ServiceError)))
def test_every_error_has_a_status_a_code_and_a_title(kind: type[ServiceError]) -> None:
    body = orjson.loads(problem(kind("what was wrong")).body)
    assert body["status"] == status_of(kind("")) in {*STATUS.values(), 422}
    assert body["type"].removeprefix("urn:temperance:problem:").replace("-", "").isalpha()
    assert body["title"]
    assert body["detail"] == "what was wrong"


def test_the_most_specific_ancestor_gives_the_status() -> None:
    assert status_of(ModelNotFound("")) == 404
    assert status_of(ServiceError("")) == 500


def test_a_pointer_escapes_tilde_before_slash() -> None:
    assert pointer(("instances", 0, "a~1/b")) == "/instances/0/a~01~1b"
    assert pointer(()) == ""


def test_a_problem_names_twenty_places_at_most_and_is_never_cached() -> None:
    faults = [Fault(("instances", i), "wrong-type", "must be a list") for i in range(99)]
    answer = problem(InvalidInstances("99 places", faults))
    assert [entry["pointer"] for entry in orjson.loads(answer.body)["errors"]] == [f"/instances/{i}" for i in range(20)]
    assert answer.headers["cache-control"] == "no-store"


def test_a_refused_media_type_says_which_one_is_taken(server: Any, fill: Callable[..., bytes]) -> None:
    answer = server.client.post(DECIDE, content=fill(PLAIN), headers={"content-type": "text/csv"})
    assert (answer.headers["accept"], answer.headers["accept-encoding"]) == ("application/json", "identity")

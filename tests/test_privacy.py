"""Nothing that a caller sends is in a log, a metric, a trace or an error: a canary is in every place.

What is repeated is documented: ids in answers, `X-Request-Id` and `traceparent` of the right form. Those are tested in
`tests/api/test_edge.py`.
"""

import http.client
import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.access.caller import SCOPES
from tests.canary_places import CANARIES, NUMBER, WORD, bearer, places
from tests.shipped_model import SHIPPED
from tests.test_tracing import Sink, collecting

TEMPERANCE = Path(sys.executable).with_name("temperance")
SECONDS = 20.0
FEWEST_PLACES = 87

BREAKING = f"""
import service.prediction.queue as queue
from service.errors import DeadlineExceeded

async def broken(self, query, rows, part, **others):
    held = f"{{rows!r}} {{part!r}} {{others!r}} {WORD} {NUMBER}"
    if query.options.verb == "detect":
        raise DeadlineExceeded.in_the_queue()
    try:
        raise KeyError(held)
    except KeyError as cause:
        raise ValueError(held) from cause

queue.Queue.answer = broken
"""
"""A server whose every run fails: for `:detect` by its deadline, for others with an error that holds what was sent."""

CONFIGURATIONS = {
    "debug, as JSON, with keys": {
        "TEMPERANCE_LOG_LEVEL": "debug",
        "TEMPERANCE_LOG_FORMAT": "json",
        "TEMPERANCE_KEYS": "keys.json",
    },
    "info, as text": {"TEMPERANCE_LOG_LEVEL": "info", "TEMPERANCE_LOG_FORMAT": "text"},
    "debug, as text, every run fails": {
        "TEMPERANCE_LOG_LEVEL": "debug",
        "TEMPERANCE_LOG_FORMAT": "text",
        "PYTHONPATH": BREAKING,
    },
    "info, as JSON, every run fails": {
        "TEMPERANCE_LOG_LEVEL": "info",
        "TEMPERANCE_LOG_FORMAT": "json",
        "PYTHONPATH": BREAKING,
    },
}
INTERNALS = re.compile(
    rb"traceback|file \"|site-packages|\.py\b|onnxruntime|starlette|fastapi|pydantic|uvicorn|0x[0-9a-f]{8}|/tmp/",
    re.IGNORECASE,
)
"""What says how the service is built, or where it lies."""
MARKS = dict.fromkeys(("info, as text", "info, as JSON, every run fails"), pytest.mark.long)
"""Others than the first of each kind are left to the long run."""


@dataclass
class Seen:
    """What is left after a server has answered every place."""

    is_broken: bool = False
    is_json: bool = False
    answers: dict[str, bytes] = field(default_factory=dict)
    metrics: str = ""
    log: str = ""
    sink: Sink = field(default_factory=Sink)

    def statuses(self) -> set[int]:
        """Of all answers."""
        return {status(answer) for answer in self.answers.values() if answer}


def status(answer: bytes) -> int:
    return int(answer.split(maxsplit=2)[1])


def sent(address: tuple[str, int], content: bytes) -> bytes:
    """The answer to a request, to the end of its connection."""
    answer = b""
    with socket.create_connection(address, timeout=SECONDS) as connection:
        try:
            connection.sendall(content)
            while part := connection.recv(1 << 16):
                answer += part
        except ConnectionError:
            pass  # it was refused before it had been read
    return answer


def made_key(file: str) -> str:
    """A key that may do everything, in a new file."""
    command = [
        str(TEMPERANCE),
        "keys",
        "create",
        "--name",
        "ward",
        "--scopes",
        ",".join(SCOPES),
        "--json",
        "--keys",
        file,
    ]
    made = subprocess.run(command, capture_output=True, text=True, check=True)
    key: str = json.loads(made.stdout)["key"]
    return key


@contextmanager
def canaries(
    serving: Callable[..., Any], models: Path, row: list[float], folder: Path, **variables: str
) -> Iterator[Seen]:
    """What a server answered, logged, counted and traced when a canary had been in every place."""
    if "PYTHONPATH" in variables:
        (folder / "sitecustomize.py").write_text(variables["PYTHONPATH"])
        variables["PYTHONPATH"] = str(folder)
    seen, key = Seen("PYTHONPATH" in variables, variables["TEMPERANCE_LOG_FORMAT"] == "json"), ""
    if "TEMPERANCE_KEYS" in variables:
        variables["TEMPERANCE_KEYS"] = str(folder / variables["TEMPERANCE_KEYS"])
        key = made_key(variables["TEMPERANCE_KEYS"])
    with collecting() as seen.sink:
        variables |= {"TEMPERANCE_OTLP_ENDPOINT": seen.sink.endpoint, "TEMPERANCE_HEADER_SECONDS": "1"}
        with serving(models, TEMPERANCE_BODY_SECONDS="1", **variables) as server:
            address = (server.client.base_url.host, server.client.base_url.port)
            for name, content in places(row, key):
                seen.answers[name] = sent(address, content)
            seen.metrics = server.client.get("/metrics", headers=dict([bearer(key)] if key else [])).text
            server.process.terminate()
            server.process.wait(timeout=30)
            seen.log = server.log.read_text()
    yield seen


@pytest.fixture(scope="module", params=[pytest.param(name, marks=MARKS.get(name, ())) for name in CONFIGURATIONS])
def seen(
    request: pytest.FixtureRequest,
    serving: Callable[..., Any],
    test_rows: list[list[float]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Seen]:
    variables = CONFIGURATIONS[request.param]
    with canaries(serving, SHIPPED, test_rows[0], tmp_path_factory.mktemp("broken"), **variables) as found:
        yield found


def held(text: str) -> list[str]:
    return [canary for canary in CANARIES if canary.lower() in text.lower()]


def test_there_is_a_canary_in_every_place(test_rows: list[list[float]]) -> None:
    found = dict(places(test_rows[0], ""))
    assert len(found) >= FEWEST_PLACES
    without = [name for name, content in found.items() if not held(content.decode("latin-1")) and "gzip" not in name]
    assert len(without) < 15  # what stands beside: the wrong types, and other bytes


def test_every_request_is_answered_or_its_connection_closed(seen: Seen) -> None:
    statuses = seen.statuses()
    assert {400, 404, 405, 415, 422} <= statuses
    assert {one for one in statuses if one >= 500} <= ({500, 504, 505} if seen.is_broken else {505})
    assert 200 in statuses
    assert (500 in statuses) == seen.is_broken


def test_no_error_repeats_what_the_caller_sent(seen: Seen) -> None:
    errors = {name: answer for name, answer in seen.answers.items() if answer and status(answer) >= 400}
    assert [(name, answer) for name, answer in errors.items() if held(answer.decode("latin-1"))] == []


def test_no_error_tells_what_the_service_is_made_of(seen: Seen) -> None:
    errors = {name: answer for name, answer in seen.answers.items() if answer and status(answer) >= 400}
    assert len(errors) > FEWEST_PLACES
    assert [(name, found[0]) for name, answer in errors.items() if (found := INTERNALS.search(answer))] == []


def test_no_answer_names_its_server(seen: Seen) -> None:
    heads = {name: answer.partition(b"\r\n\r\n")[0].lower() for name, answer in seen.answers.items()}
    assert [name for name, head in heads.items() if b"\r\nserver:" in head or b"x-powered-by" in head] == []


def test_no_field_of_an_answer_repeats_what_the_caller_sent(seen: Seen) -> None:
    heads = {name: answer.partition(b"\r\n\r\n")[0].decode("latin-1") for name, answer in seen.answers.items()}
    assert [(name, head) for name, head in heads.items() if held(head)] == []


def test_no_line_of_the_log_holds_what_a_caller_sent(seen: Seen) -> None:
    assert seen.log.count("request_id") >= 0.5 * len(seen.answers)
    assert [line for line in seen.log.splitlines() if held(line)] == []


def test_every_line_of_the_log_has_the_form_that_is_set(seen: Seen) -> None:
    lines = seen.log.splitlines()
    assert len(lines) > FEWEST_PLACES
    if seen.is_json:
        assert all({"time", "level", "logger", "message"} <= json.loads(line).keys() for line in lines)
    else:
        # Frames of an error follow its line, indented.
        assert [line for line in lines if not re.match(r"\d{4}-\d\d-\d\dT[\d:.]{12}Z [A-Z]+ |    \S", line)] == []


def test_no_line_of_the_log_names_an_address_a_path_or_a_field_of_a_handshake(seen: Seen) -> None:
    assert "websocket" not in seen.log.lower()
    assert "/livez?" not in seen.log
    assert "service.example" not in seen.log
    assert [line for line in seen.log.splitlines() if "127.0.0.1" in line and "listening on" not in line] == []


def test_no_line_of_the_log_holds_a_key_and_the_callers_name_is_there(seen: Seen) -> None:
    assert "tmp_" not in seen.log
    assert ("key:ward" in seen.log) == (401 in seen.statuses())


def test_no_metric_holds_what_a_caller_sent(seen: Seen) -> None:
    assert "temperance_refusals_total" in seen.metrics
    assert held(seen.metrics) == []


def test_no_trace_holds_what_a_caller_sent(seen: Seen) -> None:
    assert len(seen.sink.spans) > FEWEST_PLACES
    assert held("".join(map(str, seen.sink.spans))) == []
    assert held("".join(map(str, seen.sink.metrics.values()))) == []


METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
SHAPES = (
    "/{}",
    "/{}/{}",
    "/v1/{}",
    "/v1/models/{}",
    "/v1/models/{}:decide",
    "/v1/models/breast-cancer:{}",
    "/v1/models/breast-cancer/versions/{}:decide",
    "/v1/models/breast-cancer/labels/{}:decide",
    "/v2/{}",
    "/v2/models/{}/infer",
    "/docs/{}",
    "/livez?{}={}",
)
SLOWEST_METRICS = 0.1


class Flood:
    """A client that sends random methods, paths, hosts and field names, one after the other, over few connections."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._rng = np.random.default_rng(0)
        self._client = http.client.HTTPConnection(*address, timeout=SECONDS)

    def send(self, method: str, shape: str) -> None:
        """One request of a shape."""
        fields = {self.word(): self.word(), "Host": f"{self.word()}.example", "User-Agent": self.word()}
        try:
            self._client.request(method, shape.format(self.word(), self.word()), headers=fields)
            self._client.getresponse().read()
        except (ConnectionError, http.client.HTTPException):
            self._client.close()

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    def word(self) -> str:
        return f"w{self._rng.bytes(6).hex()}"

    def send_many(self, count: int) -> None:
        """Random ones."""
        for i in range(count):
            method = METHODS[i % 5] if i % 3 else self.word().upper()
            self.send(method, SHAPES[i % len(SHAPES)])


def series(exposed: str) -> dict[str, set[str]]:
    """Label sets by metric; the buckets of a histogram are one."""
    found: dict[str, set[str]] = {}
    for line in exposed.splitlines():
        if not line.startswith("#"):
            name, _, labels = line.rpartition(" ")[0].partition("{")
            found.setdefault(name, set()).add(re.sub(r'le="[^"]*",?', "", labels))
    return found


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.long)])
def test_random_paths_methods_hosts_and_fields_add_no_series(
    count: int, workers: int, serving: Callable[..., Any]
) -> None:
    with serving(SHIPPED, "--workers", str(workers), TEMPERANCE_LOG_LEVEL="warning") as server:
        with closing(Flood((server.client.base_url.host, server.client.base_url.port))) as flood:
            for method in (*METHODS, "UNKNOWN"):
                for shape in SHAPES:
                    flood.send(method, shape)
            before = series(server.client.get("/metrics").text)
            flood.send_many(count)
        after = series(server.client.get("/metrics").text)
        seconds = sorted(server.client.get("/metrics").elapsed.total_seconds() for _ in range(20))
    added = {name: len(labels - before.get(name, set())) for name, labels in after.items()}
    assert {name: number for name, number in added.items() if number > 1} == {}
    assert not any(re.search(r"w[0-9a-f]{12}", label) for labels in after.values() for label in labels)
    assert seconds[len(seconds) // 2] <= SLOWEST_METRICS

"""R1: a corpus of bad requests, driven against a real server; every one is answered as its data file says.

The expected answers come from the specification (tables A and B, section 5), never from what the server does. The
full drives with two workers and through HAProxy are `long`; the default run has a part of them.
"""

import asyncio
import re
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.conftest import TEMPERANCE, Server
from tests.door.cases import Case, Setting, corpus
from tests.door.driver import Report, authorization, chosen, described, drive
from tests.door.exchange import Address, connect
from tests.door.pieces import Template
from tests.door.servers import HAPROXY, LIMIT, Memory, haproxy
from tests.door.targets import CANARY, ROW, TARGETS, words
from tests.shipped_model import SHIPPED

MOST_GROWTH = 96 << 20  # 68 MiB are seen: documents of 60,000 keys or 200,000 texts, read one after another
MOST_SECONDS = 60.0
WITH_HAPROXY = pytest.mark.skipif(not HAPROXY.exists(), reason="HAProxy is not installed")
MANY = 4_000  # rows: 0.9 MiB
PART = 6  # of a drive that is whole elsewhere: every so many cases
ROWS = {f"A{i}" for i in range(1, 23)} - {"A9"} | {f"B{i}" for i in range(1, 21)}


def address_of(server: Server) -> Address:
    return Address("127.0.0.1", server.client.base_url.port or 0)


def drive_all(server: Server, cases: list[Case]) -> Report:
    return asyncio.run(drive(address_of(server), cases))


def shown(report: Report) -> str:
    return "\n".join([*(described(outcome) for outcome in report.failed), *report.good])


def workers(server: Server) -> set[int]:
    return {child.pid for child in psutil.Process(server.process.pid).children()}


def short(cases: list[Case]) -> list[Case]:
    return [case for case in cases if not case.slow][::PART]


def send_good_requests(server: Server) -> None:
    """What good requests, the largest too, make the server import and hold is no growth by bad ones."""
    for target in TARGETS.values():
        body = Template(words(target, 1 << 20)).filled("$good")
        server.client.request(target.method, target.path, content=body, headers={"Content-Type": "application/json"})
    assert server.post("predict", {"instances": [ROW] * MANY}).status_code == 200


def assert_nothing_leaked(server: Server) -> None:
    log = server.log.read_text("utf-8", "replace")
    assert CANARY not in log
    assert "Traceback" not in log


def test_the_corpus_holds_hundreds_of_cases_of_every_row() -> None:
    cases = corpus()
    assert len(cases) > 2000
    assert {case.row for case in cases} >= ROWS


@pytest.fixture(scope="module")
def one(serving):
    with serving(SHIPPED, **LIMIT, TEMPERANCE_LOG_LEVEL="debug") as server:
        send_good_requests(server)
        yield server


def test_every_bad_request_is_answered_as_expected(one: Server) -> None:
    with Memory(one.process.pid) as memory:
        report = drive_all(one, chosen(corpus()))
    assert shown(report) == ""
    assert report.seconds <= MOST_SECONDS
    assert memory.growth <= MOST_GROWTH, memory.growth
    assert one.process.poll() is None


def test_nothing_of_a_bad_request_is_logged_at_the_most_talkative_level(one: Server) -> None:
    assert_nothing_leaked(one)
    assert len(one.log.read_text("utf-8").splitlines()) > 1000


async def test_a_hundred_idle_connections_delay_no_other_client(one: Server) -> None:
    idle = [await connect(address_of(one)) for _ in range(100)]
    report = await drive(address_of(one), chosen(corpus(), only="raw.fine.*"))
    for connection in idle:
        connection.close()
    assert shown(report) == ""
    assert report.seconds < 10.0


def test_nothing_but_health_opens_without_a_known_credential(serving, tmp_path: Path) -> None:
    keys, own = tmp_path / "keys.json", tmp_path / "door.key"
    subprocess.run([TEMPERANCE, "keys", "create", "--name", "door", "--keys", keys, "--out", own], check=True)
    key = own.read_text("utf-8").strip()
    cases = chosen(corpus(Setting(key=key)))
    with serving(SHIPPED, **LIMIT, TEMPERANCE_KEYS=str(keys)) as server:
        report = asyncio.run(drive(address_of(server), cases, credential=authorization(key)))
        assert_nothing_leaked(server)
        assert key.rpartition("_")[2] not in server.log.read_text("utf-8")
    assert len(cases) > 100
    assert shown(report) == ""


def test_two_workers_answer_as_one_does(serving) -> None:
    with serving(SHIPPED, "--workers", "2", **LIMIT) as server:
        report = drive_all(server, short(chosen(corpus())))
        assert_nothing_leaked(server)
    assert shown(report) == ""


@WITH_HAPROXY
def test_through_a_proxy_every_bad_request_is_refused_too(one: Server, tmp_path: Path) -> None:
    with haproxy(address_of(one).port, tmp_path) as proxy:
        report = asyncio.run(drive(proxy, short(chosen(corpus(Setting(proxied=True)))), proxied=True))
    assert shown(report) == ""


@pytest.mark.long
def test_two_workers_answer_the_whole_corpus_as_expected(serving) -> None:
    with serving(SHIPPED, "--workers", "2", **LIMIT) as server, Memory(server.process.pid) as memory:
        before = workers(server)
        report = drive_all(server, chosen(corpus()))
        assert workers(server) == before
        assert_nothing_leaked(server)
    assert shown(report) == ""
    assert memory.growth <= 2 * MOST_GROWTH


@WITH_HAPROXY
@pytest.mark.long
def test_through_a_proxy_the_whole_corpus_is_answered_as_expected(one: Server, tmp_path: Path) -> None:
    with haproxy(address_of(one).port, tmp_path) as proxy:
        report = asyncio.run(drive(proxy, chosen(corpus(Setting(proxied=True))), proxied=True))
    assert shown(report) == ""


def test_a_case_with_a_misspelt_key_is_refused() -> None:
    from tests.door.cases import read

    with pytest.raises(ValueError, match="unknown keys: stauts"):
        list(read('[[group]]\nname = "a"\nrow = "A1"\ncases = [{id = "b", stauts = 400}]', Setting()))


def test_every_reason_for_a_loose_expectation_is_stated() -> None:
    import tomllib

    from tests.door.cases import CORPUS

    groups = [group for path in sorted(CORPUS.glob("*.toml")) for group in tomllib.loads(path.read_text())["group"]]
    loose = [
        f"{group['name']}.{case['id']}"
        for group in groups
        for case in group["cases"]
        if 200 in _listed({**group, **case}.get("status")) and len(_listed({**group, **case}.get("status"))) > 1
        if not {**group, **case}.get("why")
    ]
    assert loose == []


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def test_words_of_cases_are_filled_in() -> None:
    assert not [case.id for case in corpus() if re.search(rb"\$(row|rest|good|first|path|length|host)\b", case.sent())]

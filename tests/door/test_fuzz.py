"""R4: mutated raw requests, by the ten thousand: never a status of ours to be ashamed of, never a restart."""

import asyncio

import psutil
import pytest

from tests.conftest import Server
from tests.door.exchange import Address
from tests.door.fuzz import Findings, fuzz
from tests.door.mutations import mutated
from tests.door.servers import LIMIT, Memory
from tests.shipped_model import SHIPPED

MOST_GROWTH = 64 << 20


def fuzzed(server: Server, count: int, *, seed: int) -> Findings:
    return asyncio.run(fuzz(Address("127.0.0.1", server.client.base_url.port or 0), count, seed=seed))


def assert_sound(server: Server, findings: Findings) -> None:
    assert findings.faults == []
    assert server.process.poll() is None
    assert server.client.get("/readyz").status_code == 200
    log = server.log.read_text("utf-8", "replace")
    assert "Traceback" not in log
    assert "unexpected" not in log


def test_two_thousand_mutated_requests_meet_no_fault_of_ours(serving) -> None:
    with serving(SHIPPED, **LIMIT) as server, Memory(server.process.pid) as memory:
        findings = fuzzed(server, 2_000, seed=0)
        assert_sound(server, findings)
        assert memory.growth <= MOST_GROWTH
    assert {200, 400, 404, 422} <= set(findings.statuses)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 5))
def test_a_hundred_thousand_mutated_requests_meet_no_fault_of_ours(serving, seed: int) -> None:
    with serving(SHIPPED, "--workers", "2", **LIMIT) as server, Memory(server.process.pid) as memory:
        before = {child.pid for child in psutil.Process(server.process.pid).children()}
        findings = fuzzed(server, 25_000, seed=seed)
        assert {child.pid for child in psutil.Process(server.process.pid).children()} == before
        assert_sound(server, findings)
        assert memory.growth <= 2 * MOST_GROWTH


def test_one_seed_gives_one_sequence() -> None:
    assert list(mutated(50, seed=3)) == list(mutated(50, seed=3))
    assert list(mutated(50, seed=3)) != list(mutated(50, seed=4))

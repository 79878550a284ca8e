"""L1 to L4: restarts, ends, killed workers and reloads of a real service under load.

The long versions print their tables as ``python -m tests.life.rolling``, ``ends``, ``interrupted``, ``kills`` and
``reloads``; here are their bounds.
"""

import pytest

from tests.door.servers import HAPROXY
from tests.life.deployments import Deployments
from tests.life.ends import DEADLINE, FEW_ROWS, SLACK, UNDER_WAY, Case, End, cases, ended
from tests.life.interrupted import HALF_BODIES, Rolling, ended_within_a_roll, parent_killed, rolled
from tests.life.kills import Killed, killed
from tests.life.load import KINDS, Kind, load
from tests.life.outcomes import Ending, lost
from tests.life.processes import service
from tests.life.reloads import CONVERGED_SECONDS, GOOD, Alias, Reloaded, drawn, reloaded
from tests.life.rolling import REQUESTS, RESTARTS, Rolled, behind_readiness, by_hangup, roll
from tests.life.stalled import STALLS
from tests.shipped_model import SHIPPED

RATE = 150.0
"""Requests in a second of the short versions: the machine is busy with other tests."""

SLOW = 2.0
"""Times as long as on a quiet machine an end may take in the short versions."""

WITH_HAPROXY = pytest.mark.skipif(not HAPROXY.exists(), reason="HAProxy is not installed")
ALL_KINDS = pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
ENDS = pytest.mark.parametrize(
    "case", list(cases()), ids=lambda case: f"{case.workers}-{case.name}-{len(case.clients)}"
)


def assert_nothing_is_lost(found: Rolled) -> None:
    assert found.aborted == 0
    assert lost(found.outcomes.final) == 0, found.outcomes.final


def assert_in_order(end: End, *, slow: float = 1.0) -> None:
    assert end.code == 0
    assert end.finished == UNDER_WAY
    assert end.seconds <= slow * end.case.bound
    assert set(end.outcomes.final) <= {Ending.ANSWERED, Ending.REFUSED, Ending.OVERLOADED}


def assert_rolled(found: Rolling) -> None:
    assert lost(found.outcomes.final) == 0, found.outcomes.final
    assert found.code == 0
    assert found.seconds <= DEADLINE + SLACK


def assert_bearable(found: Killed) -> None:
    assert found.unexplained == 0
    assert all(found.failed(kill) <= found.under_way(kill) for kill in found.kills)


def assert_followed(found: Reloaded) -> None:
    assert sum(lost(one.first) for one in found.outcomes) == 0
    assert found.mixed == 0
    assert all(flip.seen is not None for flip in found.flips)


def test_a_restart_of_the_workers_loses_no_request() -> None:
    fresh, kept = KINDS
    with (
        service(SHIPPED, workers=2) as running,
        load(running.port, fresh, RATE) as one,
        load(running.port, kept, RATE) as other,
    ):
        assert roll(running) is not None
    assert lost(one.ended.final) == 0, one.ended.final
    assert lost(other.ended.final) == 0, other.ended.final


@WITH_HAPROXY
def test_a_service_that_drains_behind_a_proxy_loses_no_request() -> None:
    assert_nothing_is_lost(behind_readiness(SHIPPED, KINDS[0], 1, rate=RATE))


def test_an_end_waits_for_what_is_under_way_and_not_for_stalled_clients() -> None:
    assert_in_order(ended(Case(2, clients=tuple(STALLS), drain=0.5, deadline=4.0, rows=200)), slow=SLOW)


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
def test_a_service_whose_parent_is_killed_serves_no_longer(workers: int) -> None:
    found = parent_killed(workers=workers)
    assert found.unserved is not None
    assert found.free is not None
    assert found.gone is not None


def test_a_killed_worker_takes_no_more_than_what_was_under_way_in_it() -> None:
    with service(SHIPPED, workers=2) as running:
        found = killed(running, KINDS[0], kills=1, every=1.0, rate=RATE)
    assert_bearable(found)
    assert found.kills[0].whole is not None


def test_aliases_are_followed_under_load_past_broken_versions(tmp_path) -> None:
    deployments = Deployments(tmp_path, variants=2)
    with service(tmp_path, workers=2, reload_seconds=0.2) as running:
        alias = Alias(deployments, running.port)
        kinds = ["narrow arrays", GOOD, "deep aliases", GOOD]
        assert_followed(reloaded(alias, deployments, running.port, kinds, rate=RATE))


@pytest.mark.long
@ALL_KINDS
def test_twenty_restarts_at_sixty_percent_of_capacity(kind: Kind) -> None:
    with service(SHIPPED, workers=2) as running:
        found = by_hangup(running, kind, RESTARTS, least=REQUESTS)
    assert_nothing_is_lost(found)
    assert found.lost_without_retry <= 1e-4


@pytest.mark.long
@WITH_HAPROXY
@ALL_KINDS
def test_twenty_drains_at_sixty_percent_of_capacity(kind: Kind) -> None:
    assert_nothing_is_lost(behind_readiness(SHIPPED, kind, RESTARTS, least=REQUESTS))


@pytest.mark.long
@ENDS
def test_every_end_is_in_order(case: Case) -> None:
    end = ended(case)
    assert_in_order(end)
    if case.rows == FEW_ROWS:
        assert end.unready is not None
        assert end.unready <= 0.1


@pytest.mark.long
def test_rolls_end_whatever_arrives_meanwhile() -> None:
    for found in (rolled(), rolled(hangups=5), rolled(half_bodies=HALF_BODIES)):
        assert_rolled(found)
        assert found.rolled is not None
    assert_rolled(ended_within_a_roll())


@pytest.mark.long
@ALL_KINDS
def test_a_worker_is_killed_every_five_seconds_for_ten_minutes(kind: Kind) -> None:
    with service(SHIPPED, workers=2) as running:
        found = killed(running, kind, kills=120)
    assert_bearable(found)
    assert max(kill.whole or float("inf") for kill in found.kills) <= 3.0


@pytest.mark.long
def test_a_thousand_reloads_under_load(tmp_path) -> None:
    deployments = Deployments(tmp_path)
    with service(tmp_path, workers=2) as running:
        found = reloaded(Alias(deployments, running.port), deployments, running.port, drawn(1000))
    assert_followed(found)
    assert found.unexpected == 0
    assert sorted(found.converged)[int(0.99 * len(found.converged))] <= CONVERGED_SECONDS

"""A real service of two workers is killed, and a real database server; each confirmed answer has its record."""

import pytest

from tests.record.kills import run


@pytest.mark.parametrize("rounds", [2, pytest.param(200, marks=pytest.mark.long)])
def test_no_confirmed_answer_lacks_its_record_when_workers_are_killed(rounds):
    found = run("sqlite", rounds=rounds)
    assert found.confirmed > 0
    assert (found.lost, found.finding) == (0, None)


@pytest.mark.parametrize("rounds", [1, pytest.param(50, marks=pytest.mark.long)])
def test_no_confirmed_answer_lacks_its_record_when_the_database_server_is_killed(rounds):
    found = run("postgresql", rounds=rounds)
    assert found.confirmed > 0
    assert (found.lost, found.finding) == (0, None)
    assert set(found.refused) <= {(503, "urn:temperance:problem:audit-unavailable")}
    assert max(found.recoveries) <= 5

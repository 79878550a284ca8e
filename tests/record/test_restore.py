"""A store in use is saved, restored and checked."""

import pytest

from tests.record.restore import ENGINES, run


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("records", [1000, pytest.param(200_000, marks=pytest.mark.long)])
def test_what_was_durable_when_a_backup_began_is_there_after_its_restore(engine, records):
    found = run(engine, records)
    assert found.durable >= records
    assert (found.missing, found.finding) == (0, None)
    assert found.restored >= found.durable

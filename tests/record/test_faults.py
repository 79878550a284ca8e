"""Faults of the store under a real service of two workers."""

import os

import pytest

from tests.record.faults import FAULTS, run


@pytest.mark.long
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_the_store_refuses_requests_and_ends_without_a_restart(name):
    if name == "full" and os.geteuid():
        pytest.skip("a small file system cannot be mounted here")
    found = run(name)
    assert found.is_sound, str(found)

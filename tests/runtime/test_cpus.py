"""Processors that a container may use."""

import os
from pathlib import Path

import pytest

from service.runtime.cpus import available_cpus

ALLOWED = len(os.sched_getaffinity(0))


@pytest.fixture
def group(tmp_path: Path):
    """Writes `cpu.max` of control groups by their path, and says that this process is in the last of them."""

    def write(**limits: str) -> int:
        folder = Path()
        for name, limit in limits.items():
            folder = Path() if name == "root" else folder / name
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / "cpu.max").write_text(f"{limit}\n")
        membership = tmp_path / "membership"
        membership.write_text(f"1:name=old:/elsewhere\n0::/{folder}\n")
        return available_cpus(root=tmp_path, membership=membership)

    return write


def test_without_a_limit_it_is_the_affinity_mask(group, tmp_path: Path) -> None:
    assert group(root="max 100000") == ALLOWED
    assert available_cpus(root=tmp_path / "none", membership=tmp_path / "none") == ALLOWED


@pytest.mark.parametrize("limit", ["100000 100000", "50000 100000", "1000 100000"])
def test_a_limit_below_one_processor_is_one(limit: str, group) -> None:
    assert group(root=limit) == 1


def test_part_of_a_processor_counts(group) -> None:
    assert group(root="150000 100000") == min(2, ALLOWED)


def test_the_tightest_of_a_group_and_its_parents_counts(group) -> None:
    assert group(root="max 100000", pod="100000 100000", container="900000 100000") == 1


def test_what_cannot_be_read_is_no_limit(group) -> None:
    assert group(root="many few") == ALLOWED

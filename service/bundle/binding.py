"""What binds `calibration.json` and `state.npz` to each other: one hash over both.

A person who edits a version can renew its sums. A number that was changed, added or removed afterwards shows here.
"""

import hashlib
from pathlib import Path

import numpy as np

from service.bundle.record import RECORD_FILE, Record
from service.bundle.stage_test import is_of_stages
from service.bundle.state import STATE_FILE, State
from service.errors import BundleDamaged


def content_sha256(record: Record, state: State) -> str:
    """SHA-256 of a record without this hash, and of the names, types, shapes and numbers of its arrays."""
    digest = hashlib.sha256(record.model_copy(update={"content_sha256": None}).to_json().encode())
    for name in sorted(state):
        array = np.asarray(state[name])
        digest.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def bound(record: Record, state: State) -> Record:
    """The record with the hash that binds it to its state."""
    return record.model_copy(update={"content_sha256": content_sha256(record, state)})


def check_bound(record: Record, state: State, *, where: Path) -> None:
    """Refuse a record or arrays that are not those that were published together.

    A version that is older than the hash has none, and no self-test of its stages either.

    Raises
    ------
    BundleDamaged
    """
    expected = record.content_sha256
    if expected is None and is_of_stages(state):
        raise BundleDamaged(f"{where / RECORD_FILE}: content_sha256 is missing; restore the version, or fit again")
    if expected is not None and expected != content_sha256(record, state):
        raise BundleDamaged(
            f"{where / RECORD_FILE}: content_sha256 is not that of this record and {STATE_FILE}: a number was changed "
            "after fit; restore the version, or fit again"
        )

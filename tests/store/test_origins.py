from pathlib import Path

import pytest

from service.store.engine import Store, open_store
from service.store.entries import Origin
from service.store.streams import Linked
from tests.store.kept import FixedSigner, kept


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"sqlite://{tmp_path}/audit.db", signer=FixedSigner())


def test_an_origin_is_what_outcomes_need_of_a_record(store):
    request_id, write = kept(["no", "yes"], rows=3)
    store.write([write])
    expected = Origin(request_id, 3, write.contexts[0].digest, None)
    assert store.origins_of([request_id, "unknown"]) == {request_id: expected}


def test_a_record_is_found_with_its_place_in_the_chain(store):
    writes = [kept(["no", "yes"]) for _ in range(3)]
    store.write([write for _, write in writes])
    entries = list(store.entries(1))
    assert [store.linked(request_id) for request_id, _ in writes] == entries
    assert isinstance(entries[2], Linked)
    assert (entries[2].stream, entries[2].sequence) == (1, 3)
    assert store.linked("unknown") is None

"""What every engine must do; each test runs over all of them."""

import itertools
from dataclasses import replace

import pytest

from service.record_errors import StoreUnavailable
from service.store import canonical
from service.store.entries import Event, Outcome, Prediction, Reply, Reservation, Sealed, Selection, SubjectKey, Write
from service.store.streams import Anchor
from tests.store.kept import KEY_ID, NOW, kept, outcome

SUBJECT, OTHER = b"s" * 16, b"o" * 16


def event(kind: str = "alias", detail: str = "{}", created: int = NOW) -> Event:
    return Event(created, kind, detail)


def at(created: int, **context) -> Write:
    _, write = kept(["no", "yes"], **context)
    return replace(write, predictions=[replace(write.predictions[0], created=created)])


def assert_whole(store, stream: int = 1) -> None:
    """A stream's links and numbers follow from its entries."""
    own = store.streams()[stream - 1]
    link = own.link
    for number, one in enumerate(store.entries(stream), 1):
        link = canonical.link(link, one.entry)
        assert (one.stream, one.sequence, one.link) == (stream, number, link)


# ------------------------------------------------------------------------------------------------------------ writing


def test_what_was_written_is_read_back(store, opened):
    request_id, write = kept(["no", "yes"], rows=2)
    given = replace(
        write.predictions[0],
        columns=bytes(range(256)),
        x_request_id="a-1",
        traceparent="00-1",
        ids=b"i" * 32,
        subjects=b"s" * 32,
        groups=b"g" * 32,
        latency=(1 << 63) - 1,
    )
    store.write([replace(write, predictions=[given])])
    reader = opened(None)
    assert reader.prediction(request_id) == given
    assert reader.context(given.context) == write.contexts[0]
    assert [reader.document(one.digest) for one in write.documents] == list(write.documents)
    assert reader.prediction("unknown") is None
    assert reader.context(bytes(32)) is reader.document(bytes(32)) is None


def test_entries_of_a_stream_are_a_chain_without_gaps_in_the_order_of_their_writes(store):
    first, write = kept(["no", "yes"])
    second, other = kept(["no", "yes"])
    store.write([replace(write, outcomes=[outcome(first)], events=[event()]), other])
    store.write([Write(events=[event("refit")])])
    assert_whole(store)
    kinds = [type(one.entry) for one in store.entries(1)]
    assert kinds == [Prediction, Outcome, Event, Prediction, Event]
    assert store.linked(second).sequence == 4


def test_entries_are_read_in_pages_and_none_is_left_out(store):
    writes = [at(NOW + number // 7) for number in range(450)]  # many at the same time
    store.write(writes)
    expected = [write.predictions[0].request_id for write in writes]
    assert [one.entry.request_id for one in store.entries(1)] == expected
    assert [one.request_id for one in store.predictions(Selection())] == expected
    assert list(store.predictions_of(expected)) != []
    assert len(store.predictions_of([*expected, *["unknown"] * 600])) == 450


@pytest.mark.parametrize("count", [1, 3, 4, 63, 64, 65, 200])
def test_groups_of_any_size_are_kept_whole(store, count):
    store.write([kept(["no", "yes"])[1] for _ in range(count)])
    assert len(list(store.entries(1))) == count
    assert_whole(store)


def test_a_write_is_all_or_nothing(store):
    request_id, write = kept(["no", "yes"])
    with pytest.raises(ValueError, match="store"):
        store.write([write, Write(outcomes=[outcome(request_id, row=-1)])])
    assert store.prediction(request_id) is None
    store.write([write])
    assert_whole(store)
    assert len(list(store.entries(1))) == 1


@pytest.mark.parametrize(
    "broken",
    [
        {"latency": 1 << 63},
        {"x_request_id": "\ud800"},
        {"rows": -1},
        {"rows": float("nan")},
        {"created": 1e300},
        {"columns": None},
    ],
    ids=["too large", "surrogate", "negative", "NaN", "float", "null"],
)
def test_values_that_a_database_cannot_hold_are_refused_and_the_next_write_succeeds(store, broken):
    request_id, write = kept(["no", "yes"])
    with pytest.raises((ValueError, TypeError)):
        store.write([replace(write, predictions=[replace(write.predictions[0], **broken)])])
    store.write([write])
    assert store.prediction(request_id) == write.predictions[0]
    assert_whole(store)


def test_a_zero_in_a_text_is_refused_by_every_engine(store):
    request_id, write = kept(["no", "yes"])
    with pytest.raises(ValueError, match="value"):
        store.write([replace(write, outcomes=[outcome(request_id, source="a\0b")])])
    assert store.prediction(request_id) is None


def test_a_request_is_recorded_once(store):
    _, write = kept(["no", "yes"])
    store.write([write])
    with pytest.raises(ValueError, match="already"):
        store.write([write])
    store.write([Write(events=[event()])])
    assert_whole(store)
    assert len(list(store.entries(1))) == 2


def test_connections_have_streams_of_their_own_and_the_list_is_a_chain(opened):
    stores = [opened() for _ in range(3)]
    for store in stores:
        store.write([kept(["no", "yes"])[1]])
    previous = canonical.ZEROS
    for number, one in enumerate(stores[0].streams(), 1):
        link = canonical.stream_link(previous, number=number, name=one.name, started=one.started, key_id=KEY_ID)
        assert (one.number, one.previous, one.link, one.signature) == (number, previous, link, bytes(64))
        previous = link
        assert_whole(stores[0], number)
    assert [store.head().stream for store in stores] == [1, 2, 3]


def test_a_connection_that_only_reads_appends_nothing(opened):
    reader = opened(None)
    with pytest.raises(StoreUnavailable, match="only reads"):
        reader.write([Write(events=[event()])])
    assert reader.streams() == []


def test_the_head_is_where_the_stream_ends(store):
    assert store.head() is None
    store.write([Write(events=[event(), event()])])
    head, last = store.head(), list(store.entries(1))[-1]
    assert (head.stream, head.sequence, head.link) == (1, 2, last.link)
    assert head.name == store.streams()[0].name


def test_what_is_stored_once_is_not_stored_again(opened):
    one, other = opened(), opened()
    for store in (one, other, one):
        store.write([kept(["no", "yes"])[1]])
    assert len(one.contexts()) == 1


def test_the_check_finds_a_store_that_can_be_written(store):
    store.check()
    store.check()
    assert store.streams() == []


# ----------------------------------------------------------------------------------------------------------- outcomes


def test_outcomes_of_all_writers_arrive_in_one_order(opened):
    stores = [opened(), opened()]
    request_id, write = kept(["no", "yes"], rows=9)
    stores[0].write([write])
    for row, store in zip(range(9), itertools.cycle(stores), strict=False):
        store.write([Write(outcomes=[outcome(request_id, row=row)])])
    found = stores[0].outcomes_after(0)
    assert [one.row for one in found] == list(range(9))
    assert [one.arrival for one in found] == sorted({one.arrival for one in found})
    assert stores[1].outcomes_after(found[4].arrival, most=2) == found[5:7]
    assert stores[1].outcomes_of([request_id]) == found
    assert stores[0].outcomes_after(0, model="another") == []
    assert_whole(stores[0], 1)
    assert_whole(stores[0], 2)


def test_an_outcome_keeps_every_value(store):
    request_id, write = kept(["no", "yes"])
    given = outcome(request_id, truth='{"a": null}', source="registry", contradicts=True, observed_at=-5)
    store.write([write])
    store.write([Write(outcomes=[given])])
    (found,) = store.outcomes_of([request_id, "unknown"])
    assert replace(found, arrival=0) == given


# ---------------------------------------------------------------------------------------------------------- selecting


def test_predictions_are_selected_by_model_version_time_and_shadow(store):
    writes = [
        at(NOW + 2),
        at(NOW, model="other"),
        at(NOW + 1, version=2),
        at(NOW + 3, shadow_of=1),
    ]
    shadow = replace(writes[3].predictions[0], shadow_of=writes[0].predictions[0].request_id)
    writes[3] = replace(writes[3], predictions=[shadow])
    store.write(writes)
    ids = [write.predictions[0].request_id for write in writes]

    def found(**values) -> list[str]:
        return [one.request_id for one in store.predictions(Selection(**values))]

    assert found() == [ids[1], ids[2], ids[0]]
    assert found(model="other") == [ids[1]]
    assert found(model="breast-cancer", version=2) == [ids[2]]
    assert found(since=NOW + 1, until=NOW + 2) == [ids[2]]
    assert found(shadows=True) == [ids[3]]
    assert store.shadows_of(ids[0]) == [shadow]
    assert {one.model for one in store.contexts(model="other").values()} == {"other"}
    assert {one.version for one in store.contexts(model="breast-cancer", version=2).values()} == {2}


def test_events_are_selected_by_kind_and_time(store):
    store.write([Write(events=[event("alarm", created=NOW + number) for number in (2, 0, 1)] + [event("refit")])])
    assert [one.created - NOW for one in store.events(kind="alarm")] == [0, 1, 2]
    assert [one.created - NOW for one in store.events(since=NOW + 1)] == [1, 2]
    assert len(list(store.events())) == 4


# --------------------------------------------------------------------------------------------------------- idempotency


def test_a_reservation_is_one_owners_until_it_is_answered_released_or_too_old(store):
    def reserve(owner: str, now: int = NOW):
        return store.reserve(b"c" * 16, owner=owner, fingerprint=b"f", now=now, lease=10)

    assert reserve("one") is None
    assert reserve("two") == Reservation("one", b"f", None)
    assert reserve("two", NOW + 11) is None
    store.release(b"c" * 16, "one")  # no longer its owner
    assert reserve("three", NOW + 12) == Reservation("two", b"f", None)
    store.release(b"c" * 16, "two")
    assert reserve("three") is None
    store.write([Write(replies=[Reply(b"c" * 16, "three", b"answer")])])
    store.release(b"c" * 16, "three")
    assert reserve("four", NOW + 1000) == Reservation("three", b"f", b"answer")
    assert store.forget_replies(NOW + 1) == 1
    assert reserve("four") is None


def test_of_many_that_reserve_at_once_one_succeeds(opened):
    from concurrent.futures import ThreadPoolExecutor

    stores = [opened() for _ in range(8)]

    def reserve(number: int):
        return stores[number].reserve(b"c", owner=f"owner-{number}", fingerprint=b"f", now=NOW, lease=10**9)

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(reserve, range(8)))
    assert found.count(None) == 1
    assert len({one.owner for one in found if one is not None}) == 1


# ---------------------------------------------------------------------------------------- state, anchors, clear text


def test_state_is_replaced_only_where_it_is_as_expected(store):
    assert store.state("monitor") is None
    assert store.keep_state("monitor", '{"a": 1}', expected=None)
    assert not store.keep_state("monitor", '{"a": 2}', expected=None)
    assert not store.keep_state("monitor", '{"a": 2}', expected='{"a": 3}')
    assert store.keep_state("monitor", '{"a": 2}', expected='{"a": 1}')
    assert store.state("monitor") == '{"a": 2}'


def anchored(store) -> Anchor:
    head = store.head()
    anchor = Anchor(head.stream, head.name, head.sequence, head.link, NOW, KEY_ID, bytes(64))
    store.keep_anchor(anchor)
    return anchor


def test_anchors_are_kept_once(store):
    store.write([Write(events=[event()])])
    anchor = anchored(store)
    store.keep_anchor(anchor)
    assert store.anchors() == store.anchors(1) == [anchor]
    assert store.anchors(2) == []


def sealed(store, subject: bytes = SUBJECT) -> str:
    request_id, write = kept(["no", "yes"])
    text = Sealed(request_id, 0, "id", subject, KEY_ID, b"text of " + subject)
    key = SubjectKey(request_id, subject, KEY_ID, b"key of " + subject)
    store.write([replace(write, sealed=[text], subject_keys=[key])])
    return request_id


def test_erasing_a_subject_deletes_its_keys_and_texts_and_leaves_the_chain(store):
    erased, other = sealed(store), sealed(store, OTHER)
    store.reserve(b"c", owner=erased, fingerprint=b"f", now=NOW, lease=1)
    assert store.erase(SUBJECT, event("erased"))
    assert not store.erase(SUBJECT, event("erased"))
    assert store.sealed_of(erased) == []
    assert store.subject_keys(erased) == {}
    assert [one.content for one in store.sealed_of(other)] == [b"text of " + OTHER]
    assert list(store.subject_keys(other)) == [OTHER]
    assert store.reserve(b"c", owner="next", fingerprint=b"f", now=NOW, lease=1) is None
    assert [one.kind for one in store.events()] == ["erased"]
    assert_whole(store)


def test_pruning_deletes_up_to_the_anchor_and_what_belongs_to_it_alone(opened):
    old, new = opened(), opened()
    old_id = sealed(old)
    old.write([replace(at(NOW, model="retired"), events=[event()])])
    new_id = sealed(new)
    anchor = anchored(old)
    assert new.prune({anchor.stream: anchor.sequence}, event("pruned")) == 3
    assert list(new.entries(1)) == []
    assert new.sealed_of(old_id) == []
    assert new.subject_keys(old_id) == {}
    assert [one.model for one in new.contexts().values()] == ["breast-cancer"]
    assert new.prediction(new_id) is not None
    assert_whole(new, 2)


def test_a_writer_goes_on_after_another_process_pruned_all_of_its_stream(opened):
    writer, pruner = opened(), opened()
    writer.write([at(NOW)])
    anchor = anchored(writer)
    pruner.prune({1: anchor.sequence}, event("pruned"))
    writer.write([at(NOW + 1)])  # its context was pruned
    (one,) = writer.entries(1)
    assert (one.sequence, one.link) == (2, canonical.link(anchor.link, one.entry))


def test_numbers_of_deleted_outcomes_are_not_used_again(store):
    request_id, write = kept(["no", "yes"])
    store.write([replace(write, outcomes=[outcome(request_id)])])
    store.prune({1: anchored(store).sequence}, event("pruned"))
    other, write = kept(["no", "yes"])
    store.write([replace(write, outcomes=[outcome(other)])])
    assert [one.arrival for one in store.outcomes_after(0)] == [2]


def test_the_size_grows_with_what_is_kept(store):
    before = store.size()
    store.write([replace(kept(["no", "yes"])[1], events=[event(detail=f'{{"a": "{"x" * 500_000}"}}')])])
    assert store.size() > before + 100_000

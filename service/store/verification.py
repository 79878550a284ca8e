"""Whether a record is whole and unchanged, and which entry is the first that is not.

Streams are checked against their signed list, entries against the chain, contexts and documents against their digests,
and all of it against anchors, which lie outside of the store.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from service.record_errors import StoreDamaged
from service.store.canonical import ZEROS, anchor_bytes, context_digest, link, stream_link
from service.store.engine import Store
from service.store.entries import Context, Outcome, Prediction
from service.store.seals import Seals
from service.store.secrets import PublicKeys
from service.store.streams import Anchor, Linked, Stream

PRUNED: Final = "pruned"


@dataclass(frozen=True, slots=True)
class Finding:
    """The first thing that is wrong with a record.

    Attributes
    ----------
    what : str
    stream : int or None
        Number of its stream; None for what belongs to no stream.
    sequence : int or None
        Of the entry.
    request_id : str or None
        Of the entry's request, where it has one.
    """

    what: str
    stream: int | None = None
    sequence: int | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """What was checked, and what was found.

    Attributes
    ----------
    streams, entries, anchors, contexts, texts : int
        How many were sound before the first that is not; ``texts`` are encrypted ones.
    finding : Finding or None
        None for a record that is whole and unchanged.
    """

    streams: int
    entries: int
    anchors: int
    contexts: int
    texts: int
    finding: Finding | None


@dataclass(slots=True)
class _Counts:
    streams: int = 0
    entries: int = 0
    anchors: int = 0
    contexts: int = 0
    texts: int = 0
    arrivals: set[int] = field(default_factory=set)


class _Wrong(Exception):
    def __init__(self, what: str, **place: int | str | None) -> None:
        super().__init__(what)
        self.finding = Finding(what, **place)  # type: ignore[arg-type]  # its own fields


def verify(
    store: Store, keys: PublicKeys, *, anchors: Sequence[Anchor] = (), seals: Seals | None = None
) -> Verification:
    """Check a record from its list of streams to its last entry.

    Parameters
    ----------
    store : Store
    keys : PublicKeys
        Of all secrets that the record was signed with.
    anchors : sequence of Anchor
        From outside of the store; the copies within it are checked as well.
    seals : Seals, optional
        With these, encrypted texts are checked too.

    Raises
    ------
    StoreUnavailable
        If the store cannot be read.
    """
    counts = _Counts()
    try:
        _verify(store, keys, anchors, seals, counts)
    except _Wrong as wrong:
        return _result(counts, wrong.finding)
    return _result(counts, None)


def segments_of(store: Store) -> dict[int, int]:
    """What was deleted by retention: the last sequence number that is gone, by stream.

    Every event of the kind names all that is gone, so the latest one is enough.
    """
    found: dict[int, int] = {}
    for event in store.events(kind=PRUNED):
        for number, sequence in json.loads(event.detail)["segments"]:
            found[number] = max(sequence, found.get(number, 0))
    return found


def _result(counts: _Counts, finding: Finding | None) -> Verification:
    return Verification(counts.streams, counts.entries, counts.anchors, counts.contexts, counts.texts, finding)


def _verify(store: Store, keys: PublicKeys, outside: Sequence[Anchor], seals: Seals | None, counts: _Counts) -> None:
    anchors = {(one.stream, one.sequence, one.link, one.name): one for one in [*outside, *store.anchors()]}
    by_stream = _by_stream(anchors.values(), keys, counts)
    streams = store.streams()  # after the anchors, which are then of streams and entries that are read
    _check_streams(streams, keys, counts)
    _check_known(streams, by_stream)
    contexts = _contexts(store, counts)
    gone = segments_of(store)
    for stream in streams:
        _check_entries(store.entries(stream.number), stream, _Marks(by_stream, gone, stream), contexts, counts)
    if seals is not None:
        _check_texts(store, seals, streams, counts)


def _by_stream(anchors: Iterable[Anchor], keys: PublicKeys, counts: _Counts) -> dict[int, dict[int, Anchor]]:
    found: dict[int, dict[int, Anchor]] = {}
    for anchor in sorted(anchors, key=lambda one: (one.stream, one.sequence)):
        _check_signature(keys, anchor.key_id, anchor.signature, anchor_bytes(anchor), what="anchor", place=anchor)
        own = found.setdefault(anchor.stream, {})
        if anchor.sequence in own:
            raise _Wrong("two anchors contradict each other", stream=anchor.stream, sequence=anchor.sequence)
        own[anchor.sequence] = anchor
        counts.anchors += 1
    return found


def _check_signature(
    keys: PublicKeys, key_id: str, signature: bytes, content: bytes, *, what: str, place: Anchor | Stream
) -> None:
    number = place.stream if isinstance(place, Anchor) else place.number
    sequence = place.sequence if isinstance(place, Anchor) else None
    if not keys.has(key_id):
        raise _Wrong(f"the key of the {what}'s signature is not known", stream=number, sequence=sequence)
    if not keys.verifies(key_id, signature, content):
        raise _Wrong(f"the signature of the {what} is wrong", stream=number, sequence=sequence)


def _check_streams(streams: Sequence[Stream], keys: PublicKeys, counts: _Counts) -> None:
    previous = ZEROS
    for number, stream in enumerate(streams, 1):
        if stream.number != number:
            raise _Wrong("a stream is missing from the list", stream=number)
        own = stream_link(previous, number=number, name=stream.name, started=stream.started, key_id=stream.key_id)
        if (stream.previous, stream.link) != (previous, own):
            raise _Wrong("the list of streams was changed", stream=number)
        _check_signature(keys, stream.key_id, stream.signature, stream.link, what="stream", place=stream)
        previous = own
        counts.streams += 1


def _check_known(streams: Sequence[Stream], anchors: Mapping[int, Mapping[int, Anchor]]) -> None:
    names = {stream.number: stream.name for stream in streams}
    for number, own in anchors.items():
        if any(anchor.name != names.get(number) for anchor in own.values()):
            raise _Wrong("an anchor is of a stream that is missing", stream=number)


def _contexts(store: Store, counts: _Counts) -> Mapping[bytes, Context]:
    contexts = store.contexts()
    for digest, context in contexts.items():
        if digest != context_digest(context):
            raise _Wrong("a context was changed")
        _check_document(store, context.schema, "schema")
        _check_document(store, context.basis, "basis")
        counts.contexts += 1
    return contexts


def _check_document(store: Store, digest: bytes | None, kind: str) -> None:
    document = None if digest is None else store.document(digest)
    if digest is not None and (document is None or document.kind != kind):
        raise _Wrong(f"a {kind} is missing")
    if document is not None and hashlib.sha256(document.content).digest() != digest:
        raise _Wrong(f"a {kind} was changed")


class _Marks:
    """Where a stream's entries begin, and the links that are known from outside."""

    def __init__(self, anchors: Mapping[int, Mapping[int, Anchor]], gone: Mapping[int, int], stream: Stream) -> None:
        own = anchors.get(stream.number, {})
        self.first = gone.get(stream.number, 0)
        if self.first and self.first not in own:
            raise _Wrong("no anchor shows where retention cut", stream=stream.number, sequence=self.first)
        self.link = own[self.first].link if self.first else stream.link
        self.links = {sequence: anchor.link for sequence, anchor in own.items() if sequence > self.first}
        self.last = max(own, default=0)


def _check_entries(
    entries: Iterator[Linked], stream: Stream, marks: _Marks, contexts: Mapping[bytes, Context], counts: _Counts
) -> None:
    previous, sequence, arrival, links = marks.link, marks.first, 0, marks.links
    for one in entries:
        sequence += 1
        entry = one.entry
        if one.sequence != sequence:
            raise _Wrong("an entry is missing before this one", **_place(one))
        previous = link(previous, entry)
        if one.link != previous or links.get(sequence, previous) != previous:
            raise _Wrong("this entry was changed, or is another one", **_place(one))
        if isinstance(entry, Prediction):
            if entry.context not in contexts:
                raise _Wrong("the context of this record is missing", **_place(one))
        elif isinstance(entry, Outcome):
            if entry.arrival <= arrival or entry.arrival in counts.arrivals:
                raise _Wrong("the order of arrival of this outcome was changed", **_place(one))
            arrival = entry.arrival
            counts.arrivals.add(arrival)
        counts.entries += 1
    if sequence < marks.last:
        raise _Wrong("entries are missing from the end of the stream", stream=stream.number, sequence=sequence + 1)


def _place(one: Linked) -> dict[str, int | str | None]:
    request_id = one.entry.request_id if isinstance(one.entry, Prediction | Outcome) else None
    return {"stream": one.stream, "sequence": one.sequence, "request_id": request_id}


def _check_texts(store: Store, seals: Seals, streams: Sequence[Stream], counts: _Counts) -> None:
    for stream in streams:
        for one in store.entries(stream.number):
            if isinstance(one.entry, Prediction):
                _check_texts_of(store, seals, one, counts)


def _check_texts_of(store: Store, seals: Seals, one: Linked, counts: _Counts) -> None:
    request_id = str(_place(one)["request_id"])
    sealed = store.sealed_of(request_id)
    try:
        counts.texts += len(seals.readable(sealed, store.subject_keys(request_id))) if sealed else 0
    except StoreDamaged as error:
        raise _Wrong(error.detail, **_place(one)) from None

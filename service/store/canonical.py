"""The bytes that are hashed: one form per kind of entry, whatever the engine.

A link is SHA-256 over the link before, the kind of the entry, a JSON array of its scalars in the order of the class'
attributes, and its byte strings, each after its length. Tested in tests/store/test_canonical.py.
"""

import hashlib
import struct
from typing import Final

import orjson

from service.store.entries import Context, Event, Outcome, Prediction
from service.store.streams import Anchor

Entry = Prediction | Outcome | Event
ZEROS: Final = bytes(32)
_LENGTH: Final = struct.Struct("<q")


def link(previous: bytes, entry: Entry) -> bytes:
    """The link of an entry: SHA-256 over the link before it and the entry.

    Parameters
    ----------
    previous : bytes
        32 of them; of the first entry of a stream, the stream's own link.
    entry : Prediction, Outcome or Event
    """
    if isinstance(entry, Prediction):
        return _prediction(previous, entry)
    return _outcome(previous, entry) if isinstance(entry, Outcome) else _event(previous, entry)


def stream_link(previous: bytes, *, number: int, name: str, started: int, key_id: str) -> bytes:
    """The link of a stream: SHA-256 over the link of the one before in the list, and what is known of it."""
    return hashlib.sha256(b"stream" + previous + orjson.dumps([number, name, started, key_id])).digest()


def anchor_bytes(anchor: Anchor) -> bytes:
    """What the signature of an anchor is of; its own signature is left out."""
    scalars = [anchor.stream, anchor.name, anchor.sequence, anchor.link.hex(), anchor.created, anchor.key_id]
    return b"anchor" + orjson.dumps(scalars)


def context_digest(context: Context) -> bytes:
    """SHA-256 over all attributes but the digest itself."""
    scalars = [
        context.verb,
        context.model,
        context.version,
        context.bundle_digest,
        context.graph_digest,
        context.calibration_digest,
        context.policy,
        context.site,
        context.prevalence,
        context.options,
        context.software,
        context.task,
        context.shadow_of,
    ]
    return hashlib.sha256(orjson.dumps(scalars) + _sized(context.schema) + _sized(context.basis)).digest()


def _prediction(previous: bytes, entry: Prediction) -> bytes:
    scalars = [
        entry.request_id,
        entry.created,
        entry.caller,
        entry.x_request_id,
        entry.traceparent,
        entry.rows,
        entry.latency,
        entry.key_id,
        entry.shadow_of,
    ]
    parts = (entry.context, entry.columns, entry.row_digests, entry.ids, entry.subjects, entry.groups)
    return hashlib.sha256(
        previous + b"prediction" + orjson.dumps(scalars) + b"".join([_sized(part) for part in parts])
    ).digest()


def _outcome(previous: bytes, entry: Outcome) -> bytes:
    scalars = [
        entry.request_id,
        entry.row,
        entry.truth,
        entry.observed_at,
        entry.received,
        entry.source,
        entry.ascertainment,
        entry.caller,
        entry.contradicts,
        entry.arrival,
    ]
    return hashlib.sha256(previous + b"outcome" + orjson.dumps(scalars)).digest()


def _event(previous: bytes, entry: Event) -> bytes:
    return hashlib.sha256(previous + b"event" + orjson.dumps([entry.created, entry.kind, entry.detail])).digest()


def _sized(content: bytes | None) -> bytes:
    return _LENGTH.pack(-1) if content is None else _LENGTH.pack(len(content)) + content

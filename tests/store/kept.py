"""Records of answers for tests that need some in a store, and not how they were made."""

import hashlib
from typing import Any

import orjson
import uuid_utils

from service.store.canonical import context_digest
from service.store.entries import Context, Document, Outcome, Prediction, Write

KEY_ID = "key-1"
NOW = 1_767_225_600_000_000


class FixedSigner:
    """Signs nothing: the same bytes for all."""

    key_id = KEY_ID

    def sign(self, content: bytes) -> bytes:
        """64 zeros."""
        del content
        return bytes(64)


def kept(
    classes: list[str],
    *,
    task: str = "multiclass",
    rows: int = 1,
    model: str = "breast-cancer",
    request_id: str | None = None,
    **context: Any,
) -> tuple[str, Write]:
    """A record without columns, and its request id."""
    content = orjson.dumps({"classes": classes})
    basis = Document(hashlib.sha256(content).digest(), "basis", content)
    schema = Document(hashlib.sha256(b"schema").digest(), "schema", b"schema")
    shared = _context(model, task, basis=basis.digest, **{"schema": schema.digest, **context})
    own = request_id or str(uuid_utils.uuid7())
    write = Write(predictions=[_prediction(own, rows, shared.digest)], contexts=[shared], documents=[basis, schema])
    return own, write


def outcome(request_id: str, **values: Any) -> Outcome:
    """An outcome of a record."""
    given: dict[str, Any] = {
        "row": 0,
        "truth": '"yes"',
        "observed_at": NOW,
        "received": NOW,
        "source": None,
        "caller": "key:lab",
    }
    return Outcome(request_id=request_id, ascertainment="routine", **{**given, **values})


def _context(model: str, task: str, **values: Any) -> Context:
    given = {"version": 1, "verb": "decide", "shadow_of": None, **values}
    texts = dict.fromkeys(("options", "software"), "{}")
    digests = dict.fromkeys(("bundle_digest", "graph_digest", "calibration_digest"), "sha256:0")
    named = {"policy": None, "site": None, "prevalence": None, "model": model, "task": task}
    made = Context(**{"digest": b"", **named, **texts, **digests, **given})
    return Context(**{**{name: getattr(made, name) for name in Context.__slots__}, "digest": context_digest(made)})


def _prediction(request_id: str, rows: int, context: bytes) -> Prediction:
    return Prediction(
        request_id=request_id,
        created=NOW,
        caller="key:ward-3",
        x_request_id=None,
        traceparent=None,
        rows=rows,
        latency=900,
        context=context,
        columns=b"columns",
        row_digests=bytes(16 * rows),
        ids=None,
        subjects=None,
        groups=None,
        key_id=KEY_ID,
    )

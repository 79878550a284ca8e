"""A small record of every kind of entry, written as a process writes it."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Final

from service.store.anchors import AnchorFile, Anchors
from service.store.canonical import context_digest
from service.store.engine import Store, open_store
from service.store.entries import Context, Document, Event, Outcome, Prediction, Write
from service.store.seals import ClearText, Seals
from service.store.secrets import Secrets

START: Final = 1_700_000_000_000_000
SECOND: Final = 1_000_000


def document(kind: str, content: bytes) -> Document:
    return Document(sha256(content).digest(), kind, content)  # type: ignore[arg-type]


SCHEMA, BASIS = document("schema", b"schema"), document("basis", b'{"classes": ["a", "b"]}')


def context(model: str = "model") -> Context:
    values = ("decide", model, 1, "sha256:b", "sha256:g", "sha256:c", "p", None, None, "{}", "{}", "multiclass")
    bare = Context(b"", *values, SCHEMA.digest, BASIS.digest)
    return Context(context_digest(bare), *values, SCHEMA.digest, BASIS.digest)


CONTEXT = context()


def request_id(stream: int, number: int) -> str:
    return f"0192f0c1-{stream:04x}-7000-8000-{number:012x}"


class Sample:
    """Writes a record in a folder.

    Parameters
    ----------
    folder : Path
    url : str, optional
        Of the store; of a file in the folder by default.
    """

    def __init__(self, folder: Path, url: str | None = None) -> None:
        self.url = url or f"sqlite://{folder / 'audit.db'}"
        self.anchors_path = folder / "anchors.jsonl"
        self.secrets_path = folder / "secrets.json"
        self.secrets = Secrets.read_or_made(self.secrets_path)
        self.seals = Seals(self.secrets)

    def open(self) -> Store:
        return open_store(self.url, signer=self.secrets.current.signer)

    def stream(self, number: int, entries: int = 20, *, together: int = 5, is_ended: bool = True) -> None:
        """One process' life, all of its entries a second apart."""
        store, now = self.open(), START + number * 1000 * SECOND
        anchors = Anchors(AnchorFile(self.anchors_path), self.secrets.current.signer, every=7, clock=lambda: now)
        for start in range(0, entries, together):
            store.write([self.write(number, one, now) for one in range(start, min(start + together, entries))])
            now += together * SECOND
            anchors.run(store)
        if is_ended:
            anchors.run(store, is_last=True)
        store.close()

    def answers(self, count: int, *, together: int = 1000) -> None:
        """So many one-row answers of one process, a second apart."""
        store = self.open()
        for start in range(0, count, together):
            store.write([self._answered(1, one, START + one) for one in range(start, min(start + together, count))])
        store.close()

    def write(self, stream: int, number: int, now: int) -> Write:
        kinds = (self._answered, self._answered, self._answered, self._outcome, self._event)
        return kinds[number % 5](stream, number, now + number % 5 * SECOND)

    def _answered(self, stream: int, number: int, now: int) -> Write:
        own, tokens = request_id(stream, number), self.secrets.current.tokens
        subject = f"patient-{number % 4}"
        texts = [
            ClearText(0, "subject", tokens.owner(subject, identifier=None, prediction_id=f"{own}.0"), subject.encode())
        ]
        sealed, keys = self.seals.texts(own, texts)
        record = Prediction(
            own, now, "key:tests", None, None, 1, 1500, CONTEXT.digest, bytes(300), tokens.digests([b"row"]),
            tokens.tokens([f"row-{number}"], "id"), tokens.tokens([subject]), None, tokens.key_id,
        )  # fmt: skip
        return Write([record], [CONTEXT], [SCHEMA, BASIS], sealed, keys)

    def _outcome(self, stream: int, number: int, now: int) -> Write:
        own = request_id(stream, number - 1)
        return Write(outcomes=[Outcome(own, 0, '"a"', now - SECOND, now, "registry", "routine", "key:tests")])

    def _event(self, stream: int, number: int, now: int) -> Write:
        del stream, number
        return Write(events=[Event(now, "login-failed", json.dumps({"reason": "unknown"}))])

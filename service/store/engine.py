"""What every engine does.

A `Store` is one connection. It belongs to one thread at a time; a process opens one to write and others to read.
Tested in tests/store/test_promises.py.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Protocol, Self
from urllib.parse import urlsplit

from service.errors import SettingsInvalid
from service.store import STORES
from service.store.entries import (
    Context,
    Document,
    Event,
    Origin,
    Outcome,
    Prediction,
    Reservation,
    Sealed,
    Selection,
    SubjectKey,
    Write,
)
from service.store.signing import Signer
from service.store.streams import Anchor, Head, Linked, Stream


class Store(Protocol):
    """Audit records and outcomes in a database.

    Every method raises `StoreUnavailable` where the database cannot be reached, read or written now. Streams, links and
    sequence numbers are made by `write`; readers get the entries alone, or `Linked` for a verification.
    """

    @classmethod
    def opened(cls, url: str, *, signer: Signer | None) -> Self:
        """Connect, check the engine's durability, and bring the schema up to date.

        Parameters
        ----------
        url : str
        signer : Signer or None
            Of what `write` appends; None for a connection that only reads.

        Raises
        ------
        SettingsInvalid
            If the database can never be used: a scheme, version, schema or file system that is not supported.
        StoreUnavailable
            If it cannot be used now.
        """

    def close(self) -> None:
        """Close the connection."""

    # Writing.
    def write(self, writes: Sequence[Write]) -> None:
        """Append entries to this connection's stream, durably, in one transaction: all of them or none."""

    def check(self) -> None:
        """Find out whether something can be written durably now."""

    def reserve(self, caller: bytes, *, owner: str, fingerprint: bytes, now: int, lease: int) -> Reservation | None:
        """Reserve an Idempotency-Key; None if it is now this owner's, otherwise what stands there.

        A reservation without a reply that is older than ``lease`` microseconds is taken over.
        """

    def release(self, caller: bytes, owner: str) -> None:
        """Give a reservation without a reply up: its request was refused."""

    def forget_replies(self, before: int) -> int:
        """Delete reservations and replies that were made before; how many there were."""

    def keep_anchor(self, anchor: Anchor) -> None:
        """Store a copy of an anchor that was written outside."""

    def keep_state(self, name: str, content: str, *, expected: str | None) -> bool:
        """Store working state (a JSON text, no part of the chain) if it still is as expected; whether it was."""

    def head(self) -> Head | None:
        """How far this connection's own stream has come; None before its first write."""

    def erase(self, subject: bytes, event: Event) -> bool:
        """Delete a subject's keys, its sealed texts and their traces in the file; whether there were any.

        Replies that repeat answers of that subject are deleted too. The event is appended in the same transaction.
        """

    def prune(self, segments: Mapping[int, int], event: Event) -> int:
        """Delete the entries of streams up to anchored ones, with what belongs to them alone; how many there were.

        Parameters
        ----------
        segments : mapping of int to int
            Sequence number of the last entry to delete, by the number of its stream.
        event : Event
            Appended in the same transaction.
        """

    # Reading.
    def state(self, name: str) -> str | None:
        """Working state."""

    def prediction(self, request_id: str) -> Prediction | None:
        """One record."""

    def predictions(self, selection: Selection) -> Iterator[Prediction]:
        """Records, in order of time."""

    def predictions_of(self, request_ids: Iterable[str]) -> dict[str, Prediction]:
        """Several records."""

    def origins_of(self, request_ids: Iterable[str]) -> dict[str, Origin]:
        """What outcomes need to know of several records."""

    def linked(self, request_id: str) -> Linked | None:
        """One record with its place in the chain."""

    def shadows_of(self, request_id: str) -> list[Prediction]:
        """What other versions made of the rows of a request."""

    def context(self, digest: bytes) -> Context | None:
        """What a record has in common with others."""

    def contexts(self, *, model: str | None = None, version: int | None = None) -> dict[bytes, Context]:
        """All contexts of a model or version, by digest."""

    def document(self, digest: bytes) -> Document | None:
        """A schema or a basis."""

    def outcomes_of(self, request_ids: Iterable[str]) -> list[Outcome]:
        """All outcomes of requests, in order of arrival."""

    def outcomes_after(self, arrival: int, *, model: str | None = None, most: int = 10_000) -> list[Outcome]:
        """Outcomes that arrived later, in order; of a model's predictions."""

    def events(self, *, kind: str | None = None, since: int | None = None) -> Iterator[Event]:
        """Events, in order of time."""

    def sealed_of(self, request_id: str) -> list[Sealed]:
        """Encrypted texts of a request's rows."""

    def subject_keys(self, request_id: str) -> dict[bytes, SubjectKey]:
        """The wrapped keys of a request's texts, by the token of their subject; those that were erased are absent."""

    def streams(self) -> list[Stream]:
        """The list of streams."""

    def entries(self, stream: int) -> Iterator[Linked]:
        """The entries of a stream, in order of their sequence numbers."""

    def anchors(self, stream: int | None = None) -> list[Anchor]:
        """Copies of anchors."""

    def size(self) -> int:
        """Bytes that the store takes."""


def open_store(url: str, *, signer: Signer | None = None) -> Store:
    """The store behind a URL.

    Raises
    ------
    SettingsInvalid, StoreUnavailable
    """
    scheme = urlsplit(url).scheme
    if scheme not in STORES:
        raise SettingsInvalid(f"TEMPERANCE_STORE must begin with {' or '.join(f'{name}://' for name in STORES)}")
    module, _, name = STORES[scheme].partition(":")
    engine: type[Store] = getattr(import_module(module), name)
    return engine.opened(url, signer=signer)

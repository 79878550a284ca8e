"""The chain around entries: streams, places in them, and signed statements about them.

Tested in tests/store/test_promises.py.
"""

from dataclasses import dataclass

from service.store.entries import Event, Outcome, Prediction


@dataclass(frozen=True, slots=True)
class Stream:
    """The entries of one writer process: a chain of its own.

    Attributes
    ----------
    number : int
        Its place in the list of streams, from 1, without gaps.
    name : str
        UUIDv7.
    started : int
    previous : bytes
        Link of the stream before in the list; zeros for the first.
    link : bytes
        SHA-256 over this row, `canonical.stream_link`; its entries begin from it.
    key_id : str
    signature : bytes
        Ed25519 over the link.
    """

    number: int
    name: str
    started: int
    previous: bytes
    link: bytes
    key_id: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class Linked:
    """An entry with its place in the chain.

    Attributes
    ----------
    stream : int
        Number of the stream.
    sequence : int
        From 1, without gaps.
    link : bytes
        SHA-256 over the previous link and the entry, `canonical.link`.
    entry : Prediction, Outcome or Event
    """

    stream: int
    sequence: int
    link: bytes
    entry: Prediction | Outcome | Event


@dataclass(frozen=True, slots=True)
class Anchor:
    """A signed statement that a stream reached a link.

    Attributes
    ----------
    stream : int
    name : str
        Of the stream.
    sequence : int
    link : bytes
    created : int
    key_id : str
    signature : bytes
        Ed25519, `canonical.anchor_bytes`.
    """

    stream: int
    name: str
    sequence: int
    link: bytes
    created: int
    key_id: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """How far a stream has come.

    Attributes
    ----------
    stream : int
    name : str
        Of the stream.
    sequence : int
        Of its last entry; 0 where it has none.
    link : bytes
        Of that entry, or the stream's own.
    """

    stream: int
    name: str
    sequence: int
    link: bytes

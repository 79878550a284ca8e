"""What is kept of the tests of a version between two looks: JSON in the store, the same from every process.

Tested in tests/monitoring/test_alarms.py.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import numpy as np
import orjson

from service.core.sequential.change_mixture import Evidence, State
from service.monitoring.alarm_tests import VersionTest

FORMAT: Final = 1
SEEN_BITS: Final = 1 << 20
HASHES: Final = 7


@dataclass(frozen=True, slots=True)
class Raised:
    """An alarm.

    Attributes
    ----------
    test : str
        Key of the test.
    outcomes : int
        After how many outcomes of the test's own rows.
    log_evidence : float
        In nats.
    """

    test: str
    outcomes: int
    log_evidence: float


class Seen:
    """Subjects that were counted, as a Bloom filter: one that was counted is always found; few others are."""

    def __init__(self, bits: bytes = b"") -> None:
        self._bits = bytearray(bits)

    def add(self, subject: bytes) -> bool:
        """Count a subject by its token of 16 bytes; whether it is new."""
        if not self._bits:
            self._bits = bytearray(SEEN_BITS // 8)
        first, step = int.from_bytes(subject[:8]), int.from_bytes(subject[8:]) | 1
        places = [(first + i * step) % SEEN_BITS for i in range(HASHES)]
        is_new = not all(self._bits[place >> 3] >> (place & 7) & 1 for place in places)
        for place in places:
            self._bits[place >> 3] |= 1 << (place & 7)
        return is_new

    @property
    def content(self) -> bytes:
        """Its bits; none before the first subject."""
        return bytes(self._bits)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the tests of a version are.

    Attributes
    ----------
    digest : str
        Of the version; of another one, nothing is taken over.
    arrival : int
        Of the last outcome that was looked at.
    states : mapping of str to State
        By key of the test.
    raised : tuple of Raised
    seen : bytes
        `Seen.content`.
    """

    digest: str
    arrival: int
    states: Mapping[str, State]
    raised: tuple[Raised, ...] = ()
    seen: bytes = b""

    @classmethod
    def begun(cls, digest: str, tests: list[VersionTest]) -> Self:
        """Before any outcome."""
        return cls(digest, 0, {test.key: test.test.begin() for test in tests})

    @classmethod
    def read(cls, text: str | None, digest: str, tests: list[VersionTest]) -> Self:
        """What was kept; the beginning where there is nothing, or where it is of other tests or another format."""
        begun = cls.begun(digest, tests)
        kept = {} if text is None else orjson.loads(text)
        if kept.get("format") != FORMAT or kept["digest"] != digest or kept["states"].keys() != begun.states.keys():
            return begun
        states = {key: _state(value) for key, value in kept["states"].items()}
        if any(states[key].memory.shape != own.memory.shape for key, own in begun.states.items()):
            return begun
        raised = tuple(Raised(**one) for one in kept["raised"])
        return cls(digest, kept["arrival"], states, raised, base64.b64decode(kept["seen"]))

    def text(self) -> str:
        """What is kept."""
        content = {
            "format": FORMAT,
            "digest": self.digest,
            "arrival": self.arrival,
            "states": {key: _content(state) for key, state in self.states.items()},
            "raised": [{"test": r.test, "outcomes": r.outcomes, "log_evidence": r.log_evidence} for r in self.raised],
            "seen": base64.b64encode(self.seen).decode(),
        }
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY).decode()

    def followed(self, key: str, state: State, raised: Raised | None) -> Self:
        """With a test that went on; an alarm is raised once."""
        is_new = raised is not None and all(one.test != key for one in self.raised)
        more = (raised,) if is_new and raised is not None else ()
        return replace(self, states={**self.states, key: state}, raised=(*self.raised, *more))


def _content(state: State) -> dict[str, Any]:
    evidence = state.evidence
    return {
        "memory": state.memory,
        "rows": evidence.rows,
        "reserve": float(evidence.reserve),
        "capital": evidence.capital,
    }


def _state(content: dict[str, Any]) -> State:
    evidence = Evidence(content["rows"], np.array(content["reserve"]), np.array(content["capital"]))
    return State(np.array(content["memory"]), evidence)

"""A published version whose numbers someone changes, renewing whatever sums and hashes there are."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from service.bundle.binding import bound
from service.bundle.files import file_sha256
from service.bundle.record import RECORD_FILE, parse_record
from service.bundle.repository import Bundle, Repository
from service.bundle.stage_test import without_stage_test
from service.bundle.state import STATE_FILE, State, dump_state, load_state
from service.bundle.sums import SUMS_FILE

Json = dict[str, Any]
Step = str | int


@dataclass(frozen=True)
class Version:
    """Files of a published version, to be changed one at a time and put back."""

    repository: Repository
    name: str
    number: int

    @classmethod
    def of(cls, bundle: Bundle) -> "Version":
        assert bundle.version is not None
        return cls(Repository(bundle.path.parents[1]), bundle.name, bundle.version)

    @property
    def folder(self) -> Path:
        return self.repository.folder(self.name) / str(self.number)

    @property
    def record(self) -> Json:
        found: Json = json.loads((self.folder / RECORD_FILE).read_text())
        return found

    @property
    def state(self) -> State:
        return load_state((self.folder / STATE_FILE).read_bytes(), where=STATE_FILE)

    def loaded(self) -> Bundle:
        return self.repository.bundle(self.name, self.number)

    def write(self, record: Json | None = None, state: State | None = None, manifest: str | None = None) -> None:
        """Put changed files in place, under sums that match."""
        if record is not None:
            (self.folder / RECORD_FILE).write_text(json.dumps(record, indent=2) + "\n")
        if state is not None:
            (self.folder / STATE_FILE).write_bytes(dump_state(state))
        if manifest is not None:
            (self.folder / "manifest.toml").write_text(manifest)
        files = sorted(file for file in self.folder.iterdir() if file.name != SUMS_FILE)
        (self.folder / SUMS_FILE).write_text("".join(f"{file_sha256(file)}  {file.name}\n" for file in files))

    def write_bound(self, record: Json | None = None, state: State | None = None) -> None:
        """Put changed files in place, under sums and a hash over both that match, as far as they can be read."""
        found = parse_record(json.dumps(record or self.record), where=RECORD_FILE)
        arrays = self.state if state is None else state
        self.write(json.loads(bound(found, arrays).to_json()), state)

    def make_old(self) -> None:
        """Take away what versions had not before their stages had a self-test."""
        record, state = self.record, self.state
        record.pop("content_sha256", None)
        self.write(record, without_stage_test("declared", without_stage_test("learned", state)))


def numbers(value: Any, at: tuple[Step, ...] = ()) -> Iterator[tuple[Step, ...]]:
    """Where the numbers of a JSON document stand."""
    if isinstance(value, bool) or not isinstance(value, dict | list | int | float):
        return
    if isinstance(value, int | float):
        yield at
        return
    steps: Any = value.items() if isinstance(value, dict) else enumerate(value)
    for step, inner in steps:
        yield from numbers(inner, (*at, step))


def with_number(document: Json, at: tuple[Step, ...], change: Callable[[float], float]) -> Json:
    """The document with one other number."""
    changed: Any = json.loads(json.dumps(document))
    inner = changed
    for step in at[:-1]:
        inner = inner[step]
    whole, found = isinstance(inner[at[-1]], int), change(float(inner[at[-1]]))
    inner[at[-1]] = int(found) if whole and float(found).is_integer() else found
    return changed  # type: ignore[no-any-return]  # an object, as the document is


def with_cell(state: State, name: str, at: int, change: Callable[[float], float]) -> State:
    """The arrays with one other number."""
    array = state[name].copy()
    with np.errstate(all="ignore"):
        value = np.array(change(float(array.flat[at])))
        array.flat[at] = value.astype(array.dtype) if np.isfinite(value) or array.dtype.kind == "f" else array.flat[at]
    return state | {name: array}


CHANGES: dict[str, Callable[[float], float]] = {
    "a hundredth more": lambda value: value * 1.01,
    "one more": lambda value: value + 1.0,
    "the other sign": lambda value: -value,
    "zero": lambda value: 0.0 * value,
    "a milliard": lambda _value: 1e9,
    "not a number": lambda _value: float("nan"),
}

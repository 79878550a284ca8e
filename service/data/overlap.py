"""Rows that two data sets share: a calibration on training rows, or a report on calibration rows, is too good."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from service.bundle.record import Provenance
from service.data.dataset import Dataset
from service.errors import DataError
from service.runtime.rows import Fields, Rows

NEARLY_ALL: Final = 0.95
MOSTLY_UNIQUE: Final = 0.9
"""Below it rows are of few kinds, and the same ones turn up in every sample of them."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """How many calibration rows are among training rows.

    Attributes
    ----------
    rows : int
    shared : int
        Of them, how many are also training rows, value by value.
    distinct : int
        How many different rows they are.
    same : bool
        Whether both are one file.
    """

    rows: int
    shared: int
    distinct: int
    same: bool

    @property
    def is_refused(self) -> bool:
        """Whether they are almost certainly the training rows."""
        repeated = self.shared >= NEARLY_ALL * self.rows and self.distinct >= MOSTLY_UNIQUE * self.rows
        return self.same or repeated

    @property
    def note(self) -> str | None:
        """Note for a calibration on such rows; None where no row is shared."""
        if self.same:
            return "the calibration rows are the training rows (the same file)"
        if not self.shared:
            return None
        return f"{self.shared} of {self.rows} calibration rows are training rows too"


def compare(data: Dataset, train: Dataset) -> Overlap:
    """How many calibration rows are among training rows."""
    own, others = list(_keys(data.rows)), set(_keys(train.rows))
    shared = sum(key in others for key in own)
    return Overlap(len(own), shared, len(set(own)), data.digest == train.digest)


def refuse_overlap(overlap: Overlap) -> None:
    """Raise DataError where calibration rows are almost certainly the training rows."""
    if overlap.is_refused:
        raise DataError(
            f"{overlap.note}: a calibration on them is over-confident. Give --data rows that the model was not trained "
            "on, or add --allow-overlap. Nothing was published"
        )


def seen_notes(data: Dataset, provenance: Provenance | None) -> tuple[str, ...]:
    """Notes for a report on rows that the version was fitted on, as far as the record shows."""
    if provenance is None:
        return ()
    notes = {
        "these are the calibration rows that the version was fitted on: new rows will fare worse": (
            data.digest == provenance.data_digest
        ),
        "these are the training rows that the version was fitted on: new rows will fare worse": (
            data.digest == provenance.train_digest
        ),
    }
    return tuple(text for text, holds in notes.items() if holds)


def _keys(rows: Rows) -> Iterator[bytes]:
    """A digest of every row; equal values have equal digests."""
    if not isinstance(rows, Fields):
        yield from map(_digest, _bytes_of(rows))
        return
    numbers = list(_bytes_of(rows.numbers)) if rows.numbers.shape[1] else [b""] * len(rows)
    lengths = [None] * len(rows) if rows.lengths is None else rows.lengths.tolist()
    for i, (number, length) in enumerate(zip(numbers, lengths, strict=True)):
        yield _digest(b"\0".join([number, *(_cell(values[i], length) for values in rows.others.values())]))


def _bytes_of(array: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]") -> Iterator[bytes]:
    plain = np.ascontiguousarray(array)
    if plain.dtype.kind == "f":
        plain = np.where(np.isnan(plain), np.nan, plain + 0.0)  # one NaN, and no zero below zero
    return (row.tobytes() for row in plain)


def _cell(cell: object, length: int | None) -> bytes:
    if not isinstance(cell, np.ndarray):
        return repr(cell).encode("utf-8", "surrogatepass")
    own = cell if length is None else cell[:length]
    return np.ascontiguousarray(own, dtype=np.float64 if own.dtype.kind == "f" else np.int64).tobytes()


def _digest(key: bytes) -> bytes:
    return hashlib.blake2b(key, digest_size=16).digest()

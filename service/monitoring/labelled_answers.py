"""Recorded answers with the outcome of every row: what a refit learns from.

Tested in tests/monitoring/test_refit.py.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from service.core.numerics import Array, Indices
from service.data.dataset import Dataset


@dataclass(frozen=True, slots=True)
class LabelledAnswers:
    """Rows that were answered, and what turned out to be true of them.

    Attributes
    ----------
    logits : ndarray of shape (N, K)
        Raw, as recorded; of a multilabel model (N, M) log-odds.
    labels : ndarray of shape (N,)
        Class indices; of a multilabel model 0 or 1, shape (N, M).
    subjects : ndarray of shape (N,) or None
        0..G-1: whose row it is. None where no row has a subject.
    scores : dict of str to ndarray of shape (N,)
        Recorded OOD scores.
    since, until : int
        First and last time of an answer, in microseconds since 1970.
    digest : str
        ``sha256:…`` of all rows.
    """

    logits: Array
    labels: npt.NDArray[np.intp]
    subjects: Indices | None
    scores: dict[str, Array]
    since: int
    until: int
    digest: str

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.logits)

    @property
    def weights(self) -> Array | None:
        """One over the rows of the same subject, so that every subject weighs one; None where each has one row."""
        if self.subjects is None:
            return None
        counts = np.bincount(self.subjects)
        return None if counts.max() == 1 else 1.0 / counts[self.subjects]

    def data(self, labels: npt.NDArray[Any] | None = None) -> Dataset:
        """The rows as a fit takes them; their inputs are not recorded, and none has a column.

        Parameters
        ----------
        labels : ndarray of shape (N,), optional
            Of one label, in place of all.
        """
        rows, own = np.empty((len(self), 0)), self.labels if labels is None else labels
        return Dataset(rows, own, self.subjects, self.weights, self.digest)

    def events(self, states: int) -> int:
        """Subjects (or rows) that show the rarest class, or the rarest state of a label.

        Parameters
        ----------
        states : int
            Number of classes; 2 of a multilabel model.
        """
        units = np.arange(len(self)) if self.subjects is None else self.subjects
        columns = self.labels.reshape(len(self), -1).T
        counts = [len(np.unique(units[column == k])) for column in columns for k in range(states)]
        return min(counts)

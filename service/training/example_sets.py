"""Labelled rows in memory: what a classifier is trained on.

Tested in tests/training/test_group_splits.py.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from service.training.failures import TrainingFailed

Values = npt.NDArray[Any]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Rows, their labels, and what rows belong together.

    Attributes
    ----------
    inputs : ndarray of shape (N, ...)
        What the network takes, in float32 or int64.
    labels : ndarray of shape (N,)
        Class indices; multilabel: 0 or 1, shape (N, M); sequence: class indices of shape (N, L), -1 for padding.
    groups : ndarray of shape (N,), optional
        Rows of a group depend on each other: no split parts them.
    """

    inputs: Values
    labels: Labels
    groups: Values | None = None

    def __post_init__(self) -> None:
        sizes = {len(self.inputs), len(self.labels), len(self.labels if self.groups is None else self.groups)}
        if len(sizes) > 1:
            raise TrainingFailed("inputs, labels and groups must have as many rows as each other")
        if not len(self.labels):
            raise TrainingFailed("there are no rows")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Values) -> "Examples":
        """Some of the rows, by index or by flag."""
        groups = None if self.groups is None else self.groups[indices]
        return Examples(self.inputs[indices], self.labels[indices], groups)

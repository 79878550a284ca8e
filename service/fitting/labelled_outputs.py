"""Labelled rows with what the graph answers for them: what every fit learns from.

Tested in tests/fitting/test_fit.py.
"""

from dataclasses import dataclass
from pathlib import Path

from service.core.numerics import Array
from service.data.column_roles import Columns
from service.data.dataset import Dataset, read_dataset
from service.prediction.bulk import Track, raw_of
from service.runtime.model import Model, Raw


@dataclass(frozen=True, slots=True)
class LabelledOutputs:
    """Labelled rows and the graph's raw outputs for them."""

    data: Dataset
    raw: Raw

    @property
    def logits(self) -> Array:
        """Raw logits, shape (N, K)."""
        return self.raw.logits

    @property
    def columns(self) -> Array:
        """Inputs with a plausible range, shape (N, F)."""
        return self.raw.columns

    @property
    def features(self) -> Array:
        """What feature scores look at, shape (N, D)."""
        return self.raw.features


def run_labelled(model: Model, path: Path, columns: Columns, track: Track) -> LabelledOutputs:
    """Read labelled rows from a file, and run the graph on them.

    Raises
    ------
    DataError
        If the rows do not fit the model.
    """
    data = read_dataset(path, model.manifest, columns, inputs=model.inputs)
    return LabelledOutputs(data, raw_of(model, data.rows, track=track, place=data.where))

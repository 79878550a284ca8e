"""Plausible ranges of a model's numbers, proposed from rows that it was trained on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from service.core.numerics import Array
from service.evaluation.dataset import read_rows
from service.importer.text import rounded
from service.runtime.model import Model
from service.runtime.rows import Fields

MARGIN = 0.25
"""How much wider than the data a range is on either side, in widths of the data."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A range for a column, and what the rows hold."""

    low: float
    high: float
    why: str


def propose_ranges(model: Model, path: Path) -> dict[str, Proposal]:
    """Ranges of the columns of numbers, wider than the rows' and rounded.

    Columns of categories and of codes have none, and neither have those that hold one number alone. A column that never
    falls below zero keeps zero as its lower end, and none leaves what the manifest allows.

    Raises
    ------
    DataError
        If the rows do not fit the model.
    """
    rows = read_rows(path, model.manifest, inputs=model.inputs)
    numbers = rows.numbers if isinstance(rows, Fields) else rows
    found: dict[str, Proposal] = {}
    for column, values in zip(model.inputs.columns, numbers.T, strict=True):
        feature = model.manifest.features.get(column)
        if feature is None or feature.categories is None:
            proposal = _range(values[np.isfinite(values)], None if feature is None else feature.allowed)
            found |= {} if proposal is None else {column: proposal}
    return found


def _range(values: Array, allowed: tuple[float, float] | None) -> Proposal | None:
    if not len(values) or (least := float(values.min())) == (most := float(values.max())):
        return None
    if allowed is not None and (values == np.round(values)).all():
        return None  # codes, of which every one that is allowed is as good as another
    margin = MARGIN * (most - least)
    low, high = rounded(least - margin, most + margin)
    low = 0.0 if least >= 0.0 and low < 0.0 else low
    if allowed is not None:
        low, high = max(low, allowed[0]), min(high, allowed[1])
    return Proposal(low, high, f"{len(values)} training rows hold {least:.6g} to {most:.6g}")

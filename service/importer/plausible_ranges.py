"""Plausible ranges of a model's numbers, proposed from rows that it was trained on."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from service.bundle.drafts import write_plausible
from service.bundle.repository import Bundle, Repository
from service.core.numerics import Array
from service.data.dataset import read_rows
from service.errors import ServiceError
from service.importer.manifest_text import rounded_range
from service.runtime.model import Model, load_model
from service.runtime.rows import Fields

MARGIN = 0.25
"""How much wider than the data a range is on either side, in widths of the data."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A plausible range for a column.

    Attributes
    ----------
    low, high : float
    why : str
        What the rows hold.
    exceeding : int
        How many rows leave the range that the manifest has.
    """

    low: float
    high: float
    why: str
    exceeding: int = 0


def propose_ranges(model: Model, path: Path) -> dict[str, Proposal]:
    """Ranges of the columns of numbers, wider than the rows' and rounded_range.

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
            finite = values[np.isfinite(values)]
            proposal = _range(finite, None if feature is None else feature.allowed)
            declared = None if feature is None else feature.plausible
            if proposal is not None:
                found[column] = replace(proposal, exceeding=_exceeding(finite, declared))
    return found


def ranges_to_add(bundle: Bundle, train_data: Path) -> dict[str, Proposal]:
    """Proposals for the columns of a version that have no range, or one that training rows leave."""
    found = propose_ranges(load_model(bundle), train_data)
    held = {name for name, feature in bundle.manifest.features.items() if feature.plausible is not None}
    return {name: proposal for name, proposal in found.items() if name not in held or proposal.exceeding}


def add_ranges(repository: Repository, name: str, train_data: Path) -> dict[str, Proposal]:
    """Propose ranges from training rows, and write them into a draft just made; it is removed if they do not fit it."""
    draft = repository.draft(name)
    try:
        found = propose_ranges(load_model(draft), train_data)
        write_plausible(draft.path, {column: (p.low, p.high, p.why) for column, p in found.items()})
    except ServiceError:
        shutil.rmtree(draft.path)
        raise
    return {column: replace(p, exceeding=0) for column, p in found.items()}  # what was exceeded is replaced


def _exceeding(values: Array, declared: tuple[float, float] | None) -> int:
    return 0 if declared is None else int(np.sum((values < declared[0]) | (values > declared[1])))


def _range(values: Array, allowed: tuple[float, float] | None) -> Proposal | None:
    if not len(values) or (least := float(values.min())) == (most := float(values.max())):
        return None
    if allowed is not None and (values == np.round(values)).all():
        return None  # codes, of which every one that is allowed is as good as another
    margin = MARGIN * (most - least)
    low, high = rounded_range(least - margin, most + margin)
    low = 0.0 if least >= 0.0 and low < 0.0 else low
    if allowed is not None:
        low, high = max(low, allowed[0]), min(high, allowed[1])
    return Proposal(low, high, f"{len(values)} training rows hold {least:.6g} to {most:.6g}")

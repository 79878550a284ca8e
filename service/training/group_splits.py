"""Honest splits: rows that belong together stay together, and every part has its share of the classes."""

from collections.abc import Mapping

import numpy as np

from service.core.losses.sequence import PADDING
from service.training.example_sets import Examples, Labels, Values
from service.training.failures import TrainingFailed


def split_by_group(
    examples: Examples, shares: Mapping[str, float], *, seed: int = 0, stratify: bool = True
) -> dict[str, Examples]:
    """Parts of the rows by name; no group is in two of them.

    Parameters
    ----------
    examples : Examples
        Without groups every row is one of its own.
    shares : mapping of str to float
        Of the groups; they sum to one.
    seed : int
    stratify : bool
        Deal the groups out by their most frequent class, so that rare classes are in every part.

    Raises
    ------
    TrainingFailed
        If the shares do not sum to one, or a part would be empty.

    Examples
    --------
    >>> rows = Examples(np.zeros((10, 1)), np.zeros(10, dtype=int), np.repeat(np.arange(5), 2))
    >>> {name: len(part) for name, part in split_by_group(rows, {"train": 0.6, "test": 0.4}).items()}
    {'train': 6, 'test': 4}
    """
    if abs(sum(shares.values()) - 1.0) > 1e-9 or min(shares.values()) <= 0.0:
        raise TrainingFailed("the shares of a split must be positive and sum to 1")
    members, strata = _groups(examples, stratify=stratify)
    part = _dealt(strata, list(shares.values()), np.random.default_rng(seed))
    if empty := [name for k, name in enumerate(shares) if not (part == k).any()]:
        raise TrainingFailed(f"there are too few groups for the parts {', '.join(empty)}")
    return {name: examples.take(np.flatnonzero(part[members] == k)) for k, name in enumerate(shares)}


def _groups(examples: Examples, *, stratify: bool) -> tuple[Labels, Values]:
    """The group of every row, and the stratum of every group."""
    names = np.arange(len(examples)) if examples.groups is None else examples.groups
    _, members = np.unique(names, return_inverse=True)
    if not stratify:
        return members, np.zeros(members.max() + 1, dtype=np.int64)
    return members, np.array([_stratum(examples.labels[rows]) for rows in _rows_by_group(members)])


def _rows_by_group(members: Labels) -> list[Labels]:
    order = np.argsort(members, kind="stable")
    return np.split(order, np.cumsum(np.bincount(members))[:-1])


def _stratum(labels: Labels) -> int:
    """The most frequent class of one group; of a multilabel set the number of labels."""
    if labels.ndim == 2 and labels.min() >= 0 and labels.max() <= 1:
        return int(labels.sum(axis=1).max())
    return int(np.bincount(labels[labels != PADDING], minlength=1).argmax())


def _dealt(strata: Values, shares: list[float], rng: np.random.Generator) -> Labels:
    """The part of every group: in each stratum a random order, cut where the shares end."""
    part = np.zeros(len(strata), dtype=np.int64)
    edges = np.cumsum(shares)[:-1]
    for stratum in np.unique(strata):
        groups = rng.permutation(np.flatnonzero(strata == stratum))
        offset = rng.random()  # small strata would all be cut at the same place otherwise
        places = (np.arange(len(groups)) + offset) / len(groups)
        part[groups] = np.searchsorted(edges, places, side="right")
    return part

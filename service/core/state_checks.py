"""Checks of what was fitted and stored: numbers, of the shapes and within the bounds that the arithmetic needs.

Arrays come back from files that anyone can edit. What arithmetic takes for granted is therefore checked where a fitted
part is made, once, and never where it is used.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from service.core.numerics import EXACT, Array, Indices

SUM_TOLERANCE = 1e-6
"""Of shares that sum to one: decimals of a file are rounded."""


def check_array(name: str, values: Any, *shape: int | None) -> npt.NDArray[Any]:
    """The values as an array of finite numbers of that shape; an axis of None has any length.

    Parameters
    ----------
    name : str
        What an error calls it.
    values : array_like
    *shape : int or None

    Raises
    ------
    ValueError
        If it holds anything but finite real numbers, or has another shape.

    Examples
    --------
    >>> check_array("means", np.zeros((2, 3)), None, 4)
    Traceback (most recent call last):
    ValueError: means must have the shape (any, 4), not (2, 3)
    """
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name} must hold numbers")
    if len(shape) != array.ndim or any(wide not in (None, own) for wide, own in zip(shape, array.shape, strict=True)):
        words = ", ".join("any" if wide is None else str(wide) for wide in shape)
        raise ValueError(f"{name} must have the shape ({words}), not {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite")
    return array


def check_number(
    name: str, value: Any, *, above: float = -math.inf, least: float = -math.inf, below: float = math.inf
) -> None:
    """Refuse what is no finite number between two open bounds, or less than the least.

    Raises
    ------
    ValueError

    Examples
    --------
    >>> check_number("temperature", 0.0, above=0.0)
    Traceback (most recent call last):
    ValueError: temperature must be greater than 0
    """
    number = float(check_array(name, value))
    if not number > above:
        raise ValueError(f"{name} must be greater than {above:g}")
    if not number >= least:
        raise ValueError(f"{name} must be at least {least:g}")
    if not number < below:
        raise ValueError(f"{name} must be less than {below:g}")


def check_positive(name: str, values: Any, *shape: int | None) -> Array:
    """`check_array` of numbers above zero."""
    array = check_array(name, values, *shape)
    if not (array > 0.0).all():
        raise ValueError(f"{name} must be greater than 0")
    return array


def check_ascending(name: str, values: Any, *shape: int | None) -> Array:
    """`check_array` of numbers that do not fall along the last axis."""
    array = check_array(name, values, *shape)
    if (array[..., 1:] < array[..., :-1]).any():
        raise ValueError(f"{name} must not fall")
    return array


def check_counts(name: str, values: Any, *, least: int = 0) -> Indices:
    """An array of one axis that holds whole numbers, each at least the least.

    Raises
    ------
    ValueError

    Examples
    --------
    >>> check_counts("n", [3.0, 0.0])
    array([3, 0])
    """
    array = np.asarray(check_array(name, values, None), dtype=np.float64)
    if (array != np.floor(array)).any() or (array < least).any() or (array > EXACT).any():
        raise ValueError(f"{name} must hold whole numbers from {least}")
    return array.astype(np.intp)


def edges_of(name: str, stored: Any, *, groups: int, total: int) -> Indices:
    """Where arrays of several groups, one after the other, are to be split; shape (groups - 1,).

    Parameters
    ----------
    name : str
    stored : array_like of shape (groups,)
        How many numbers every group has.
    groups, total : int

    Raises
    ------
    ValueError
        If there is another number of groups, or they are not the total together.
    """
    counts = check_counts(name, stored)
    if len(counts) != groups or counts.sum() != total:
        raise ValueError(f"{name} must hold {groups} counts that sum to {total}")
    return np.cumsum(counts)[:-1]


def check_shares(name: str, values: Any, *shape: int | None) -> Array:
    """`check_positive` of numbers that sum to one along the last axis, to within `SUM_TOLERANCE`.

    Raises
    ------
    ValueError

    Examples
    --------
    >>> check_shares("prevalence", [1.5, 1.5], None)
    Traceback (most recent call last):
    ValueError: prevalence must sum to 1, not 3
    """
    array = check_positive(name, values, *shape)
    sums = array.sum(axis=-1)
    if (off := np.abs(sums - 1.0) > SUM_TOLERANCE).any():
        raise ValueError(f"{name} must sum to 1, not {float(sums[off][0] if off.ndim else sums):g}")
    return array

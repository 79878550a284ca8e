"""Inputs that the service fills itself: a client may send one of them by name, if the values are the same."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np

from service.errors import Fault
from service.runtime.fields import Constant, FieldInputs
from service.runtime.inputs import Inputs
from service.runtime.rows import Entry


@dataclass(frozen=True, slots=True)
class Filled:
    """What a row need not hold.

    Attributes
    ----------
    masks : tuple of str
    constants : tuple of Constant
    varying : Entry or None
        The input whose length is the row's.
    """

    masks: tuple[str, ...] = ()
    constants: tuple[Constant, ...] = ()
    varying: Entry | None = None

    @classmethod
    def of(cls, inputs: Inputs) -> "Filled":
        """What the service fills for a model."""
        if not isinstance(inputs, FieldInputs):
            return cls()
        return cls(tuple(mask.name for mask in inputs.masks), inputs.constants, inputs.varying)

    @property
    def names(self) -> frozenset[str]:
        """Names of these inputs."""
        return frozenset((*self.masks, *(constant.name for constant in self.constants)))

    def faults(self, row: Mapping[str, object], i: int) -> Iterator[Fault]:
        """Where a row holds other values than the service fills in."""
        cell = None if self.varying is None else row.get(self.varying.name)
        length = len(cell) if isinstance(cell, list) else None
        for name in self.masks:
            if name in row and length is not None and not self._is_mask(row[name], length):
                detail = f"is filled by the service, with 1 at each of the row's {length} positions; leave it out"
                yield Fault(("instances", i, name), "wrong-mask", detail)
        for constant in self.constants:
            if constant.name in row and not self._is_constant(row[constant.name], constant, length or 1):
                detail = f"is filled by the service, with {constant.value:g} everywhere; leave it out"
                yield Fault(("instances", i, constant.name), "wrong-constant", detail)

    def _is_constant(self, cell: object, constant: Constant, length: int) -> bool:
        """The number everywhere, as far as the row goes or as a graph of one length takes it."""
        full = self.varying.shape[0] if self.varying is not None and self.varying.fixed else None
        as_taken = tuple(length if size is None else size for size in constant.shape)
        as_sent = tuple(length if size in (None, full) else size for size in constant.shape)
        try:
            values = np.array(cell)
        except ValueError:  # ragged
            return False
        fits = values.shape in (as_taken, as_sent) and values.dtype.kind in "iufb"
        return fits and bool((values == constant.value).all())

    def _is_mask(self, cell: object, length: int) -> bool:
        """Ones for every position, and zeros at most as far as a graph of one length is filled up."""
        if not _is_list(cell) or len(cell) < length:
            return False
        longest = length
        if self.varying is not None and self.varying.fixed:
            longest = self.varying.shape[0] or length
        return len(cell) <= longest and cell == [1] * length + [0] * (len(cell) - length)


def _is_list(cell: object) -> TypeGuard[list[object]]:
    return isinstance(cell, list)

"""Padding that a file holds and the manifest does not declare.

Tested in tests/tasks/test_padding.py.
"""

import numpy as np

from service.core.numerics import Indices
from service.errors import DataError
from service.runtime.fields import FieldInputs
from service.runtime.inputs import Inputs
from service.runtime.rows import Fields, Rows, Values


def refuse_undeclared(rows: Rows, inputs: Inputs | None, ends: Indices, *, where: str, evidence: str) -> None:
    """Raise DataError if rows end before their tensors do and no input declares the padding value.

    Parameters
    ----------
    rows : Rows
    inputs : Inputs or None
    ends : ndarray of shape (N,)
        How many positions every row has.
    where, evidence : str
        The file, and what shows the ends of the rows, in words.
    """
    if not isinstance(rows, Fields) or not isinstance(inputs, FieldInputs) or inputs.varying is not None:
        return
    for entry in inputs.tensors:
        values = rows.others[entry.name]
        behind = np.arange(values.shape[1])[None, :] >= ends[:, None]
        if behind.any() and (fill := _one_value(values[behind])) is not None:
            raise DataError(
                f"{where}: rows of {entry.name!r} end in {fill} where {evidence}; declare pad = {fill} for it under "
                "[[inputs]], so that padding is not read as positions"
            )


def _one_value(values: Values) -> str | None:
    first = values.reshape(-1)[0]
    return f"{first:g}" if np.isfinite(first) and (values == first).all() else None

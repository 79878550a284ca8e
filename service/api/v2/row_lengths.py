"""Lengths of the rows of padded tensors, and checks of inputs that the service fills in itself.

Tested in tests/api/v2/test_input_tensors.py.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from service.api.v2.expected_tensors import LENGTHS, shape_text, takes_lengths
from service.api.v2.tensors import TEXT, Sent, Tensor, Values, refusal
from service.core.numerics import Flags, Indices
from service.runtime.fields import Constant, FieldInputs, Mask
from service.runtime.rows import Entry


def lengths_of_rows(sent: Sent, inputs: FieldInputs, others: Mapping[str, Values]) -> Indices | None:
    """Lengths, shape (N,), as masks or `lengths` state them; None where rows do not vary in length.

    A request without either has rows of full length, as long as none of them ends in the padding value.

    Parameters
    ----------
    sent : Sent
        The tensors that are left; masks and lengths are taken.
    inputs : FieldInputs
    others : mapping of str to ndarray
        The padded tensors among them, by name.

    Raises
    ------
    InvalidRequest
    """
    varying = inputs.varying
    if varying is None:
        return None
    values = others[varying.name]
    rows, width = values.shape[:2]
    _check_widths(inputs, others, width)
    given = list(_given(sent, inputs, width))
    if any((other != given[0]).any() for other in given[1:]):
        raise refusal(("inputs",), "contradiction", "masks and lengths must agree for every row")
    if not given and _ends_padded(values, varying):
        raise refusal(("inputs",), "missing-input", f"rows end in the padding value; send {_needed(inputs)}")
    return given[0] if given else np.full(rows, width, dtype=np.intp)


def check_constants(sent: Sent, inputs: FieldInputs) -> None:
    """Take inputs that the service fills with one number, and refuse any that holds another.

    Raises
    ------
    InvalidRequest
    """
    for constant in inputs.constants:
        if constant.name in sent:
            _check_constant(sent.take(constant.name), constant)


def _given(sent: Sent, inputs: FieldInputs, width: int) -> Iterator[Indices]:
    for mask in inputs.masks:
        if mask.name in sent:
            yield _of_mask(sent.take(mask.name), mask, width)
    if LENGTHS in sent and takes_lengths(inputs):
        yield _of_lengths(sent.take(LENGTHS), width)


def _check_widths(inputs: FieldInputs, others: Mapping[str, Values], width: int) -> None:
    for entry in inputs.tensors:
        if entry.pad is not None and others[entry.name].shape[1] != width:
            raise refusal(("inputs",), "wrong-shape", f"{entry.name!r} must be as long as the row's other inputs")


def _needed(inputs: FieldInputs) -> str:
    names = [*(mask.name for mask in inputs.masks), *([LENGTHS] if takes_lengths(inputs) else [])]
    return " or ".join(map(repr, names))


def _ends_padded(values: Values, entry: Entry) -> bool:
    last: Flags = values[:, -1] == entry.pad
    return bool(last.reshape(len(values), -1).all(axis=1).any())


def _of_mask(tensor: Tensor, mask: Mask, width: int) -> Indices:
    values = tensor.values
    if values.ndim != 2 or values.shape[1] != width or tensor.datatype == TEXT:
        raise tensor.refusal("shape", "wrong-shape", f"must be {shape_text((None, width))}, as the rows are")
    lengths: Indices = (values == 1).sum(axis=1)
    if (lengths == 0).any() or (values != (np.arange(width) < lengths[:, None])).any():
        detail = (
            f"must be 1 at the positions of every row and 0 behind its end; without {mask.name!r} all are positions"
        )
        raise tensor.refusal("data", "wrong-mask", detail)
    return lengths


def _of_lengths(tensor: Tensor, width: int) -> Indices:
    values = tensor.values.reshape(len(tensor.values), -1)
    if values.shape[1] != 1 or tensor.datatype in (TEXT, "BOOL"):
        raise tensor.refusal("shape", "wrong-shape", "must be [rows], of whole numbers")
    own = values[:, 0]
    if own.dtype.kind == "O" or not ((own >= 1) & (own <= width) & (own == np.floor(own))).all():
        raise tensor.refusal("data", "wrong-length", f"must be whole numbers from 1 to {width}")
    return own.astype(np.intp)


def _check_constant(tensor: Tensor, constant: Constant) -> None:
    if tensor.values.ndim != 1 + len(constant.shape) or (tensor.values != constant.value).any():
        detail = f"is filled by the service, with {constant.value:g} everywhere; leave it out"
        raise tensor.refusal("data", "wrong-constant", detail)

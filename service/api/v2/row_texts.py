"""Tensors of a request that say of every row whose it is and what it is grouped by; no row is made of them."""

from collections.abc import Sequence
from typing import Final

from service.api.v2.expected_tensors import ROW_TEXTS, row_texts_of
from service.api.v2.tensors import TEXT, Tensor
from service.runtime.inputs import Inputs

LONGEST: Final = 200  # characters, as of the parameters of `/v1`
Texts = dict[str, list[str]]


def without_texts(tensors: Sequence[Tensor], inputs: Inputs) -> tuple[list[Tensor], Texts]:
    """The tensors that rows are made of, and the texts of the others by name.

    Parameters
    ----------
    tensors : sequence of Tensor
    inputs : Inputs
        Of the model. An input of its own that has such a name is a part of its rows, and no text about them.

    Raises
    ------
    InvalidRequest
        If texts are not one of 1 to 200 characters for every row.
    """
    if all(tensor.name not in ROW_TEXTS for tensor in tensors):
        return list(tensors), {}
    names = row_texts_of(inputs)
    own = [tensor for tensor in tensors if tensor.name not in names]
    rows = len(own[0].values) if own and own[0].values.ndim else None
    texts: Texts = {}
    for tensor in tensors:
        if tensor.name in names:
            if tensor.name in texts:
                raise tensor.refusal("name", "duplicate-input", "is the name of an earlier input too")
            texts[tensor.name] = _texts(tensor, rows)
    return own, texts


def _texts(tensor: Tensor, rows: int | None) -> list[str]:
    if tensor.datatype != TEXT:
        raise tensor.refusal("datatype", "wrong-type", f"must be {TEXT}")
    if tensor.values.ndim not in (1, 2) or tensor.values.shape[1:] not in ((), (1,)):
        raise tensor.refusal("shape", "wrong-shape", "must be [rows] or [rows, 1]")
    if rows is not None and len(tensor.values) != rows:
        raise tensor.refusal("shape", "wrong-shape", "must begin with the number of rows, the same for all inputs")
    texts: list[str] = tensor.values.ravel().tolist()
    if not all(isinstance(text, str) and 1 <= len(text) <= LONGEST and _is_unicode(text) for text in texts):
        raise tensor.refusal("data", "wrong-type", f"must be texts of 1 to {LONGEST} characters, without null")
    return texts


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= sign <= "\udfff" for sign in text)

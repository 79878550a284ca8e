"""Tensors of the Open Inference Protocol: their datatypes, and the values of those that a request brings."""

import math
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from service.core.numerics import EXACT
from service.errors import Fault, InvalidRequest
from service.runtime.integers import INEXACT, beyond

Json = dict[str, Any]
Values = npt.NDArray[Any]
Place = tuple[str | int, ...]

NUMBERS: Final[dict[str, np.dtype[Any]]] = {
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BOOL": np.dtype("u1"),
}
"""Datatypes of numbers, and their elements in binary data; of BOOL each byte is 0 or 1."""

TEXT: Final = "BYTES"
WIDE: Final = frozenset({"INT64", "UINT64"})
OF_GRAPH: Final = {"bool": "BOOL", "object": TEXT} | {d.name: name for name, d in NUMBERS.items() if name != "BOOL"}
"""Datatypes by the name of the graph's own."""

MOST_NAMES: Final = 20  # in a message
MOST_SIDES: Final = 16  # of a tensor; NumPy takes 64, and no graph needs as many as these
LARGEST: Final = 1 << 31  # side of a tensor: no body has room for as many values
LENGTH: Final = struct.Struct("<I")  # in binary data, before every element of BYTES
ENCODED: Final = frozenset({"base64", "datetime", "hg_json", "pd_json"})
"""Content types of MLServer whose elements of BYTES stand for something else than the text that they are."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a request.

    Attributes
    ----------
    name, datatype : str
    values : ndarray
        In the shape that the request declares. Of BYTES an array of objects, each a str; None and NaN are missing.
    place : int
        Among the request's inputs.
    """

    name: str
    datatype: str
    values: Values
    place: int

    def refusal(self, member: str, code: str, detail: str) -> InvalidRequest:
        """The error about a member of this tensor: its name, datatype, shape or data."""
        return refusal(("inputs", self.place, member), code, detail)


class Blobs:
    """What follows the JSON of a request, taken piece by piece in the order of the inputs."""

    def __init__(self, raw: bytes) -> None:
        self._rest = memoryview(raw)

    def take(self, size: object, place: Place) -> memoryview:
        """The next ``size`` bytes."""
        if type(size) is not int or not 0 <= size <= len(self._rest):
            where = (*place, "parameters", "binary_data_size")
            raise refusal(where, "wrong-length", "must be the number of bytes that follow the JSON for this input")
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece

    def finish(self) -> None:
        """Raise InvalidRequest unless everything was taken."""
        if len(self._rest):
            raise InvalidRequest("more bytes follow the JSON than the inputs' binary_data_size add up to")


class Sent:
    """Tensors of a request by name, each taken once.

    Parameters
    ----------
    tensors : sequence of Tensor

    Raises
    ------
    InvalidRequest
        If two have one name, or their numbers of rows differ.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._left: dict[str, Tensor] = {}
        for tensor in tensors:
            if tensor.name in self._left:
                raise tensor.refusal("name", "duplicate-input", "is the name of an earlier input too")
            self._left[tensor.name] = tensor
        self.rows = _row_count(tensors)

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def take(self, name: str) -> Tensor:
        """The tensor of a name that is there."""
        return self._left.pop(name)

    def finish(self, known: Iterable[str]) -> None:
        """Refuse what was not taken, naming what is known."""
        for tensor in self._left.values():
            raise tensor.refusal("name", "unknown-input", f"must be one of {listed(known)}")


def read_tensors(inputs: object, blobs: Blobs) -> list[Tensor]:
    """Tensors of a request, in its order.

    Parameters
    ----------
    inputs : object
        The request's member of that name.
    blobs : Blobs
        The bytes behind its JSON.

    Raises
    ------
    InvalidRequest
    """
    if not isinstance(inputs, list) or not all(isinstance(entry, dict) for entry in inputs):
        raise refusal(("inputs",), "wrong-type", "must be a list of tensors")
    found = [_tensor(entry, i, blobs) for i, entry in enumerate(inputs)]
    blobs.finish()
    return found


def refusal(path: Place, code: str, detail: str) -> InvalidRequest:
    """The error about a place in a request."""
    return InvalidRequest(f"{'.'.join(map(str, path))}: {detail}", [Fault(path, code, detail)])


def listed(names: Iterable[str]) -> str:
    """Names as a message repeats them, the first few of many."""
    known = list(names)
    more = f" and {len(known) - MOST_NAMES} more" if len(known) > MOST_NAMES else ""
    return ", ".join(map(repr, known[:MOST_NAMES])) + more


def texts(cells: Sequence[object]) -> Values:
    """An array of objects, shape (N,)."""
    found = np.empty(len(cells), dtype=object)
    found[:] = cells
    return found


def _row_count(tensors: Sequence[Tensor]) -> int:
    for tensor in tensors:
        if tensor.values.ndim == 0 or len(tensor.values) != len(tensors[0].values):
            raise tensor.refusal("shape", "wrong-shape", "must begin with the number of rows, the same for all inputs")
        if len(tensor.values) == 0:
            raise tensor.refusal("shape", "wrong-shape", "must have one row at least")
    return len(tensors[0].values) if tensors else 0


def _tensor(entry: Json, i: int, blobs: Blobs) -> Tensor:
    name, shape, datatype, place = entry.get("name"), entry.get("shape"), entry.get("datatype"), ("inputs", i)
    if not isinstance(name, str):
        raise refusal((*place, "name"), "missing-field", "must be the name of an input")
    if not isinstance(datatype, str) or datatype not in _READERS:
        raise refusal((*place, "datatype"), "wrong-type", f"must be one of {', '.join(_READERS)}")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise refusal((*place, "shape"), "wrong-type", "must be a list of sizes")
    if len(shape) > MOST_SIDES or max(shape, default=0) >= LARGEST:
        raise refusal((*place, "shape"), "wrong-shape", f"must have {MOST_SIDES} sizes at most, each below 2^31")
    values = _values(entry, datatype, place, blobs)
    if values.size != math.prod(shape):
        raise refusal((*place, "data"), "wrong-length", "must have as many values as its shape declares")
    if values.size == 0:  # the other sizes may be any
        shape = [min(size, 1) for size in shape]
    return Tensor(name, datatype, values.reshape(shape), i)


def _values(entry: Json, datatype: str, place: Place, blobs: Blobs) -> Values:
    from_bytes, from_list = _READERS[datatype]
    parameters = entry.get("parameters")
    given = parameters if isinstance(parameters, dict) else {}
    if datatype == TEXT and given.get("content_type") in ENCODED:
        where = (*place, "parameters", "content_type")
        raise refusal(where, "wrong-type", "must be `str`, and the data the text itself; numbers have datatypes")
    if "binary_data_size" in given:
        return from_bytes(blobs.take(given["binary_data_size"], place), datatype, place)
    data = entry.get("data")
    if isinstance(data, np.ndarray):  # of numbers, read on the quick way
        return _held(data, datatype, (*place, "data"))
    if not isinstance(data, list):
        raise refusal((*place, "data"), "missing-field", "must be a list, or binary_data_size must be given")
    return from_list(_flat(data), datatype, (*place, "data"))


def _flat(data: list[object]) -> list[object]:
    """Elements of a list and of the lists in it, in order."""
    if list not in set(map(type, data)):
        return data
    flat: list[object] = []
    pending: list[object] = [data]
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending.extend(reversed(item))
        else:
            flat.append(item)
    return flat


def _numbers_of_bytes(piece: memoryview, datatype: str, place: Place) -> Values:
    dtype = NUMBERS[datatype]
    if len(piece) % dtype.itemsize:
        raise refusal(place, "wrong-length", "its bytes are no whole number of values")
    return np.frombuffer(piece, dtype)


def _texts_of_bytes(piece: memoryview, datatype: str, place: Place) -> Values:
    del datatype
    found: list[object] = []
    start = 0
    while start < len(piece):
        begin = start + LENGTH.size
        size = LENGTH.unpack_from(piece, start)[0] if begin <= len(piece) else len(piece)
        start = begin + size
        if start > len(piece):
            raise refusal(place, "wrong-length", "each element must be its length, in four bytes, and that many bytes")
        found.append(text_of(piece[begin:start], place))
    return texts(found)


def text_of(raw: memoryview | bytes, place: Place) -> str:
    """The text of one element of BYTES."""
    try:
        return str(raw, "utf-8")
    except UnicodeDecodeError:
        raise refusal(place, "wrong-type", "must hold text in UTF-8") from None


def _numbers_of_list(flat: list[Any], datatype: str, place: Place) -> Values:
    taken = {int, float, bool, type(None)} if datatype == "BOOL" else {int, float, type(None)}
    kinds = set(map(type, flat))
    if not taken.issuperset(kinds):
        needed = "true, false and null" if datatype == "BOOL" else "numbers and null"
        raise refusal(place, "wrong-type", f"must hold {needed} only")
    try:
        doubles = np.array(flat, dtype=np.float64)  # of null it makes NaN
    except OverflowError:
        raise refusal(place, "number-out-of-range", "must fit a double") from None
    if datatype in WIDE:
        return _whole(flat, place) if beyond(doubles).any() else doubles
    return _held(doubles, datatype, place)


def _held(doubles: Values, datatype: str, place: Place) -> Values:
    """Numbers that their datatype holds; NaN is a missing one. Those of 64 bits are checked where rows are."""
    if datatype in _RANGES:
        least, most = _RANGES[datatype]
        if ((doubles < least) | (doubles > most)).any():
            raise refusal(place, "number-out-of-range", f"must fit {datatype}")
        if datatype in _SMALL_INTEGERS and ((doubles != np.floor(doubles)) & ~np.isnan(doubles)).any():
            raise refusal(place, "wrong-type", f"must be whole numbers, as {datatype} has them")
    return doubles


def _whole(flat: list[Any], place: Place) -> Values:
    """Integers of which doubles do not hold all; of objects where one is missing or fits no 64 bits."""
    if any(type(item) is float and (abs(item) >= EXACT or not item.is_integer()) for item in flat):
        raise refusal(place, "wrong-type", f"each {INEXACT}")
    found = [None if item is None else int(item) for item in flat]
    for dtype in () if None in found else (np.int64, np.uint64):
        try:
            return np.array(found, dtype=dtype)
        except OverflowError:
            continue
    return texts(found)


def _texts_of_list(flat: list[object], datatype: str, place: Place) -> Values:
    del datatype
    if not {str, type(None)}.issuperset(map(type, flat)):
        raise refusal(place, "wrong-type", "must hold strings and null only")
    return texts(flat)


FromBytes = Callable[[memoryview, str, Place], Values]
FromList = Callable[[list[Any], str, Place], Values]

_SMALL_INTEGERS: Final = frozenset({"UINT8", "UINT16", "UINT32", "INT8", "INT16", "INT32"})
_RANGES: Final[dict[str, tuple[float, float]]] = {
    **{name: (float(np.iinfo(NUMBERS[name]).min), float(np.iinfo(NUMBERS[name]).max)) for name in _SMALL_INTEGERS},
    **{name: (float(np.finfo(NUMBERS[name]).min), float(np.finfo(NUMBERS[name]).max)) for name in ("FP16", "FP32")},
}
"""Least and greatest number of a datatype."""
_READERS: Final[dict[str, tuple[FromBytes, FromList]]] = {
    **dict.fromkeys(NUMBERS, (_numbers_of_bytes, _numbers_of_list)),
    TEXT: (_texts_of_bytes, _texts_of_list),
}

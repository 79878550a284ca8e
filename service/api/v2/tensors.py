"""Tensors of the Open Inference Protocol: as JSON, or as bytes behind it (the binary tensor data extension)."""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from operator import add
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

from service.api.body import parse_json
from service.api.plain_numbers import end_of_numbers, plain_numbers
from service.errors import BodyTooLarge, Fault, InvalidRequest, MalformedBody, UnsupportedMediaType
from service.runtime.integers import EXACT, INEXACT, beyond, integers

Json = dict[str, Any]
Values = npt.NDArray[Any]

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
"""Datatypes that a column may come as, and their elements; of BOOL each byte is 0 or 1."""

WIDE: Final = frozenset({"INT64", "UINT64"})

LENGTH: Final = struct.Struct("<I")  # before every element of BYTES
OF_GRAPH: Final = {"bool": "BOOL"} | {dtype.name: name for name, dtype in NUMBERS.items() if name != "BOOL"}
"""Datatypes by the graph's own."""


@dataclass(frozen=True, slots=True)
class Output:
    """A tensor to answer.

    Attributes
    ----------
    name, datatype : str
    shape : tuple of int
    values : ndarray, or sequence of str for BYTES
    binary : bool
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Values | Sequence[str]
    binary: bool


def decompress(raw: bytes, encoding: str, *, limit: int) -> bytes:
    """A request body without its Content-Encoding, never making more than ``limit`` bytes of it.

    Raises
    ------
    BodyTooLarge, MalformedBody, UnsupportedMediaType
    """
    if encoding == "identity":
        return raw
    if encoding not in _WINDOWS:
        raise UnsupportedMediaType("send the body as it is, or with Content-Encoding: gzip or deflate")
    inflater = zlib.decompressobj(_WINDOWS[encoding])
    try:
        plain = inflater.decompress(raw, limit + 1)
    except zlib.error:
        raise MalformedBody(f"the body is not {encoding}, as its Content-Encoding says") from None
    if len(plain) > limit:
        raise BodyTooLarge(f"the served models take bodies of at most {limit} bytes; this one holds more, compressed")
    if not inflater.eof or inflater.unused_data:
        raise MalformedBody(f"the body is not one whole {encoding} stream")
    return plain


def parse_document(raw: bytes) -> object:
    """The JSON of a request; a flat array of plain numbers becomes an array without passing through the strict parser.

    Raises
    ------
    MalformedBody
    """
    key = raw.find(b'"data"')
    start = raw.find(b"[", key)
    if key < 0 or start < 0 or raw.find(b'"data"', key + 1) >= 0 or raw[key + 6 : start].strip() != b":":
        return parse_json(raw)
    cut = end_of_numbers(raw, start)
    numbers = plain_numbers(raw[start:cut])
    if numbers is None:
        return parse_json(raw)
    document = parse_json(raw[:start] + b"[]" + raw[cut:])
    if not _put(document, numbers):
        return parse_json(raw)
    return document


def read_input(entry: Json, place: tuple[str | int, ...], blobs: "Blobs") -> Values:
    """Values of one input tensor, in its declared shape and of a number's type.

    Raises
    ------
    InvalidRequest
    """
    name, shape, datatype = entry.get("name"), entry.get("shape"), entry.get("datatype")
    if not isinstance(name, str):
        raise _refusal((*place, "name"), "missing-field", "must be the name of an input")
    if not isinstance(datatype, str) or datatype not in NUMBERS:
        raise _refusal((*place, "datatype"), "wrong-type", f"must be one of {', '.join(NUMBERS)}")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise _refusal((*place, "shape"), "wrong-type", "must be a list of sizes")
    values = _values(entry, datatype, place, blobs)
    count = 1
    for size in shape:
        count *= size
    if values.size != count:
        raise _refusal((*place, "data"), "wrong-length", f"must have the {count} values of its shape")
    return values.reshape(shape)


def switch(parameters: object, name: str, *, default: bool) -> bool:
    """A boolean parameter."""
    value = parameters.get(name) if isinstance(parameters, dict) else None
    return value if isinstance(value, bool) else default


class Blobs:
    """What follows the JSON of a request, taken piece by piece in the order of the inputs."""

    def __init__(self, raw: bytes) -> None:
        self._rest = memoryview(raw)

    def take(self, size: object, place: tuple[str | int, ...]) -> memoryview:
        """The next ``size`` bytes."""
        if type(size) is not int or not 0 <= size <= len(self._rest):
            where = (*place, "parameters", "binary_data_size")
            raise _refusal(where, "wrong-length", "must be the number of bytes that follow the JSON for this input")
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece

    def finish(self) -> None:
        """Raise InvalidRequest unless everything was taken."""
        if len(self._rest):
            raise InvalidRequest("more bytes follow the JSON than the inputs' binary_data_size say")


def encode(head: Json, outputs: Sequence[Output]) -> tuple[bytes, int | None]:
    """An answer's body, and the length of its JSON where bytes follow it."""
    blobs = [_blob(output) if output.binary else b"" for output in outputs]
    entries = [_entry(output, len(blob)) for output, blob in zip(outputs, blobs, strict=True)]
    text = orjson.dumps({**head, "outputs": entries}, option=orjson.OPT_SERIALIZE_NUMPY)
    if not any(output.binary for output in outputs):
        return text, None
    return b"".join([text, *blobs]), len(text)


def _entry(output: Output, size: int) -> Json:
    entry: Json = {"name": output.name, "shape": output.shape, "datatype": output.datatype}
    if output.binary:
        return {**entry, "parameters": {"binary_data_size": size}}
    values = output.values
    return {**entry, "data": np.ascontiguousarray(values).ravel() if isinstance(values, np.ndarray) else values}


def _blob(output: Output) -> bytes:
    if isinstance(output.values, np.ndarray):
        return output.values.astype(output.values.dtype.newbyteorder("<"), copy=False).tobytes()
    texts = list(set(output.values))  # most are one of few names
    raw = list(map(str.encode, texts))
    prefixed = dict(zip(texts, map(add, map(LENGTH.pack, map(len, raw)), raw), strict=True))
    return b"".join(map(prefixed.__getitem__, output.values))


def _values(entry: Json, datatype: str, place: tuple[str | int, ...], blobs: Blobs) -> Values:
    dtype = NUMBERS[datatype]
    parameters = entry.get("parameters", {})
    if isinstance(parameters, dict) and "binary_data_size" in parameters:
        piece = blobs.take(parameters["binary_data_size"], place)
        if len(piece) % dtype.itemsize:
            raise _refusal(place, "wrong-length", "its bytes are no whole number of values")
        return np.frombuffer(piece, dtype)
    data = entry.get("data")
    if isinstance(data, np.ndarray):
        return data
    if not isinstance(data, list):
        raise _refusal(
            (*place, "data"), "missing-field", "must be a list of numbers, or binary_data_size must be given"
        )
    return _numbers(data, datatype, place)


def _numbers(data: list[object], datatype: str, place: tuple[str | int, ...]) -> Values:
    taken = {int, float, bool} if datatype == "BOOL" else {int, float}
    flat: list[object] = []
    pending: list[object] = [data]
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending.extend(reversed(item))
        elif type(item) in taken:
            flat.append(item)
        else:
            wanted = "true and false" if datatype == "BOOL" else "numbers"
            raise _refusal((*place, "data"), "wrong-type", f"must hold {wanted} only")
    try:
        doubles = np.array(flat, dtype=np.float64)
    except OverflowError:
        raise _refusal((*place, "data"), "number-out-of-range", "must fit a double") from None
    return _whole(flat, place) if datatype in WIDE and beyond(doubles).any() else doubles


def _whole(flat: list[Any], place: tuple[str | int, ...]) -> Values:
    """Integers of which doubles do not hold all."""
    if any(type(item) is float and (abs(item) >= EXACT or not item.is_integer()) for item in flat):
        raise _refusal((*place, "data"), "wrong-type", f"each {INEXACT}")
    return integers([int(item) for item in flat])


def _put(document: object, numbers: list[Any]) -> bool:
    entries = document.get("inputs") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        return False
    holders = [entry for entry in entries if isinstance(entry, dict) and entry.get("data") == []]
    if len(holders) != 1:
        return False
    try:
        doubles = np.array(numbers, dtype=np.float64).ravel()
    except ValueError:  # ragged
        return False
    if holders[0].get("datatype") in WIDE and beyond(doubles).any():
        return False  # the strict reading keeps integers whole
    holders[0]["data"] = doubles
    return True


def _refusal(path: tuple[str | int, ...], code: str, detail: str) -> InvalidRequest:
    return InvalidRequest(f"{'.'.join(map(str, path))}: {detail}", [Fault(path, code, detail)])


_WINDOWS: Final = {"gzip": 31, "deflate": 15}

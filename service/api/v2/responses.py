"""Responses of `/v2`: tensors as JSON, or as bytes behind it (the binary tensor data extension)."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from operator import add
from typing import Final

import numpy as np
import orjson
from starlette.responses import Response

from service.api.v2.tensors import LENGTH, Json, Values

JSON_LENGTH: Final = "inference-header-content-length"
LITTLE_ENDIAN: Final = sys.byteorder == "little"  # as binary data is


@dataclass(frozen=True, slots=True)
class Output:
    """A tensor of a response.

    Attributes
    ----------
    name, datatype : str
    shape : tuple of int
    values : ndarray, or sequence of str for BYTES
        NaN is null in JSON.
    binary : bool
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Values | Sequence[str]
    binary: bool


def json_response(body: object) -> Response:
    """A document."""
    return Response(orjson.dumps(body), media_type="application/json")


def tensor_response(head: Json, outputs: Sequence[Output]) -> Response:
    """A response with tensors; ``head`` holds what is common to them."""
    text, length = encode(head, outputs)
    if length is None:
        return Response(text, media_type="application/json")
    return Response(text, media_type="application/octet-stream", headers={JSON_LENGTH: str(length)})


def encode(head: Json, outputs: Sequence[Output]) -> tuple[bytes, int | None]:
    """A response's body, and the length of its JSON where bytes follow it."""
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
        return (output.values if LITTLE_ENDIAN else output.values.byteswap()).tobytes()
    texts = list(set(output.values))  # most are one of few names
    raw = list(map(str.encode, texts))
    prefixed = dict(zip(texts, map(add, map(LENGTH.pack, map(len, raw)), raw), strict=True))
    return b"".join(map(prefixed.__getitem__, output.values))

"""Arrays of plain numbers inside JSON: found and read without a look at the rest of the document.

Tested in tests/api/v1/test_request_reader.py.
"""

from typing import Any

import orjson


def plain_numbers(text: bytes) -> list[Any] | None:
    """A JSON array of numbers, or of arrays of them; None where anything else may be in it, valid or not.

    Examples
    --------
    >>> plain_numbers(b"[[1, 2.5], [3, 4]]")
    [[1, 2.5], [3, 4]]
    >>> plain_numbers(b"[1, null]"), plain_numbers(b"[1,")
    (None, None)
    """
    if b"l" in text or b"r" in text:  # null, false, true: what NumPy would take for a number
        return None
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, list) else None


def end_of_numbers(raw: bytes, start: int) -> int:
    """Where the array that begins at ``start`` ends, if it holds but numbers and arrays of them; else too early.

    Examples
    --------
    >>> end_of_numbers(b'{"data": [[1], [2]], "name": "x"}', 9)
    19
    """
    brace = raw.find(b"}", start)
    end = brace if brace >= 0 else len(raw)
    quote = raw.find(b'"', start, end)
    return raw.rfind(b"]", start, quote if quote >= 0 else end) + 1

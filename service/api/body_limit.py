"""How many bytes the body of a request may have, by what the served models take."""

import math

from service.runtime.registry import Registry
from service.runtime.rows import Entry

SMALLEST_BODY_LIMIT = 1 << 20
BYTES_PER_CELL = 32  # beside its name: the longest double in JSON has 24 characters; then quotes, colon, comma, space
BYTES_PER_ROW = 1024  # an id of 200 characters, or a label


def body_limit(registry: Registry, *, rows: int, most: int) -> int:
    """Bytes that the largest request of any served model can need, between 1 MiB and ``most``.

    Text, and tensors of open shape, can need any number.
    """
    entries = [model.inputs.entries for model in registry.all_models()]
    needed = rows * (BYTES_PER_ROW + max((sum(map(_most_bytes, taken)) for taken in entries), default=0))
    return int(min(max(needed, SMALLEST_BODY_LIMIT), most))


def _most_bytes(entry: Entry) -> float:
    if entry.is_text or None in entry.shape:
        return math.inf
    numbers = math.prod(size for size in entry.shape if size is not None)  # 1 of a column
    return sum(len(name.encode()) + numbers * BYTES_PER_CELL for name in entry.cells)

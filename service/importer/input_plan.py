"""How every input of a graph is filled: columns of a row with names, whole tensors, masks.

Tested in tests/importer/test_analysis.py.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from service.errors import GraphError
from service.graph.inspect import Input

DTYPES: Final[dict[str, str]] = {
    "FLOAT": "float32",
    "DOUBLE": "float64",
    "FLOAT16": "float16",
    "INT64": "int64",
    "INT32": "int32",
    "INT16": "int16",
    "INT8": "int8",
    "UINT64": "uint64",
    "UINT32": "uint32",
    "UINT16": "uint16",
    "UINT8": "uint8",
    "BOOL": "bool",
    "STRING": "str",
}
LARGEST_TABLE: Final = 10**6
LARGEST_ROW: Final = 2 * 10**7
MOST_DIMENSIONS: Final = 16
LEAST_SIZE: Final = 8
"""Of a dimension that varies, in the rows that are tried first."""

LARGEST_BATCH: Final = 2 * 10**7
SEGMENTS: Final = ("token_type", "segment_ids")
PADDING = 0


@dataclass(frozen=True, slots=True)
class Domain:
    """The values that a cell of a row may hold, as the graph proves them.

    Attributes
    ----------
    low, high : int or None
        Bounds of a whole number: beyond them the graph fails, or takes another column's entry of a table.
    categories : tuple of (str or int) or None
        Categories that an encoder knows.
    centre, spread : float or None
        Mean and scale of a scaler.
    why : str
    """

    low: int | None = None
    high: int | None = None
    categories: tuple[str | int, ...] | None = None
    centre: float | None = None
    spread: float | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class PlannedInput:
    """A graph input and how it is filled.

    Attributes
    ----------
    input : Input
    features : tuple of str or None
        Names of its columns; None for a tensor.
    evidence : str
    pad : int or None
        Value that pads rows of unequal length.
    mask : bool
        Whether the service fills it: 1 where a row has values, 0 where it was padded.
    fill : int or None
        Value that the service fills it with.
    domains : tuple of (Domain or None)
        Of its cells, in row-major order; empty where nothing is known of any.
    """

    input: Input
    features: tuple[str, ...] | None
    evidence: str
    pad: int | None = None
    mask: bool = False
    fill: int | None = None
    domains: tuple[Domain | None, ...] = ()

    @property
    def has_positions(self) -> bool:
        """Whether its rows may differ in length."""
        dims = self.input.dims or ()
        return self.features is None and len(dims) in (2, 3) and not isinstance(dims[1], int)


def plan(
    inputs: Sequence[Input], features: tuple[str, ...] | None, width: int | None = None
) -> tuple[PlannedInput, ...]:
    """Decide how every input is filled; ``width`` is that of the one table whose width nothing else shows.

    Raises
    ------
    GraphError
        If an input has no row axis, another width than its coefficients, or columns that must be named.
    """
    if not inputs:
        raise GraphError("the graph takes no inputs, so it cannot classify rows")
    for entry in inputs:
        _check(entry)
    if width is not None:
        return _widened(inputs, width)
    if features is not None:
        return _named(inputs, features)
    if wrong := next((i for i in inputs if _contradicts(i)), None):
        raise GraphError(
            f"input {wrong.name!r} declares {wrong.dims[1] if wrong.dims else 0} columns, and the operators behind it "
            f"have coefficients for {wrong.width}; name them: --features with {wrong.width} names, or "
            f"number them: --width {wrong.width}"
        )
    if nameless := next((i for i in inputs if _is_table(i) and _width(i) is None), None):
        raise GraphError(
            f"the graph does not show how wide the rows of {nameless.name!r} are; name the features: --features a,b,…, "
            "or number them: --width N"
        )
    tokens, alone = [i for i in inputs if _is_tokens(i)], len(inputs) == 1
    return tuple(_numbered(entry, tokens, alone=alone) for entry in inputs)


def _widened(inputs: Sequence[Input], width: int) -> tuple[PlannedInput, ...]:
    flat = [i for i in inputs if i.dims is None or len(i.dims) <= 2]
    open_ones = [i for i in flat if _contradicts(i) or _width(i) is None]
    if len(open_ones) != 1:
        raise GraphError(
            f"--width: the width of {len(open_ones)} inputs is open, and of one it must be; leave the flag out, or "
            "name the features: --features a,b,…"
        )
    (entry,) = open_ones
    if entry.width not in (None, width):
        raise GraphError(
            f"--width {width}: the operators behind input {entry.name!r} have coefficients for {entry.width}"
        )
    prefix = "x" if len(inputs) == 1 else f"{entry.name}_"
    names = tuple(f"{prefix}{i}" for i in range(width))
    tokens = [i for i in inputs if _is_tokens(i)]
    return tuple(
        PlannedInput(i, names, f"{width} columns, as declared at import; nothing names them: numbered")
        if i is entry
        else _numbered(i, tokens, alone=False)
        for i in inputs
    )


def with_mask(filled: Sequence[PlannedInput]) -> tuple[PlannedInput, ...] | None:
    """The same inputs, one of them a mask of the others' positions; None if none looks like one."""
    candidates = [f for f in filled if f.has_positions and "mask" in f.input.name.lower() and f.input.table is None]
    tokens = [f for f in filled if f.has_positions and f not in candidates and f.fill is None]
    if len(candidates) != 1 or not tokens:
        return None
    return tuple(
        replace(f, mask=True) if f is candidates[0] else replace(f, pad=PADDING) if f in tokens else f for f in filled
    )


def _check(entry: Input) -> None:
    if entry.type not in DTYPES:
        raise GraphError(f"input {entry.name!r} holds {entry.type}; rows of JSON fill {', '.join(DTYPES)}")
    if entry.dims is not None and len(entry.dims) < 1:
        raise GraphError(
            f"input {entry.name!r} has rank 0: it is no table of rows; export the model with a row "
            "axis and a column axis, and fix what is the same for every row inside the graph"
        )
    if len(entry.dims or ()) > MOST_DIMENSIONS:
        raise GraphError(f"input {entry.name!r} has {len(entry.dims or ())} dimensions; rows fill {MOST_DIMENSIONS}")
    cells = math.prod(d if isinstance(d, int) else LEAST_SIZE for d in (entry.dims or ())[1:])
    if cells > (LARGEST_TABLE if len(entry.dims or ()) <= 2 else LARGEST_ROW):
        raise GraphError(
            f"input {entry.name!r} has rows of {cells} numbers, which no request can hold; check the shape in the file"
        )
    if entry.batch is not None and entry.batch * cells > LARGEST_BATCH:
        raise GraphError(
            f"input {entry.name!r} takes {entry.batch} rows of {cells} numbers at a time, no more and no fewer; export "
            "the model with a row axis that varies, or with one row"
        )
    if entry.type == "STRING" and len(entry.dims or ()) > 2:
        raise GraphError(f"input {entry.name!r} is text of rank {len(entry.dims or ())}; rows fill text of rank 2")


def _is_tokens(entry: Input) -> bool:
    return is_integer(entry) and (_width(entry) is None or (entry.table is not None and _width(entry) != 1))


def _is_table(entry: Input) -> bool:
    return (entry.dims is None or len(entry.dims) <= 2) and not _is_tokens(entry)


def _width(entry: Input) -> int | None:
    if entry.is_flat:
        return 1
    width = entry.dims[1] if entry.dims else None
    return width if isinstance(width, int) else entry.width if not is_integer(entry) or entry.is_row else None


def is_integer(entry: Input) -> bool:
    """Whether an input holds whole numbers or truth values."""
    return entry.type.startswith(("INT", "UINT", "BOOL"))


def _contradicts(entry: Input) -> bool:
    declared = entry.dims[1] if entry.dims and len(entry.dims) == 2 else None
    return isinstance(declared, int) and entry.width is not None and declared != entry.width


def _numbered(entry: Input, alike: Sequence[Input], *, alone: bool) -> PlannedInput:
    """``alike`` are the inputs that look like tokens; ``alone``: the graph has no other input."""
    if _is_tokens(entry) and len(alike) > 1 and any(sign in entry.name.lower() for sign in SEGMENTS):
        return PlannedInput(entry, None, "by its name the segment of every token; a row has one", fill=0)
    if not _is_table(entry) or (alike and is_integer(entry) and entry.dims == alike[0].dims):
        return PlannedInput(entry, None, f"a tensor of {entry.type.lower()}, {_shown(entry)}")
    width = _width(entry) or 1
    if width == 1:
        return PlannedInput(entry, (entry.name,), f"one column of {entry.type.lower()}")
    prefix = "x" if alone else f"{entry.name}_"
    names = tuple(f"{prefix}{i}" for i in range(width))
    return PlannedInput(entry, names, f"{width} columns of {entry.type.lower()}; nothing names them: numbered")


def _named(inputs: Sequence[Input], features: tuple[str, ...]) -> tuple[PlannedInput, ...]:
    tables = [entry for entry in inputs if entry.dims is None or len(entry.dims) <= 2]
    if not tables:
        raise GraphError("--features names columns, and the graph takes tensors only; leave the flag out")
    widths = [_true_width(entry) for entry in tables]
    if widths.count(None) == 1:
        rest = len(features) - sum(w or 0 for w in widths)
        widths = [rest if w is None else w for w in widths]
    needed = sum(w or 1 for w in widths)
    if needed != len(features) or min(w or 1 for w in widths) < 1:
        raise GraphError(f"--features names {len(features)} columns; the graph takes {needed}")
    rest_of = iter(features)
    names = {e.name: tuple(next(rest_of) for _ in range(w or 1)) for e, w in zip(tables, widths, strict=True)}
    return tuple(PlannedInput(entry, names.get(entry.name), _named_evidence(entry)) for entry in inputs)


def _named_evidence(entry: Input) -> str:
    if _contradicts(entry):
        return f"named at import; the file declares {_shown(entry)}, its coefficients have {entry.width} columns"
    return "named at import"


def _true_width(entry: Input) -> int | None:
    if entry.is_flat:
        return 1
    declared = entry.dims[1] if entry.dims else None
    return entry.width or (declared if isinstance(declared, int) else None)


def _shown(entry: Input) -> str:
    return f"[{', '.join('?' if d is None else str(d) for d in entry.dims or ())}]"


def shared_domain(domains: Sequence[Domain | None]) -> Domain | None:
    """The values that all cells may hold, of cells that are whole numbers within bounds."""
    known = [d for d in domains if d is not None and (d.low is not None or d.high is not None)]
    if not known:
        return None
    lows, highs = ([v for v in ends if v is not None] for ends in ([d.low for d in known], [d.high for d in known]))
    return Domain(max(lows, default=None), min(highs, default=None), why=known[0].why)

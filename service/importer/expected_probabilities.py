"""Reference rows with the toolchain's own probabilities: the graph must return the same, or the import is refused."""

import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from service.bundle.sections import Graph
from service.core.numerics import log_softmax
from service.errors import DataError, GraphError, ServiceError
from service.importer.declared import Conclusion, Declared
from service.importer.input_plan import DTYPES, PlannedInput
from service.importer.sandbox import Arrays, Sandbox
from service.runtime.logits import to_logits

PROBABILITIES: Final = "probabilities"
ROWS: Final = "X"
ALONE: Final = "; the graph quantises by the batch, so the toolchain must run every row by itself too"
Array = npt.NDArray[Any]


def check_expected(
    child: Sandbox, place: Path, filled: tuple[PlannedInput, ...], graph: Graph, declared: Declared
) -> Conclusion | None:
    """Compare a graph's probabilities with the toolchain's, row by row.

    Parameters
    ----------
    child : Sandbox
    place : Path
        The graph as it will be served.
    filled : tuple of PlannedInput
    graph : Graph
        The conclusions about its output.
    declared : Declared
        ``expect`` is an .npz file with `probabilities`, and with `X` or one array for every input under its own name.

    Returns
    -------
    Conclusion or None
        How near the two are; None without ``expect``.

    Raises
    ------
    DataError
        If the file does not hold such arrays.
    GraphError
        If a probability is further off than the tolerance; it names the worst row.
    """
    if declared.expect is None:
        return None
    path, held = declared.expect, _read(declared.expect)
    expected = held.pop(PROBABILITIES).astype(np.float64)
    feeds, rows = _feeds(held, filled, path)
    if len(expected) != rows:
        raise DataError(f"--expect: {path} has {rows} rows and {len(expected)} rows of {PROBABILITIES!r}")
    found = _probabilities(_run(child, place, graph.output, feeds, filled), graph)
    note = ALONE if child.alone else ""
    return _compared(found, _shaped(expected, found, path), graph.classes, declared.tolerance, note)


def _read(path: Path) -> Arrays:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            held = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile):
        raise DataError(f"--expect: {path} does not exist, or is no .npz file of plain arrays") from None
    if PROBABILITIES not in held or held[PROBABILITIES].dtype.kind not in "iufb" or held[PROBABILITIES].ndim < 1:
        known = ", ".join(held) or "nothing"
        raise DataError(
            f"--expect: {path} needs an array {PROBABILITIES!r} of numbers, the toolchain's own (it holds {known})"
        )
    return held


def _feeds(held: Arrays, filled: tuple[PlannedInput, ...], path: Path) -> tuple[Arrays, int]:
    """Arrays that the graph takes, and how many rows they hold."""
    given_inputs = [f for f in filled if not f.mask and f.fill is None]
    if ROWS in held and ROWS not in {f.input.name for f in given_inputs}:
        held = _split(held[ROWS], given_inputs, path)
    missing = [f.input.name for f in given_inputs if f.input.name not in held]
    if missing:
        raise DataError(f"--expect: {path} lacks {missing[0]!r}; it needs {ROWS!r}, or an array for every input")
    feeds = {f.input.name: _typed(held[f.input.name], f, path) for f in given_inputs}
    rows = len(feeds[given_inputs[0].input.name])
    if rows < 1 or any(len(values) != rows for values in feeds.values()):
        raise DataError(f"--expect: the arrays of {path} have different numbers of rows, or none")
    for f in (f for f in filled if f not in given_inputs):
        shape = held[f.input.name].shape if f.input.name in held else feeds[given_inputs[0].input.name].shape[:2]
        given = held.get(f.input.name, np.full(shape, 1 if f.mask else f.fill))
        feeds[f.input.name] = _typed(given, f, path)
    return feeds, rows


def _split(rows: Array, given_inputs: list[PlannedInput], path: Path) -> Arrays:
    """Columns of one array, to the inputs in their order."""
    if len(given_inputs) == 1:
        return {given_inputs[0].input.name: rows}
    widths = [len(f.features or ()) for f in given_inputs]
    if rows.ndim != 2 or 0 in widths or rows.shape[1] != sum(widths):
        raise DataError(f"--expect: {path} has one array {ROWS!r}; the graph takes an array for every input")
    parts = np.split(rows, np.cumsum(widths)[:-1], axis=1)
    return {f.input.name: part for f, part in zip(given_inputs, parts, strict=True)}


def _typed(values: Array, f: PlannedInput, path: Path) -> Array:
    text, name = f.input.type == "STRING", f.input.name
    if (values.dtype.kind == "U") != text or values.ndim < 1 or values.dtype.kind not in "Uiufb":
        raise DataError(f"--expect: {path}: {name!r} must hold {'text' if text else 'numbers'}")
    flat = values.reshape(len(values)) if f.input.is_flat and values.size == len(values) else values
    flat = flat[:, None] if flat.ndim == 1 and not f.input.is_flat else flat
    _check_shape(flat.shape, f, path)
    with np.errstate(invalid="ignore", over="ignore"):
        typed = flat.astype(DTYPES[f.input.type])
    lost = np.isfinite(flat) & ~np.isfinite(typed) if typed.dtype.kind == "f" else typed != flat
    if lost.any():
        raise DataError(
            f"--expect: {path}: {name!r} holds numbers that {f.input.type} does not have, such as fractions"
        )
    return typed


def _check_shape(found: tuple[int, ...], f: PlannedInput, path: Path) -> None:
    """Raise DataError if rows are of another shape than the input's."""
    sizes = (len(f.features),) if f.features and not f.input.is_flat else (f.input.dims or (None,))[1:]
    known = f.features is not None or f.input.dims is not None
    wrong = len(found) != 1 + len(sizes) or any(
        isinstance(d, int) and d != n for d, n in zip(sizes, found[1:], strict=True)
    )
    if known and wrong:
        expected = ", ".join(["rows", *(str(d) if isinstance(d, int) else "any" for d in sizes)])
        raise DataError(f"--expect: {path}: {f.input.name!r} has shape {list(found)}, [{expected}] is needed")


def _run(child: Sandbox, place: Path, output: str, feeds: Arrays, filled: tuple[PlannedInput, ...]) -> Array:
    rows = len(next(iter(feeds.values())))
    size = next((f.input.batch for f in filled if f.input.batch is not None), rows)
    padded = {name: np.concatenate([v, np.repeat(v[-1:], -rows % size, axis=0)]) for name, v in feeds.items()}
    parts = [{name: v[i : i + size] for name, v in padded.items()} for i in range(0, rows, size)]
    try:
        answers = child.run(place, [output], parts)
    except GraphError as error:
        raise GraphError(f"--expect: {error}".replace("synthetic rows", "the reference rows")) from None
    return np.concatenate([answer[output] for answer in answers])[:rows]


def _probabilities(raw: Array, graph: Graph) -> Array:
    try:
        logits = to_logits(raw, graph)
    except ServiceError as error:
        raise GraphError(f"--expect: on the reference rows {error}") from None
    if graph.task == "multilabel":
        return 0.5 * (1.0 + np.tanh(0.5 * logits))
    return softmax_of(logits)


def _shaped(expected: Array, found: Array, path: Path) -> Array:
    """The toolchain's probabilities in the shape of ours; one column is the second of two classes."""
    if found.shape[-1] == 2 and expected.size * 2 == found.size:
        second = expected.reshape(found.shape[:-1])
        expected = np.stack([1.0 - second, second], axis=-1)
    if expected.shape != found.shape:
        raise DataError(
            f"--expect: {path}: {PROBABILITIES!r} has shape {list(expected.shape)}, {list(found.shape)} is needed"
        )
    if not np.isfinite(expected).all():
        raise DataError(f"--expect: {path}: {PROBABILITIES!r} must be finite numbers")
    return expected


def _compared(found: Array, expected: Array, classes: tuple[str, ...], tolerance: float, other: str) -> Conclusion:
    off = np.abs(found - expected)
    worst = float(off.max())
    if worst <= tolerance:
        note = f"{len(found)} reference rows are at most {worst:.1e} from the toolchain's probabilities"
        return Conclusion("expected", "agrees", note)
    row, *_, column = (int(i) for i in np.unravel_index(np.argmax(off), off.shape))
    rows = int((off.reshape(len(off), -1).max(axis=1) > tolerance).sum())
    raise GraphError(
        f"--expect: {rows} of {len(found)} rows are further from the toolchain's probabilities than "
        f"{tolerance:g}; the worst is row {row} (rows count from 0), {worst:.2g} off for class "
        f"{classes[column]!r}{_hint(found, expected, tolerance, other)}"
    )


def _hint(found: Array, expected: Array, tolerance: float, otherwise: str) -> str:
    for what, other in (
        ("in the reverse order they agree: name the classes so, or choose another --output", expected[..., ::-1]),
        ("a softmax was taken of probabilities: give --output-kind probabilities", softmax_of(expected)),
    ):
        if np.abs(found - other).max() <= tolerance:
            return f"; {what}"
    return otherwise or "; was it exported from another model, or with other preprocessing?"


def softmax_of(values: Array) -> Array:
    """A softmax over the last axis."""
    return np.exp(log_softmax(values.reshape(-1, values.shape[-1]))).reshape(values.shape)

"""Whether a row's output depends on the rows beside it: synthetic rows run alone, beside other rows, and permuted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from service.errors import GraphError
from service.graph.inspect import Findings
from service.graph.mixing import (
    Step,
    at_a_fixed_scale,
    batch_sizes,
    dynamic_operators,
    exposed,
    inlined,
    scales_of_quantisation,
    steps,
)
from service.graph.rewrite import save
from service.importer.declared import Conclusion
from service.importer.dry_run import Run
from service.importer.input_plan import PlannedInput
from service.importer.sandbox import Arrays, Sandbox
from service.importer.synthetic_rows import MOST_CELLS, draw, rows_at_once

MOST_ROWS: Final = 7
EXTREME: Final = 1000.0  # times the size of other rows
KEPT_SIZES: Final = (1.0, 0.01, 30.0)  # of the rows that are compared: some of them saturate no softmax
TIGHT: Final = 1e-4  # beside other rows of the same number nothing is computed differently, not even its rounding
LOOSE: Final = 5e-3  # other numbers of rows, and other places, are rounded differently
STEPS: Final = 16.0  # of the output's own precision, where that is coarser
NOISE: Final = 0.05  # what rounding before a quantised layer can grow to
SHARP: Final = frozenset(
    {
        "QuantizeLinear",
        "Round",
        "Floor",
        "Ceil",
        "Cast",
        "Sign",
        "Equal",
        "Less",
        "Greater",
        "LessOrEqual",
        "GreaterOrEqual",
    }
)
"""Operators element by element that make a step of rounding: none of them mixes rows."""

COUNTED: Final = "depends on how many rows there are"
FLOATS: Final = frozenset({"FLOAT", "DOUBLE", "FLOAT16"})
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Trial:
    """Two runs that hold the same rows: the number of rows of each, and the places of those rows.

    ``because`` is the reason where the outputs of a row differ.
    """

    one: Arrays
    other: Arrays
    rows: tuple[int, int]
    places: tuple[tuple[int, ...], tuple[int, ...]]
    tolerance: float
    because: str


def check_batches(child: Sandbox, folder: Path, run: Run, findings: Findings, output: str) -> Conclusion | None:
    """Find out whether rows can be run in one batch.

    Parameters
    ----------
    child : Sandbox
    folder : Path
        With the graph's weights; changed graphs are written there.
    run : Run
        The dry run.
    findings : Findings
    output : str
        The tensor of scores.

    Returns
    -------
    Conclusion or None
        That rows are to be run one by one, where the graph quantises by the batch; None where rows are independent.

    Raises
    ------
    GraphError
        Naming the operators through which rows mix otherwise.
    """
    dynamic = dynamic_operators(findings.model, output)
    model = at_a_fixed_scale(findings.model) if dynamic else findings.model
    graph = folder / "batches.onnx"
    save(model, graph)
    trials = list(_trials(run.filled, run.size, batch_sizes(model, output)))
    for trial, answers in zip(trials, _answered(child, graph, output, trials), strict=True):
        if answers is not None and not _agree(*answers, trial):
            operators = _mixing(child, folder, model, output, trial)
            _refuse_mixing(operators, findings, output, trial, dynamic=bool(dynamic))
            dynamic = dynamic or tuple(dict.fromkeys(step.operator for step in operators or ()))
    return _alone(dynamic) if dynamic else None


def _alone(operators: Sequence[str]) -> Conclusion:
    verb = "quantises" if len(operators) == 1 else "quantise"
    reason = f"{', '.join(operators)} {verb} by the range of the whole batch: every row is run by itself"
    return Conclusion("rows", "alone", reason)


def _refuse_mixing(
    operators: Sequence[Step] | None, findings: Findings, output: str, trial: Trial, *, dynamic: bool
) -> None:
    if operators is None:  # rounding before a step, and no operator that mixes
        return
    found = [step for step in operators if not step.is_dynamic]
    scales = scales_of_quantisation(findings.model, output)
    by_scale = [step for step in found if not scales.isdisjoint(step.outputs)]
    if (dynamic and not found) or (found and len(by_scale) == len(found)):
        return
    names = ", ".join(dict.fromkeys(name for step in found for name in (*step.counted, step.operator)))
    verb = "work" if ", " in names else "works"
    culprit = f"{names or 'something in the graph'} {verb} across the row axis"
    raise GraphError(
        f"output {output!r} of a row {trial.because}: {culprit}, so a row would get another answer alone than in a "
        "batch; export the model so that every row is computed by itself, as in evaluation mode with statistics that "
        "were fixed in training"
    )


def _trials(filled: tuple[PlannedInput, ...], size: int, numbers: Sequence[int]) -> Iterator[Trial]:
    fixed = next((f.input.batch for f in filled if f.input.batch is not None), None)
    rows = fixed or min(MOST_ROWS, rows_at_once(filled, size))
    if rows < 2:
        return
    kept = (0, rows // 2, rows - 1) if rows > 4 else (0,)
    base = _sized(draw(filled, rows, size), filled, kept, KEPT_SIZES)
    for other in _companions(filled, base, kept, size):
        yield Trial(base, other, (rows, rows), (kept, kept), TIGHT, "depends on the rows beside it")
    turned = tuple(rows - 1 - place for place in kept)
    backwards = {name: value[::-1] for name, value in base.items()}
    yield Trial(base, backwards, (rows, rows), (kept, turned), LOOSE, "depends on its place among the rows")
    for place in kept if fixed is None else ():
        single = {name: value[place : place + 1] for name, value in base.items()}
        yield Trial(base, single, (rows, 1), ((place,), (0,)), LOOSE, COUNTED)
    cells = sum(value[0].size for value in base.values())
    for number in (n for n in numbers if fixed is None and rows < n <= MOST_CELLS // max(cells, 1)):
        many = {name: np.resize(value, (number, *value.shape[1:])) for name, value in base.items()}
        yield Trial(base, many, (rows, number), (kept, kept), LOOSE, COUNTED)


def _companions(filled: tuple[PlannedInput, ...], base: Arrays, kept: tuple[int, ...], size: int) -> Iterator[Arrays]:
    """The same rows to compare, beside others: drawn anew, copies of one row, far larger and of either sign."""
    rows = len(next(iter(base.values())))
    beside = tuple(place for place in range(rows) if place not in kept)
    drawn = draw(filled, rows, size, seed=1)
    copies = {name: np.repeat(value[:1], rows, axis=0) for name, value in base.items()}
    extreme = _sized(drawn, filled, beside, (EXTREME, -EXTREME))
    for others in (drawn, copies, extreme):
        yield {name: _with(others[name], base[name], kept) for name in base}


def _with(others: Array, base: Array, kept: tuple[int, ...]) -> Array:
    values = others.astype(base.dtype) if base.dtype.kind != "U" else others.astype(object)
    values = values.copy()
    values[list(kept)] = base[list(kept)]
    return values.astype(str) if base.dtype.kind == "U" else values


def _sized(feeds: Arrays, filled: tuple[PlannedInput, ...], places: tuple[int, ...], sizes: Sequence[float]) -> Arrays:
    sized = dict(feeds)
    for f in filled:
        if f.input.type in FLOATS and not f.mask and f.fill is None and "mask" not in f.input.name.lower():
            values = feeds[f.input.name].copy()
            for i, place in enumerate(places):
                values[place] = values[place] * values.dtype.type(sizes[i % len(sizes)])
            sized[f.input.name] = values
    return sized


def _answered(child: Sandbox, graph: Path, output: str, trials: Sequence[Trial]) -> list[tuple[Array, Array] | None]:
    """Both answers of every trial; all in one session, unless the graph fails on some of the rows."""
    try:
        found = child.run(graph, [output], [feeds for t in trials for feeds in (t.one, t.other)], together=True)
    except GraphError:
        each = [_both(child, graph, [output], trial) for trial in trials]
        return [None if pair is None else (pair[0][output], pair[1][output]) for pair in each]
    return [(one[output], other[output]) for one, other in zip(found[::2], found[1::2], strict=True)]


def _both(child: Sandbox, graph: Path, outputs: Sequence[str], trial: Trial) -> list[Arrays] | None:
    try:
        return child.run(graph, outputs, [trial.one, trial.other], together=True)
    except GraphError:
        return None  # no such rows: where a graph fails, there is no output that could depend on others


def _mixing(child: Sandbox, folder: Path, model: Any, output: str, trial: Trial) -> list[Step] | None:
    """Operators whose inputs agree on the rows and whose outputs do not; [] where none is found, None for rounding."""
    model = inlined(model)
    path = steps(model, output)
    tensors = tuple(name for step in path for name in step.outputs)
    graph = folder / "exposed.onnx"
    save(exposed(model, tensors), graph)
    answers = _both(child, graph, tensors, trial)
    if answers is None:
        return []
    found = _first_apart(path, answers, trial)
    if found or trial.tolerance == TIGHT:
        return found
    off = _off(answers[0][output], answers[1][output], trial)
    return None if off < NOISE else []


def _first_apart(path: Sequence[Step], answers: Sequence[Arrays], trial: Trial) -> list[Step]:
    """Operators whose outputs are apart and whose inputs are not; rounding does not count, nor what follows it."""
    found = []
    apart: set[str] = set()
    rounded: set[str] = set()
    for step in path:
        if step.of_sizes or all(_agree(answers[0][t], answers[1][t], trial) for t in step.outputs):
            continue
        if not apart.isdisjoint(step.inputs):
            apart.update(step.outputs)
        elif trial.tolerance != TIGHT and (step.operator in SHARP or not rounded.isdisjoint(step.inputs)):
            rounded.update(step.outputs)
        else:
            found.append(step)
            apart.update(step.outputs)
    return found


def _agree(one: Array, other: Array, trial: Trial) -> bool:
    """Whether two tensors are the same, or have an axis of rows along which the rows compared are."""
    if one.shape == other.shape and _close(one, other, trial.tolerance):
        return True
    return any(_close(a, b, trial.tolerance) for a, b in _rows_of(one, other, trial))


def _off(one: Array, other: Array, trial: Trial) -> float:
    """Distance of the rows compared, along the axis that fits best."""
    found = [float(np.max(np.abs(a - b) / (1.0 + np.abs(a)), initial=0.0)) for a, b in _rows_of(one, other, trial)]
    return min(found, default=np.inf)


def _rows_of(one: Array, other: Array, trial: Trial) -> Iterator[tuple[Array, Array]]:
    if one.ndim != other.ndim:
        return
    for axis in range(one.ndim):
        a, b = one.shape[axis], other.shape[axis]
        if a and b and a % trial.rows[0] == 0 and b % trial.rows[1] == 0 and a // trial.rows[0] == b // trial.rows[1]:
            for inner in (False, True):  # rows of several positions lie one behind the other, or position by position
                parts = [
                    _picked(value, axis, rows, places, inner=inner)
                    for value, rows, places in zip((one, other), trial.rows, trial.places, strict=True)
                ]
                if parts[0].shape == parts[1].shape:
                    yield parts[0], parts[1]


def _picked(value: Array, axis: int, rows: int, places: tuple[int, ...], *, inner: bool) -> Array:
    moved = np.moveaxis(value, axis, 0)
    each = len(moved) // rows
    split = moved.reshape(each, rows, *moved.shape[1:]) if inner else moved.reshape(rows, each, *moved.shape[1:])
    return split[:, list(places)] if inner else split[list(places)]


def _close(one: Array, other: Array, tolerance: float) -> bool:
    if one.dtype.kind != "f":
        return bool(np.array_equal(one, other))
    most = max(tolerance, STEPS * float(np.finfo(one.dtype).eps))
    a, b = one.astype(np.float64), other.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        near = np.abs(a - b) <= most * (1.0 + np.abs(a))
    return bool(np.all(near | (a == b) | (np.isnan(a) & np.isnan(b))))

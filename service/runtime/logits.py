"""Finite logits from the output of a graph, by the task and kind that the manifest declares."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from service.bundle.sections import Graph
from service.core.numerics import Array, Flags, Indices, floored_log, log_softmax, two_column, width
from service.core.sequence import flat, padded, present
from service.errors import Fault, ManifestInvalid, ModelOutputInvalid

SUM_TOLERANCE = 1e-3  # float16 softmaxes and boosted trees normalise no better
RANGE_TOLERANCE = 1e-6

Raws = npt.NDArray[Any]


def to_logits(raw: Raws, graph: Graph, *, lengths: Indices | None = None) -> Array:
    """Raw logits of an output tensor whose kind the manifest declares.

    Probabilities become their floored logarithms, of which any softmax makes the same probabilities again; those of
    a multilabel model become log-odds.

    Parameters
    ----------
    raw : ndarray
        (N, K) with one column (or rank 1) for the second class of two; (N, M) for labels; for sequences rank 3 or
        more, classes along ``class_axis``.
    graph : Graph
    lengths : ndarray of shape (N,), optional
        Unpadded positions of every row; without it no position is padding.

    Returns
    -------
    ndarray of shape (N, K), (N, M) or (N, L, K)
        Padding is 0.

    Raises
    ------
    ModelOutputInvalid
        With a fault for every row whose output is not finite, or contradicts its kind.
    ManifestInvalid
        If the shape is not one of the task's.
    """
    kept = width(len(graph.classes)) if graph.task == "multiclass" else np.dtype(np.float64)
    values = raw.astype(kept if graph.output_kind == "logits" else np.float64, copy=False)
    return _TASKS[graph.task](values, graph, lengths).astype(kept, copy=False)


def to_features(raw: npt.NDArray[Any], name: str) -> Array:
    """Finite features, shape (N, D), of an output tensor of rank 2; further axes must have length one."""
    if raw.ndim < 2 or any(length != 1 for length in raw.shape[2:]):
        raise ManifestInvalid(
            f"ood.space: output {name!r} has shape {raw.shape}; scores look at [rows, features]: expose a tensor that "
            "is pooled or flattened to that"
        )
    features = raw.reshape(raw.shape[:2]).astype(np.float64, copy=False)
    broken: Flags = np.any(~np.isfinite(features), axis=1)
    refuse_rows(broken, np.arange(len(features)), "not-finite", f"the model's output {name!r} is not a finite number")
    return features


def _of_classes(raw: Array, graph: Graph, lengths: Indices | None) -> Array:
    del lengths
    values = raw[:, None] if raw.ndim == 1 else raw
    k = len(graph.classes)
    if values.ndim != 2 or not (values.shape[1] == k or (values.shape[1] == 1 and k == 2)):
        column = " (or one column)" if k == 2 else ""
        raise _misshapen(values, graph, f"[rows, {k}] is needed{column}")
    return _converted(values, graph, np.arange(len(values)))


def _of_labels(raw: Array, graph: Graph, lengths: Indices | None) -> Array:
    del lengths
    if raw.ndim != 2 or raw.shape[1] != len(graph.classes):
        raise _misshapen(raw, graph, f"[rows, {len(graph.classes)}] is needed, a sigmoid for every label")
    return _converted(raw, graph, np.arange(len(raw)))


def _of_positions(raw: Array, graph: Graph, lengths: Indices | None) -> Array:
    k, axis = len(graph.classes), graph.class_axis
    if raw.ndim < 3 or axis >= raw.ndim or not (raw.shape[axis] == k or (raw.shape[axis] == 1 and k == 2)):
        raise _misshapen(raw, graph, f"[rows, positions, {k}] is needed, or {k} along class_axis")
    table = np.moveaxis(raw, axis, -1).reshape(len(raw), -1, raw.shape[axis])
    sizes = np.full(len(table), table.shape[1]) if lengths is None else lengths
    if len(sizes) == len(table) and sizes.max(initial=0) > table.shape[1]:
        raise _misshapen(raw, graph, f"a row has {sizes.max()} positions, and each needs its scores")
    if len(sizes) != len(table):
        return table  # the session reports that rows are missing
    rows = np.nonzero(present(sizes, table.shape[1]))[0]
    return padded(_converted(flat(table, sizes), graph, rows), sizes, length=table.shape[1])


def _converted(values: Array, graph: Graph, rows: Indices) -> Array:
    """Logits of flat values, ``rows`` naming the instance of each."""
    if np.count_nonzero(np.isfinite(values)) < values.size:
        broken: Flags = np.any(~np.isfinite(values), axis=1)
        refuse_rows(broken, rows, "not-finite", "the model's output is not a finite number")
    return _KINDS[graph.output_kind](values, graph.probability_floor, rows)


def refuse_rows(bad: Flags, rows: Indices, code: str, detail: str) -> None:
    """Raise ModelOutputInvalid naming every instance with a bad value."""
    if bad.any():
        faults = [Fault(("instances", int(row)), code, detail) for row in np.unique(rows[bad])]
        raise ModelOutputInvalid(f"{detail} (rows: {len(faults)})", faults)


def _from_logits(values: Array, floor: float, rows: Indices) -> Array:
    del floor, rows
    return two_column(values[:, 0]) if values.shape[1] == 1 else values


def _from_probabilities(values: Array, floor: float, rows: Indices) -> Array:
    if values.shape[1] == 1:
        values = np.concatenate([1.0 - values, values], axis=1)
    improper = (values < -RANGE_TOLERANCE).any(axis=1) | (np.abs(values.sum(axis=1) - 1.0) > SUM_TOLERANCE)
    refuse_rows(improper, rows, "not-probabilities", "the model's output is declared as probabilities and is not")
    return floored_log(values, floor=floor)


def _from_log_probabilities(values: Array, floor: float, rows: Indices) -> Array:
    if values.shape[1] == 1:
        return _from_probabilities(np.exp(values), floor, rows)
    improper = np.abs(np.exp(np.minimum(values, 1.0)).sum(axis=1) - 1.0) > SUM_TOLERANCE
    refuse_rows(improper, rows, "not-probabilities", "the model's output is declared as log-probabilities and is not")
    return log_softmax(np.maximum(values, np.log(floor)))


def _from_sigmoids(values: Array, floor: float, rows: Indices) -> Array:
    improper: Flags = np.any((values < -RANGE_TOLERANCE) | (values > 1.0 + RANGE_TOLERANCE), axis=1)
    refuse_rows(improper, rows, "not-probabilities", "the model's output is declared as probabilities and is not")
    return np.log(np.maximum(values, floor)) - np.log(np.maximum(1.0 - values, floor))


def _unchanged(values: Array, floor: float, rows: Indices) -> Array:
    del floor, rows
    return values


def _misshapen(values: Array, graph: Graph, needed: str) -> ManifestInvalid:
    declared = f"{len(graph.classes)} classes are declared"
    return ManifestInvalid(f"output {graph.output!r} has shape {tuple(values.shape)}; {declared}, so {needed}")


_KINDS: Final[dict[str, Callable[[Array, float, Indices], Array]]] = {
    "logits": _from_logits,
    "probabilities": _from_probabilities,
    "log_probabilities": _from_log_probabilities,
    "sigmoid_logits": _unchanged,
    "sigmoid_probabilities": _from_sigmoids,
}
_TASKS: Final[dict[str, Callable[[Array, Graph, Indices | None], Array]]] = {
    "multiclass": _of_classes,
    "multilabel": _of_labels,
    "sequence": _of_positions,
}

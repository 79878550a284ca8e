"""Whether the label that a graph answers itself is the class of its largest score.

Tested in tests/importer/test_analysis.py.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from service.errors import GraphError
from service.graph.inspect import Findings
from service.importer.declared import Conclusion

Array = npt.NDArray[Any]
LEAST_AGREEMENT = 0.5
TIE = 1e-6
TWO = 2


def agreement(
    answers: dict[str, Array], findings: Findings, indices: Array, decided: Array | None = None
) -> float | None:
    """Share of rows whose own label is the class of a given index; None if the graph answers no labels.

    Rows that ``decided`` leaves out, ties for instance, do not count.
    """
    own = _own(answers, findings, len(indices))
    if own is None:
        return None
    same = (own == indices)[slice(None) if decided is None else decided]
    return float(np.mean(same)) if same.size else None


def _own(answers: dict[str, Array], findings: Findings, rows: int) -> Array | None:
    """The graph's own labels, as indices."""
    found = (_class_indices(answers[name].reshape(-1), findings.classes) for name in findings.labels)
    return next((own for own in found if own is not None and len(own) == rows), None)


def compare_labels(answers: dict[str, Array], findings: Findings, scores: Array, kind: str) -> Conclusion | None:
    """Whether the graph's own label agrees with its scores; None without such a label, or where no row decides it.

    Parameters
    ----------
    answers : dict of str to ndarray
    findings : Findings
    scores : ndarray of shape (rows, columns)
    kind : str
        An output kind: decides where one column changes from the first class to the second.

    Raises
    ------
    GraphError
        If the largest score mostly belongs to another class than the label.
    """
    if scores.ndim != 2:
        return None
    indices, decided = _largest(scores, kind)
    share = agreement(answers, findings, indices, decided)
    if share is None:
        return None
    if share < LEAST_AGREEMENT and not _at_a_threshold(_own(answers, findings, len(scores)), scores):
        raise GraphError(
            f"the graph's own label is the class of its largest score in {share:.0%} of synthetic rows only: the "
            "scores are in another order than the class labels, or are none; name the tensor of scores: --output"
        )
    rows = f"{int(decided.sum())} synthetic rows without a tie"
    if share == 1.0:
        return Conclusion("label", "agrees", f"the graph's own label is the class of its largest score in all {rows}")
    why = "it may be drawn at another threshold than one half, which is what costs do here"
    return Conclusion("label", "differs", f"it is the class of its largest score in {share:.0%} of {rows} only; {why}")


def _at_a_threshold(own: Array | None, scores: Array) -> bool:
    """Whether labels of two classes are those of a threshold on the second one's score, whichever it is."""
    if own is None or scores.shape[1] > TWO or not {0, 1} >= set(own.tolist()):
        return False
    margin = scores[:, -1].astype(np.float64) - (scores[:, 0] if scores.shape[1] == TWO else 0.0)
    below, above = margin[own == 0], margin[own == 1]
    return bool(len(below) and len(above) and below.max() <= above.min())


def _largest(scores: Array, kind: str) -> tuple[Array, Array]:
    if scores.shape[1] == 1:
        middle = {"logits": 0.0, "log_probabilities": float(np.log(0.5))}.get(kind, 0.5)
        column = scores[:, 0].astype(np.float64)
        return (column > middle).astype(int), np.abs(column - middle) > TIE
    top = np.sort(scores.astype(np.float64), axis=1)
    return np.argmax(scores, axis=1), top[:, -1] - top[:, -2] > TIE


def _class_indices(labels: Array, classes: tuple[str, ...] | None) -> Array | None:
    """Indices of labels among class names; of whole numbers themselves where nothing names the classes."""
    if labels.dtype.kind == "f" and np.isfinite(labels).all() and (labels == np.round(labels)).all():
        labels = labels.astype(np.int64)
    if classes is not None:
        known = {name: i for i, name in enumerate(classes)}
        return np.array([known[str(x)] for x in labels]) if {str(x) for x in labels} <= set(known) else None
    return labels.astype(np.int64) if labels.dtype.kind in "iub" and labels.min(initial=0) >= 0 else None

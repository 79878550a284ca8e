"""Which tensor carries the scores, what its classes are called, and whether the graph's own label agrees."""

from typing import Any

import numpy as np
import numpy.typing as npt

from service.errors import GraphError
from service.graph.evidence import Output
from service.graph.inspect import Findings, check_class_order, named_in_metadata
from service.importer.declared import SAID, Conclusion, Declared

Array = npt.NDArray[Any]
LEAST_AGREEMENT = 0.5
TIE = 1e-6
TWO = 2
REMEDY = "export a classifier's probabilities or logits, not only its label"


def choose_output(findings: Findings, declared: Declared) -> tuple[Output, str]:
    """The tensor of scores, and why this one.

    Raises
    ------
    GraphError
        If there is none, or several of which the user must choose.
    """
    names = [output.name for output in findings.outputs]
    if declared.output is not None:
        for output in findings.outputs:
            if output.name == declared.output:
                return output, SAID
        if made := findings.decisions.get(declared.output):
            raise GraphError(
                f"--output: {declared.output!r} is what {made} made of scores: a label, no score; {REMEDY}"
            )
        raise GraphError(f"--output: the graph has no such floating-point tensor (it has {', '.join(names) or 'none'})")
    if len(names) == 1:
        return findings.outputs[0], "the only floating-point tensor"
    if names:
        raise GraphError(f"the graph has several outputs; say which carries the scores: --output {'|'.join(names)}")
    if findings.decisions:
        shown = ", ".join(f"{name!r} is what {made} made of scores" for name, made in findings.decisions.items())
        raise GraphError(
            f"the graph has no floating-point tensor among its outputs that holds scores ({shown}); {REMEDY}"
        )
    raise GraphError(f"the graph has no floating-point tensor among its outputs; {REMEDY}")


def conclude_classes(findings: Findings, declared: Declared, columns: int, *, multilabel: bool) -> Conclusion:
    """Class names in output order.

    Raises
    ------
    GraphError
        If another number of classes is named than the output has.
    ManifestInvalid
        If the graph lists the same names in another order.
    """
    k = columns if multilabel else max(2, columns)
    if declared.classes is not None:
        if len(declared.classes) != k:
            raise GraphError(f"--classes names {len(declared.classes)} classes; the output has {k}")
        if not multilabel:
            check_class_order(findings.classes or named_in_metadata(findings), declared.classes)
        return Conclusion("classes", declared.classes, SAID)
    if multilabel:
        return Conclusion("classes", tuple(map(str, range(k))), "nothing names the labels: numbered in output order")
    if findings.classes is not None and len(findings.classes) == k:
        return Conclusion("classes", findings.classes, findings.classes_from + _contradicted(findings))
    return _written(findings, k)


def _written(findings: Findings, k: int) -> Conclusion:
    """Class names of the file's metadata, where those of that number agree; otherwise their numbers."""
    fitting = [(names, where) for names, where in findings.classes_written if len(names) == k]
    if fitting and len({names for names, _ in fitting}) == 1:
        return Conclusion("classes", *fitting[0])
    others = [n for n in (findings.classes, *(names for names, _ in findings.classes_written)) if n is not None]
    why = "nothing names them"
    if fitting:
        why = "the file's metadata names them in several ways (say which is right: --classes a,b,…)"
    elif others:
        why = f"the graph names {len(others[0])}, not {k}, so nothing names them"
    return Conclusion("classes", tuple(map(str, range(k))), f"{why}: numbered in output order")


def _contradicted(findings: Findings) -> str:
    """A note where the file's metadata names other classes than the operators do."""
    for names, where in findings.classes_written:
        if names != findings.classes:
            what = "another order" if set(names) == set(findings.classes or ()) else "other names"
            return f"; {where}, has {what}, which no operator answers"
    return ""


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
    """What the graph's own label says of its scores; None where it answers none, or no row tells.

    Parameters
    ----------
    answers : dict of str to ndarray
    findings : Findings
    scores : ndarray of shape (rows, columns)
    kind : str
        An output kind: says where one column turns from the first class to the second.

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
            "scores are in another order than the class labels, or are none; say which tensor carries them: --output"
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

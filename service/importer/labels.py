"""Which tensor carries the scores, what its classes are called, and whether the graph's own label agrees."""

from typing import Any

import numpy as np
import numpy.typing as npt

from service.errors import GraphError
from service.graph.evidence import Output
from service.graph.inspect import Findings, check_class_order
from service.importer.declared import SAID, Conclusion, Declared

Array = npt.NDArray[Any]
LEAST_AGREEMENT = 0.5


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
        raise GraphError(f"--output: the graph has no such floating-point tensor (it has {', '.join(names) or 'none'})")
    if len(names) == 1:
        return findings.outputs[0], "the only floating-point tensor"
    if names:
        raise GraphError(f"the graph has several outputs; say which carries the scores: --output {'|'.join(names)}")
    remedy = "export a classifier's probabilities or logits, not only its label"
    raise GraphError(f"the graph has no floating-point tensor among its outputs; {remedy}")


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
            check_class_order(findings.classes, declared.classes)
        return Conclusion("classes", declared.classes, SAID)
    if multilabel:
        return Conclusion("classes", tuple(map(str, range(k))), "nothing names the labels: numbered in output order")
    if findings.classes is not None and len(findings.classes) == k:
        return Conclusion("classes", findings.classes, findings.classes_from)
    told = "nothing" if findings.classes is None else f"the graph names {len(findings.classes)}, not {k}, so nothing"
    return Conclusion("classes", tuple(map(str, range(k))), f"{told} names them: numbered in output order")


def agreement(answers: dict[str, Array], findings: Findings, indices: Array) -> float | None:
    """Share of rows whose own label is the class of a given index; None if the graph answers no labels."""
    for name in findings.labels:
        labels = answers[name].reshape(-1)
        known = findings.classes or ()
        if len(labels) == len(indices) and set(map(str, labels)) <= set(known):
            own = np.array([known.index(str(label)) for label in labels])
            return float(np.mean(own == indices))
    return None


def check_agreement(answers: dict[str, Array], findings: Findings, scores: Array) -> None:
    """Raise GraphError if the largest score mostly belongs to another class than the graph's own label."""
    if scores.ndim != 2 or scores.shape[1] < 2:
        return
    share = agreement(answers, findings, np.argmax(scores, axis=1))
    if share is not None and share < LEAST_AGREEMENT:
        raise GraphError(
            f"the graph's own label is the class of its largest score in {share:.0%} of synthetic rows only: the "
            "scores are in another order than the class labels, or are none; say which tensor carries them: --output"
        )

"""The output kind and the task: as declared, by the operators, or by the dry run; or else an error names the flag.

Tested in tests/importer/test_analysis.py.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from service.errors import GraphError
from service.graph.output_evidence import Output
from service.importer.declared import DECLARED, Conclusion, Declared
from service.runtime.logits import RANGE_TOLERANCE, SUM_TOLERANCE

Array = npt.NDArray[Any]

MULTILABEL: Final = {
    "probabilities": "sigmoid_probabilities",
    "sigmoid": "sigmoid_probabilities",
    "logits": "sigmoid_logits",
    "margins": "sigmoid_probabilities",
}


def conclude_kind(output: Output, declared: Declared, probe: Array) -> Conclusion:
    """Conclude what an output's values are.

    Parameters
    ----------
    output : Output
        What the operators prove.
    declared : Declared
    probe : ndarray of shape (rows, columns)
        Its values on synthetic rows.

    Raises
    ------
    GraphError
        If the dry run contradicts what is declared or proven, or the kind is unknown.
    """
    if declared.output_kind is not None:
        return _as_declared(output, declared.output_kind, probe)
    if output.kind == "regression":
        raise GraphError(
            f"{output.name!r} comes from a regressor ({output.evidence}), which predicts a quantity, not a class; "
            "if it was trained on classes all the same, give --output-kind logits"
        )
    if declared.task == "multilabel" and output.kind in MULTILABEL:
        kind = "sigmoid_logits" if output.kind == "margins" and not _inside(probe) else MULTILABEL[output.kind]
        return _check(output, Conclusion("output_kind", kind, f"{output.evidence}, of a multilabel model"), probe)
    return _from_evidence(output, declared, probe)


def conclude_task(kind: str, declared: Declared, *, positions: bool) -> Conclusion:
    """Conclude what is classified: one class of several, any of several labels, every position of a row.

    Raises
    ------
    GraphError
        If the declared task does not fit the output.
    """
    found = "multilabel" if kind.startswith("sigmoid_") else "sequence" if positions else "multiclass"
    why = {
        "multilabel": "its columns are independent sigmoids",
        "sequence": "there is an answer for every position",
        "multiclass": "one class of several for every row",
    }[found]
    if declared.task not in (None, found):
        raise GraphError(f"--task {declared.task}: the output is that of a {found} model ({why}); give --task {found}")
    return Conclusion("task", found, DECLARED if declared.task else why)


def is_pair(output: Output, probe: Array) -> bool:
    """Whether two columns are one margin and its negative, of which no softmax makes the probability."""
    return output.kind == "margins" and probe.shape[1] == 2 and bool(np.allclose(probe[:, 0], -probe[:, 1], atol=1e-5))


def are_probabilities(probe: Array) -> bool:
    """Whether rows lie in [0, 1] and, where they have several columns, sum to one."""
    return _inside(probe) and (probe.shape[1] == 1 or bool((np.abs(probe.sum(axis=1) - 1.0) <= SUM_TOLERANCE).all()))


def _inside(probe: Array) -> bool:
    return bool(((probe >= -RANGE_TOLERANCE) & (probe <= 1 + RANGE_TOLERANCE)).all())


def _as_declared(output: Output, kind: str, probe: Array) -> Conclusion:
    proven = {"margins": "logits", "sigmoid": "sigmoid_probabilities"}.get(output.kind or "", output.kind)
    agrees = proven is None or kind == proven or (output.kind == "sigmoid" and kind == "probabilities")
    agrees = agrees or (kind == "sigmoid_logits" and proven == "logits") or output.kind == "margins"
    note = DECLARED if agrees else f"{DECLARED}, although {output.evidence}"
    if agrees and kind in {"logits", "sigmoid_logits"} and probe.shape[1] > 1 and are_probabilities(probe):
        note = f"{DECLARED}, although {len(probe)} synthetic rows lie in [0, 1] and sum to 1"
    return _check(output, Conclusion("output_kind", kind, note), probe, flag=f"--output-kind {kind}: ")


def _check(output: Output, found: Conclusion, probe: Array, *, flag: str = "") -> Conclusion:
    fits = {
        "probabilities": are_probabilities(probe),
        "sigmoid_probabilities": _inside(probe),
        "log_probabilities": probe.shape[1] == 1 or are_probabilities(np.exp(np.minimum(probe, 1.0))),
    }.get(str(found.value), True)
    if fits:
        return found
    words = str(found.value).replace("_", " ").removeprefix("sigmoid ")
    if flag:
        raise GraphError(f"{flag}{output.name!r} has other values on synthetic rows")
    raise GraphError(
        f"{output.name!r} should be {words} ({output.evidence}), but is not on synthetic rows: give --output-kind"
    )


def _from_evidence(output: Output, declared: Declared, probe: Array) -> Conclusion:
    proper, columns = are_probabilities(probe), probe.shape[1]
    if output.kind in {"probabilities", "log_probabilities"}:
        return _check(output, Conclusion("output_kind", output.kind, output.evidence), probe)
    if output.kind == "sigmoid":
        return _of_sigmoids(output, probe)
    if output.kind == "margins" and not _inside(probe):
        note = f"{output.evidence}, and synthetic rows leave [0, 1]: raw margins, even where they are named otherwise"
        return Conclusion("output_kind", "logits", note)
    if output.kind == "logits" and not proper:
        if columns == 1 and declared.classes is None:
            raise GraphError(
                f"{output.name!r} is one linear column ({output.evidence}), as a regressor has it too; if it is the "
                "logit of the second of two classes, name them: --classes no,yes"
            )
        return Conclusion("output_kind", "logits", output.evidence)
    if proper and columns > 1:
        note = f"{len(probe)} synthetic rows lie in [0, 1] and sum to 1"
        return Conclusion("output_kind", "probabilities", note)
    raise GraphError(
        f"the kind of {output.name!r} is unknown ({output.evidence}); give --output-kind logits, log_probabilities, "
        "probabilities, sigmoid_logits or sigmoid_probabilities (with one value per label: --task multilabel)"
    )


def _of_sigmoids(output: Output, probe: Array) -> Conclusion:
    if not _inside(probe):
        raise GraphError(f"{output.name!r} should lie in [0, 1] ({output.evidence}) and does not: give --output-kind")
    if probe.shape[1] == 1:
        note = f"{output.evidence}; one column is the probability of the second of two classes"
        return Conclusion("output_kind", "probabilities", note)
    if are_probabilities(probe):
        note = f"{output.evidence}, and {len(probe)} synthetic rows sum to 1"
        return Conclusion("output_kind", "probabilities", note)
    note = f"{output.evidence}, and {probe.shape[1]} columns that do not sum to 1: one probability per label"
    return Conclusion("output_kind", "sigmoid_probabilities", note)

"""Labelled rows of a request, read by task, and the report that `:evaluate` answers.

Tested in tests/api/test_served_numbers.py and tests/tasks/test_wire.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from service.api.v1.parameters import label_policies_of, policies_of
from service.api.v1.requests import EvaluateRequest, Label
from service.core.losses.sequence import PADDING
from service.core.numerics import Indices
from service.core.pipeline import Policy
from service.data.labels import read_labels, read_presences
from service.errors import DataError, Fault, InvalidLabels
from service.evaluation.classification_problem import LabelledAnswer
from service.evaluation.evaluate import evaluate
from service.prediction.answer import Answer
from service.prediction.answer_member import Json
from service.runtime.model import Model

Entries = Sequence[Label | list[Label]]


@dataclass(frozen=True, slots=True)
class LabelledRows:
    """What a request's rows are evaluated against.

    Attributes
    ----------
    labels : ndarray of shape (N,); multilabel (N, M), sequence (N, L)
    policies : dict of str to Policy
        Multiclass and sequence.
    label_policies : dict of str to dict of int to Policy
        Multilabel, by the label's index.
    """

    labels: Indices
    policies: dict[str, Policy]
    label_policies: dict[str, dict[int, Policy]]


def read_labelled(request: EvaluateRequest, model: Model) -> LabelledRows:
    """Labels and policies of a request; InvalidLabels, InvalidParameters."""
    if len(request.labels) != len(request.instances):
        raise _invalid(("labels",), "wrong-length", "must have one entry per instance")
    try:
        labels = _READERS[model.task](request.labels, model, request.parameters.labels_as)
    except DataError as error:
        raise InvalidLabels(error.detail, error.faults) from None
    if model.manifest.graph.rules.by_label:
        return LabelledRows(labels, {}, label_policies_of(request.parameters, model))
    return LabelledRows(labels, policies_of(request.parameters, model), {})


def evaluate_answer(rows: LabelledRows, answer: Answer, losses: Sequence[str] = ()) -> Json:
    """The report, plain values; InvalidLabels where labels and rows do not fit, InvalidParameters for a loss."""
    labelled = LabelledAnswer(answer, rows.labels, policies=rows.policies, label_policies=rows.label_policies)
    try:
        return evaluate(labelled, losses=losses).report.as_json()
    except DataError as error:
        raise InvalidLabels(error.detail, error.faults) from None


def _read_classes(entries: Entries, model: Model, labels_as: str | None) -> Indices:
    for i, entry in enumerate(entries):
        if isinstance(entry, list):
            raise _invalid(("labels", i), "wrong-type", "must be the name of a class or its index")
    return read_labels(entries, model.classes, where="labels", labels_as=labels_as)


def _read_presences(entries: Entries, model: Model, labels_as: str | None) -> Indices:
    rows = [_presences(entry, i, model.classes, labels_as) for i, entry in enumerate(entries)]
    return read_presences(np.array(rows, dtype=np.int64), model.classes, where="labels")


def _presences(entry: Label | list[Label], row: int, labels: tuple[str, ...], labels_as: str | None) -> list[int]:
    if not isinstance(entry, list):
        raise _invalid(("labels", row), "wrong-type", "must be a list: labels that are present, or a 0 or 1 for each")
    if labels_as in ("index0", "index1"):
        first = int(labels_as == "index1")
        if any(isinstance(item, str | bool) or item - first not in range(len(labels)) for item in entry):
            detail = f"must be indices of the labels that are present, from {first} to {len(labels) - 1 + first}"
            raise _invalid(("labels", row), "unknown-class", detail)
        return [int(k + first in entry) for k in range(len(labels))]
    if all(isinstance(item, str) for item in entry):
        unknown = [item for item in entry if item not in labels]
        if unknown:
            raise _invalid(("labels", row), "unknown-class", f"must name labels among {', '.join(labels)}")
        return [int(label in entry) for label in labels]
    if labels_as == "names" or len(entry) != len(labels) or any(item not in (0, 1) for item in entry):
        raise _invalid(("labels", row), "unknown-state", f"must have {len(labels)} entries of 0 or 1, or names")
    return [int(item) for item in entry]


def _read_positions(entries: Entries, model: Model, labels_as: str | None) -> Indices:
    for i, entry in enumerate(entries):
        if not isinstance(entry, list) or not entry:
            raise _invalid(("labels", i), "wrong-type", "must be a list with a class for every position")
    own = [entry for entry in entries if isinstance(entry, list)]
    found = iter(_classes_of(own, model, labels_as).tolist())
    labels = np.full((len(own), max(map(len, own))), PADDING, dtype=np.intp)
    for i, entry in enumerate(own):
        labels[i, : len(entry)] = [next(found) for _ in entry]
    return labels


def _classes_of(entries: Sequence[list[Label]], model: Model, labels_as: str | None) -> Indices:
    """Classes of all positions, one sequence after the other: read together, for a label alone may be ambiguous."""
    places = [(row, position) for row, entry in enumerate(entries) for position in range(len(entry))]
    every = [label for entry in entries for label in entry]
    try:
        return read_labels(every, model.classes, where="labels", labels_as=labels_as)
    except DataError as error:
        fault = error.faults[0]
        if len(fault.path) < 2:
            raise
        row, position = places[int(fault.path[1])]
        detail = f"labels of sequence {row}: the label of position {position} {fault.detail} (both count from 0)"
        raise InvalidLabels(detail, [Fault(("labels", row, position), fault.code, fault.detail)]) from None


def _invalid(path: tuple[str | int, ...], code: str, detail: str) -> InvalidLabels:
    place = ".".join(map(str, path))
    return InvalidLabels(f"{place} {detail}", [Fault(path, code, detail)])


_READERS: Final[dict[str, Callable[[Entries, Model, str | None], Indices]]] = {
    "multiclass": _read_classes,
    "multilabel": _read_presences,
    "sequence": _read_positions,
}

"""Rules of a manifest that differ from task to task.

Tested in `tests/bundle/test_manifest.py`.
"""

from dataclasses import dataclass
from typing import Final

ABSENT, PRESENT = "absent", "present"
"""The two states of a label, as costs name them."""

SIGMOIDS: Final = ("sigmoid_logits", "sigmoid_probabilities")
SOFTMAXES: Final = ("logits", "log_probabilities", "probabilities")


@dataclass(frozen=True, slots=True)
class Task:
    """Rules of one task.

    Attributes
    ----------
    kinds : tuple of str
        Output kinds that a graph can have.
    remedy : str
        What to declare instead of another kind.
    most_axis : int or None
        Largest ``class_axis``; None where it depends on the graph.
    scores : tuple of str
        OOD scores of a manifest that names none.
    losses : tuple of str
        What `[training]` can declare.
    by_label : bool
        Whether classes hold independently of each other: costs and prevalences are then of every label.
    switch : bool
        Whether a policy can put a price on changing the action.
    smoothness : bool
        Whether the training loss can put a price on change between neighbours.
    """

    kinds: tuple[str, ...]
    remedy: str
    most_axis: int | None
    scores: tuple[str, ...]
    losses: tuple[str, ...]
    by_label: bool = False
    switch: bool = False
    smoothness: bool = False


TASKS: Final[dict[str, Task]] = {
    "multiclass": Task(
        kinds=SOFTMAXES,
        remedy="belongs to task 'multilabel'; the single sigmoid of a two-class model is 'probabilities' (or 'logits' "
        "before the sigmoid) of the second class",
        most_axis=1,
        scores=("nll",),
        losses=("cross_entropy", "weighted", "focal", "label_smoothing", "mixup", "distillation"),
    ),
    "multilabel": Task(
        kinds=SIGMOIDS,
        remedy="is of classes that exclude each other; a label of its own has 'sigmoid_logits' or "
        "'sigmoid_probabilities'",
        most_axis=1,
        scores=("joint_energy",),
        losses=("cross_entropy", "weighted", "focal"),
        by_label=True,
    ),
    "sequence": Task(
        kinds=SOFTMAXES,
        remedy="belongs to task 'multilabel'; every position of a sequence has one class of several",
        most_axis=None,
        scores=("nll",),
        losses=("cross_entropy", "weighted", "focal", "label_smoothing"),
        switch=True,
        smoothness=True,
    ),
}

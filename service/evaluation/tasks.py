"""How every task becomes the classification problems of an evaluation.

Tested in tests/evaluation/test_evaluate_before.py.
"""

from collections.abc import Callable
from typing import Final

from service.evaluation.classification_problem import ClassificationProblem, LabelledAnswer
from service.evaluation.multiclass import multiclass
from service.evaluation.multilabel import LabelStructure, multilabel
from service.evaluation.sequence import SequenceStructure, sequence

Structure = LabelStructure | SequenceStructure
Task = Callable[[LabelledAnswer], tuple[dict[str, ClassificationProblem], Structure | None]]

TASKS: Final[dict[str, Task]] = {"multiclass": multiclass, "multilabel": multilabel, "sequence": sequence}

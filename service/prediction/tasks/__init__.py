"""Tasks: stages D and E of each, and the members of an answer that others do not have."""

from typing import Final

from service.prediction.tasks.multiclass import MULTICLASS
from service.prediction.tasks.multilabel import MULTILABEL
from service.prediction.tasks.sequence import SEQUENCE
from service.prediction.tasks.stages import Task

TASKS: Final[dict[str, Task]] = {"multiclass": MULTICLASS, "multilabel": MULTILABEL, "sequence": SEQUENCE}

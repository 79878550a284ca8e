"""One of every objective, with the loss of `core` that it is and the parameters of that."""

from typing import Any

import numpy as np
import torch

from service.training.objectives import (
    CrossEntropy,
    Distillation,
    Focal,
    LabelSmoothing,
    Mixup,
    MultilabelCrossEntropy,
    MultilabelFocal,
    SequenceCrossEntropy,
    Weighted,
)

OBJECTIVES: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "cross-entropy": (CrossEntropy(), "cross_entropy", {}),
    "weighted": (Weighted((1.0, 2.0, 5.0)), "weighted", {"class_weights": np.array([1.0, 2.0, 5.0])}),
    "focal": (Focal(3.0), "focal", {"gamma": 3.0}),
    "focal, weighted": (
        Focal(2.0, alpha=(0.2, 0.3, 0.5)),
        "focal",
        {"gamma": 2.0, "alpha": np.array([0.2, 0.3, 0.5])},
    ),
    "label smoothing": (LabelSmoothing(0.2), "label_smoothing", {"epsilon": 0.2}),
    "distillation": (
        Distillation(torch.nn.Identity(), tau=3.0, soft_share=0.7),
        "distillation",
        {"tau": 3.0, "soft_share": 0.7},
    ),
    "labels": (MultilabelCrossEntropy(), "multilabel_cross_entropy", {}),
    "labels, weighted": (
        MultilabelCrossEntropy((2.0, 3.0, 4.0)),
        "multilabel_cross_entropy",
        {"positive_weight": np.array([2.0, 3.0, 4.0])},
    ),
    "labels, focal": (MultilabelFocal(2.0, alpha=0.25), "sigmoid_focal", {"gamma": 2.0, "alpha": 0.25}),
    "sequence": (SequenceCrossEntropy(), "sequence_cross_entropy", {}),
    "sequence, smooth": (SequenceCrossEntropy(0.5), "sequence_cross_entropy", {"smoothness": 0.5}),
}
EVERY = {**OBJECTIVES, "mixup": (Mixup(0.3), "mixup", {})}

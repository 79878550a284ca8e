"""The cross-entropy family: every loss with its gradient in the logits, by name.

A loss takes ``(logits, targets, *, parameters)`` and returns ``(loss, gradient)``: one number per row, shape (N,),
and an array of the logits' shape. `Loss.values` is the loss without its gradient. Nothing is averaged, so rows can be
weighted, cut into segments or summed in order.
"""

import math
from typing import Final

from service.core.losses import values
from service.core.losses.loss import Loss, Parameter
from service.core.losses.sequence import sequence_cross_entropy
from service.core.losses.sigmoid import binary_cross_entropy, multilabel_cross_entropy, sigmoid_focal
from service.core.losses.softmax import (
    cross_entropy,
    distillation,
    focal,
    label_smoothing,
    soft_cross_entropy,
    weighted_cross_entropy,
)

LOSSES: Final[dict[str, Loss]] = {
    "cross_entropy": Loss(cross_entropy, values.cross_entropy),
    "weighted": Loss(
        weighted_cross_entropy,
        values.weighted_cross_entropy,
        parameters={"class_weights": Parameter("per_class", required=True)},
    ),
    "focal": Loss(focal, values.focal, parameters={"gamma": Parameter("number"), "alpha": Parameter("per_class")}),
    "label_smoothing": Loss(
        label_smoothing, values.label_smoothing, parameters={"epsilon": Parameter("number", high=1.0)}
    ),
    "mixup": Loss(soft_cross_entropy, values.soft_cross_entropy, targets="distributions"),
    "distillation": Loss(
        distillation,
        values.distillation,
        parameters={
            "teacher": Parameter("per_row", low=-math.inf, required=True),
            "tau": Parameter("number"),
            "soft_share": Parameter("number", high=1.0),
        },
    ),
    "binary_cross_entropy": Loss(
        binary_cross_entropy,
        values.binary_cross_entropy,
        task="binary",
        parameters={"positive_weight": Parameter("number")},
    ),
    "multilabel_cross_entropy": Loss(
        multilabel_cross_entropy,
        values.multilabel_cross_entropy,
        task="multilabel",
        parameters={"positive_weight": Parameter("per_class")},
    ),
    "sigmoid_focal": Loss(
        sigmoid_focal,
        values.sigmoid_focal,
        task="multilabel",
        parameters={"gamma": Parameter("number"), "alpha": Parameter("number", high=1.0)},
    ),
    "sequence_cross_entropy": Loss(
        sequence_cross_entropy,
        values.sequence_cross_entropy,
        task="sequence",
        parameters={"smoothness": Parameter("number")},
    ),
}

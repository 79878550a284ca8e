"""The type of a loss: a function with a name and its parameters.

Tested in `tests/core/losses/test_losses.py`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from service.core.numerics import Array, Indices

LossAndGradient = tuple[Array, Array]

LOWEST = -1e300  # log of an exact zero: times zero it is zero, where -inf would be nan


@dataclass(frozen=True, slots=True)
class Parameter:
    """What a keyword argument of a loss holds.

    Attributes
    ----------
    shape : {"number", "per_class", "per_row"}
        A float, an array of shape (K,) or (M,), or one of the logits' shape.
    low, high : float
        Every number lies between them.
    required : bool
        Whether the loss has no default of its own.
    """

    shape: Literal["number", "per_class", "per_row"]
    low: float = 0.0
    high: float = math.inf
    required: bool = False


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss by name: what it computes and what it must be given.

    Attributes
    ----------
    function : callable
        ``function(logits, targets, **parameters) -> (loss, gradient)``.
    values : callable
        ``values(logits, targets, **parameters) -> loss``: the same without the gradient.
    task : {"multiclass", "binary", "multilabel", "sequence"}
        Shape of the logits: (N, K), (N,), (N, M) or (N, L, K).
    targets : {"labels", "distributions"}
        Class indices of shape (N,), flags of shape (N, M), class indices of shape (N, L); or, for ``distributions``,
        rows of probabilities of shape (N, K).
    parameters : mapping of str to Parameter
    """

    function: Callable[..., LossAndGradient]
    values: Callable[..., Array]
    task: Literal["multiclass", "binary", "multilabel", "sequence"] = "multiclass"
    targets: Literal["labels", "distributions"] = "labels"
    parameters: Mapping[str, Parameter] = field(default_factory=dict)

    def __call__(self, logits: Array, targets: Indices | Array, **parameters: float | Array) -> LossAndGradient:
        """Per-row loss and gradient.

        Raises
        ------
        ValueError
            When a parameter is missing or is none of this loss.

        Examples
        --------
        >>> import numpy as np
        >>> from service.core.losses import LOSSES
        >>> LOSSES["focal"](np.zeros((1, 2)), np.array([0]), gamma=1.0)[0].round(4)
        array([0.3466])
        """
        if missing := self.required - parameters.keys():
            raise ValueError(f"{self.function.__name__} needs {sorted(missing)}; pass them as keyword arguments")
        if unknown := parameters.keys() - self.parameters.keys():
            known = sorted(self.parameters) or "no parameters"
            raise ValueError(f"{self.function.__name__} has no {sorted(unknown)}; it takes {known}")
        return self.function(logits, targets, **parameters)

    @property
    def required(self) -> frozenset[str]:
        """Names of the parameters without a default."""
        return frozenset(name for name, parameter in self.parameters.items() if parameter.required)

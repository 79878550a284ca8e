"""The one way from `core.losses` to torch: value and gradient are core's own, autograd goes on from there."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from service.core.losses import LOSSES
from service.core.losses.loss import LossAndGradient
from service.core.numerics import Array

Compute = Callable[[Array], LossAndGradient]


class CoreLoss(nn.Module):
    """A loss of `core.losses.LOSSES` as a torch module: what is trained is what is evaluated and inverted.

    Parameters
    ----------
    name : str
        In `LOSSES`.
    **parameters : float or sequence of float
        Of that loss.

    Raises
    ------
    ValueError
        For a name that is no loss.

    Examples
    --------
    >>> logits = torch.tensor([[0.0, 0.0]], requires_grad=True)
    >>> loss = CoreLoss("focal", gamma=1.0)(logits, torch.tensor([0]))
    >>> loss.detach().numpy().round(4)
    array([0.3466], dtype=float32)
    """

    def __init__(self, name: str, **parameters: Any) -> None:
        super().__init__()
        if name not in LOSSES:
            raise ValueError(f"there is no loss of that name; there are {', '.join(LOSSES)}")
        self.name = name
        self.parameters_of_loss = {key: np.asarray(value) for key, value in parameters.items()}

    def forward(self, logits: Tensor, targets: Tensor, **per_row: Tensor) -> Tensor:
        """Losses of the rows, not averaged.

        Parameters
        ----------
        logits : Tensor of shape (N, K)
            Multilabel (N, M), sequence (N, L, K); on the CPU.
        targets : Tensor of shape (N,)
            Class indices; flags of shape (N, M); class indices of shape (N, L), -1 for padding; or distributions of
            shape (N, K), as the loss takes them.
        **per_row : Tensor of shape (N, K)
            Parameters that each row has its own of: a teacher's logits.

        Returns
        -------
        Tensor of shape (N,)
        """
        arrays = {key: value.detach().numpy() for key, value in per_row.items()}
        loss, labels = LOSSES[self.name], targets.detach().numpy()
        compute = functools.partial(loss, targets=labels, **self.parameters_of_loss, **arrays)
        losses: Tensor = _Bridge.apply(logits, compute)  # type: ignore[no-untyped-call]  # torch ships it without a type
        return losses

    def extra_repr(self) -> str:
        """Name and parameters, where a module is printed."""
        return ", ".join([self.name, *(f"{key}={value}" for key, value in self.parameters_of_loss.items())])


class _Bridge(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, logits: Tensor, compute: Compute) -> Tensor:
        losses, gradient = compute(logits.detach().double().numpy())  # float32 overflows where core stands for log 0
        ctx.save_for_backward(torch.from_numpy(gradient).to(logits.dtype))
        return torch.from_numpy(losses).to(logits.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return upstream.reshape(-1, *[1] * (gradient.ndim - 1)) * gradient, None

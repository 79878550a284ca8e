"""Pairs of rows, mixed at random."""

import torch
from torch import Tensor

from service.training.failures import TrainingFailed


def mixed(inputs: Tensor, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    r"""Each row mixed with another: :math:`\lambda x_i + (1 - \lambda) x_j`.

    Every row has a λ of its own, drawn from a Beta distribution.

    Returns
    -------
    rows : Tensor of the inputs' shape
    pairs : Tensor of shape (N,)
        The row that each is mixed with.
    shares : Tensor of shape (N,)
        λ, the share of the row itself.

    Raises
    ------
    TrainingFailed
        For inputs of whole numbers, such as token ids: between two of them lies none.
    """
    if not inputs.is_floating_point():
        raise TrainingFailed("mixup mixes rows of numbers; these inputs are whole numbers, such as ids of tokens")
    pairs = torch.randperm(len(inputs), generator=generator)
    # Beta from two gammas: torch's own Beta draws from the global generator alone
    shape = torch.full((2, len(inputs)), alpha, dtype=inputs.dtype)
    first, second = torch._standard_gamma(shape, generator=generator)  # noqa: SLF001
    shares = first / (first + second).clamp_min(torch.finfo(first.dtype).tiny)
    return torch.lerp(inputs[pairs], inputs, shares.reshape(-1, *[1] * (inputs.ndim - 1))), pairs, shares

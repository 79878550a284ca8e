"""Targets that are distributions: smoothed labels, mixed rows, a teacher's probabilities."""

import torch
from torch import Tensor


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """All mass on the true class, shape (N, K).

    Examples
    --------
    >>> one_hot(torch.tensor([1]), 3)
    tensor([[0., 1., 0.]])
    """
    return torch.nn.functional.one_hot(labels, classes).to(torch.float32)


def smoothed(labels: Tensor, classes: int, epsilon: float) -> Tensor:
    r"""Targets of label smoothing, :math:`(1 - \epsilon)\, e_y + \epsilon / K`, shape (N, K).

    Examples
    --------
    >>> smoothed(torch.tensor([1]), 4, 0.2)
    tensor([[0.0500, 0.8500, 0.0500, 0.0500]])

    References
    ----------
    Szegedy et al. (2016), *Rethinking the Inception Architecture for Computer Vision*, CVPR.
    """
    return torch.lerp(one_hot(labels, classes), torch.full((len(labels), classes), 1.0 / classes), epsilon)


def softened(logits: Tensor, tau: float) -> Tensor:
    """A teacher's probabilities at temperature ``tau``, shape (N, K).

    Examples
    --------
    >>> softened(torch.tensor([[8.0, 0.0]]), 4.0)
    tensor([[0.8808, 0.1192]])
    """
    return torch.softmax(logits / tau, dim=-1)


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
    """
    n = len(inputs)
    pairs = torch.randperm(n, generator=generator)
    # Beta from two gammas: torch's own Beta draws from the global generator alone
    first, second = (torch._standard_gamma(torch.full((n,), alpha), generator=generator) for _ in range(2))  # noqa: SLF001
    shares = first / (first + second).clamp_min(torch.finfo(first.dtype).tiny)
    return torch.lerp(inputs[pairs], inputs, shares.reshape(-1, *[1] * (inputs.ndim - 1))), pairs, shares

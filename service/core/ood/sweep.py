"""Scores that need no pass of their own: they follow from parts of the softmax.

Tested in `tests/core/test_pipeline.py` and `tests/core/test_single_row.py`.
"""

from collections.abc import Callable
from typing import Any, Final

from service.core.ood import Score
from service.core.ood.logit_scores import Energy, MaxLogit
from service.core.ood.nll import Nll

ByProduct = Callable[[Any, Any], Any]
"""A score of a row's largest logit and its nll at T = 1, of numbers as of arrays."""


def by_product(score: Score) -> ByProduct | None:
    """The score as a by-product of `fused.softmax`; None where it takes more.

    Examples
    --------
    >>> energy = by_product(Energy())
    >>> energy and energy(2.0, 0.25)
    -2.25
    """
    tempered = isinstance(score, Nll) and float(score.temperature) != 1.0
    return None if tempered else _BY_PRODUCTS.get(type(score))


_BY_PRODUCTS: Final[dict[type[Score], ByProduct]] = {
    Nll: lambda _, nll: nll,
    Energy: lambda top, nll: -(top + nll),
    MaxLogit: lambda top, _: -top,
}

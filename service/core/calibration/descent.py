"""Minimum of a smooth strictly convex loss: L-BFGS with a diagonal start and a backtracking line search.

Tested in `tests/core/calibration/test_affine.py`.
"""

from collections.abc import Callable, Sequence

import numpy as np

from service.core.numerics import Array

Loss = Callable[[Array], tuple[float, Array]]
"""Value and gradient at a point."""

MAX_ITERATIONS = 500
MEMORY = 20
DECREASE_TOLERANCE = 1e-18  # of gradient · inverse Hessian · gradient: parameters are then good to eight digits or so
SUFFICIENT = 1e-4  # share of the predicted decrease that a step must bring (Armijo)
SMALLEST_STEP = 1e-12


def minimise(loss: Loss, start: Array, curvature: Array) -> Array:
    r"""Point of least loss.

    Parameters
    ----------
    loss : callable
        Convex, with its gradient.
    start : ndarray of shape (P,)
    curvature : ndarray of shape (P,)
        Positive: the diagonal of the Hessian near ``start``, or a guess of it.

    Returns
    -------
    ndarray of shape (P,)

    Examples
    --------
    >>> def bowl(x):
    ...     return float(np.sum((x - 3.0) ** 2)), 2.0 * (x - 3.0)
    >>> minimise(bowl, np.zeros(2), np.ones(2)).round(6)
    array([3., 3.])

    References
    ----------
    Nocedal and Wright (2006), *Numerical Optimization*, algorithms 7.4 and 7.5.
    """
    point, memory = start, list[tuple[Array, Array]]()
    value, gradient = loss(point)
    for _ in range(MAX_ITERATIONS):
        direction = -_quasi_newton(gradient, memory, curvature)
        decrease = -float(gradient @ direction)
        if decrease <= DECREASE_TOLERANCE:
            break
        step, value, moved = line_search(loss, point, value, direction, decrease)
        if step == 0.0:
            break
        point = point + step * direction
        memory = [*memory[1 - MEMORY :], (step * direction, moved - gradient)]
        gradient = moved
    return point


def _quasi_newton(gradient: Array, memory: Sequence[tuple[Array, Array]], curvature: Array) -> Array:
    """Approximate inverse Hessian times the gradient: the two-loop recursion."""
    pairs = [(s, y, 1.0 / float(s @ y)) for s, y in memory if float(s @ y) > np.finfo(np.float64).tiny]
    q, alphas = gradient.copy(), []
    for s, y, rho in reversed(pairs):
        alphas.append(rho * float(s @ q))
        q -= alphas[-1] * y
    q /= curvature
    for s, y, rho in pairs:
        q += (alphas.pop() - rho * float(y @ q)) * s
    return q


def line_search(
    loss: Loss, point: Array, value: float, direction: Array, decrease: float
) -> tuple[float, float, Array]:
    """Halve the step until the loss falls by a fair share of what its slope predicts.

    Parameters
    ----------
    loss : callable
    point, direction : ndarray of shape (P,)
    value : float
        Loss at ``point``.
    decrease : float
        Minus the slope along the direction.

    Returns
    -------
    step, value : float
        Zero, and the value given, when rounding leaves no step that helps.
    gradient : ndarray of shape (P,)
        At the point reached.
    """
    rounding = 8.0 * np.finfo(np.float64).eps * (1.0 + abs(value))  # else noise stops it far from the optimum
    step = 1.0
    while step > SMALLEST_STEP:
        reached, gradient = loss(point + step * direction)
        if reached <= value - SUFFICIENT * step * decrease + rounding:
            return step, reached, gradient
        step *= 0.5
    return 0.0, value, direction

"""Tridiagonal linear equations: every position of a sequence is coupled with its neighbours alone."""

import numpy as np

from service.core.numerics import Array


def solve_chain(diagonal: Array, upper: Array, right: Array) -> Array:
    r"""Solution of symmetric block-tridiagonal equations, one system per row.

    .. math:: U_{t-1}^\top x_{t-1} + D_t x_t + U_t x_{t+1} = r_t

    Blocks are eliminated in order, without pivoting between them: for positive definite systems.

    Parameters
    ----------
    diagonal : ndarray of shape (N, L, B, B)
        Symmetric blocks D.
    upper : ndarray of shape (N, L - 1, B, B)
        Blocks U.
    right : ndarray of shape (N, L, B, R)

    Returns
    -------
    ndarray of shape (N, L, B, R)

    Examples
    --------
    >>> path = solve_chain(np.full((1, 2, 1, 1), 2.0), np.full((1, 1, 1, 1), -1.0), np.ones((1, 2, 1, 1)))
    >>> path.ravel()
    array([1., 1.])

    References
    ----------
    Golub and Van Loan (2013), *Matrix Computations*, section 4.5.1.
    """
    width, gains, solution = diagonal.shape[2], list[Array](), list[Array]()
    pivot, target = diagonal[:, 0], right[:, 0]
    for t in range(upper.shape[1]):
        both: Array = np.linalg.solve(pivot, np.concatenate([upper[:, t], target], axis=2))
        gains.append(both[..., :width])
        solution.append(both[..., width:])
        below = np.swapaxes(upper[:, t], 1, 2)
        pivot = diagonal[:, t + 1] - below @ gains[t]
        target = right[:, t + 1] - below @ solution[t]
    solution.append(np.linalg.solve(pivot, target).astype(np.float64, copy=False))
    for t in range(upper.shape[1] - 1, -1, -1):
        solution[t] = solution[t] - gains[t] @ solution[t + 1]
    return np.stack(solution, axis=1)

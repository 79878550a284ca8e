import numpy as np
import pytest

from service.core.numerics import Array
from service.core.tridiagonal import solve_chain


def system(n: int, length: int, width: int) -> tuple[Array, Array, Array]:
    """A dense positive definite matrix per row that couples neighbours alone, and its blocks."""
    rng = np.random.default_rng(length)
    upper = rng.normal(size=(n, length - 1, width, width))
    factor = rng.normal(size=(n, length, width, width))
    diagonal = factor @ np.swapaxes(factor, 2, 3) + 4.0 * width * np.eye(width)
    dense = np.zeros((n, length, width, length, width))
    for t in range(length):
        dense[:, t, :, t] = diagonal[:, t]
    for t in range(length - 1):
        dense[:, t, :, t + 1] = upper[:, t]
        dense[:, t + 1, :, t] = np.swapaxes(upper[:, t], 1, 2)
    return diagonal, upper, dense.reshape(n, length * width, length * width)


@pytest.mark.parametrize(("n", "length", "width", "sides"), [(1, 1, 3, 1), (4, 2, 1, 5), (3, 7, 4, 2), (2, 30, 2, 1)])
def test_it_solves_what_a_dense_solver_solves(n: int, length: int, width: int, sides: int) -> None:
    diagonal, upper, dense = system(n, length, width)
    right = np.random.default_rng(0).normal(size=(n, length, width, sides))
    expected = np.linalg.solve(dense, right.reshape(n, length * width, sides)).reshape(right.shape)
    np.testing.assert_allclose(solve_chain(diagonal, upper, right), expected, rtol=0, atol=1e-12)

"""The range rule: whether every measurement lies within its plausible range."""

from service.core.numerics import Array, Flags


def outside(features: Array, *, low: Array, high: Array) -> Flags:
    """Which cells lie outside their plausible range; a missing value (NaN) is not outside.

    Parameters
    ----------
    features : ndarray of shape (N, F)
    low, high : ndarray of shape (F,)
        Infinite where a feature declares no range.

    Examples
    --------
    >>> outside(np.array([[1.0, 9.0]]), low=np.array([0.0, -np.inf]), high=np.array([2.0, 5.0]))
    array([[False,  True]])
    """
    return (features < low) | (features > high)

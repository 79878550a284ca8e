"""Moments at which requests arrive in an open loop: callers do not wait for one another.

Tested in tests/capacity/test_simulation.py.
"""

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.float64]


def unit_moments(count: int, *, burst: float = 1.0, seed: int) -> Times:
    r"""Arrivals at a mean rate of one per second; divided by a rate, they are arrivals at that rate.

    Bursts arrive as a Poisson process. The requests of a burst arrive at the same moment; their number is geometric.
    With a mean of one this is the Poisson process of single requests.

    Parameters
    ----------
    count : int
    burst : float
        Mean number of requests in a burst, at least 1.
    seed : int

    Returns
    -------
    ndarray of shape (count,)
        Ascending, in seconds.

    Examples
    --------
    >>> moments = unit_moments(1000, burst=5.0, seed=0)
    >>> len(moments), len(set(moments.tolist())) < 300
    (1000, True)
    """
    generator = np.random.default_rng(seed)
    begins = generator.random(count) < 1.0 / burst  # whether a request is the first of its burst
    gaps = generator.exponential(burst, size=count)  # drawn for each request, so that rates share them
    return np.cumsum(np.where(begins, gaps, 0.0))

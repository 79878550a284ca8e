"""One request: its id, its caller and its deadline.

Tested in tests/prediction/test_predictor.py.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Call:
    """Identity of a request, under which its answer is kept.

    Attributes
    ----------
    request_id : str
    caller : str or None
    deadline : float or None
        On the monotonic clock, in seconds.
    idempotency_key : str or None
    """

    request_id: str
    caller: str | None = None
    deadline: float | None = None
    idempotency_key: str | None = None

"""Why a report has no interval, or no value: the key that its JSON holds, and the words that terminal and page show.

Tested in tests/reporting/test_agreement.py.
"""

from collections.abc import Callable
from typing import Final

REASONS: Final[dict[str, str]] = {
    "no_rows": "no such rows",
    "one_row": "one row",
    "one_group": "one group",
    "too_few_events": "too few events",
    "too_few_rows": "too few rows",
    "weights": "rows are weighted",
    "groups": "rows are in groups",
    "separable": "a threshold on the probabilities separates the rows without error",
    "one_outcome": "all rows have the same outcome or the same probability",
    "infinite_loss": "a loss is infinite",
    "never_taken": "never taken",
    "no_threshold": "no threshold keeps this error rate",
    "uncalibrated": "this version is uncalibrated",
    "rules_only": "rules have no expected rate",
}


def interval(
    low: float | None, high: float | None, reason: str | None, *, form: Callable[[float], str] = "{:.4f}".format
) -> str:
    """A 95 % interval, or why there is none.

    Parameters
    ----------
    low, high : float or None
    reason : str or None
        A key of `REASONS` where an end is None.
    form : callable
        How an end is written.
    """
    if low is None or high is None:
        return f"no interval: {REASONS[reason or 'one_group']}"
    return f"95 % interval {form(low)} to {form(high)}"

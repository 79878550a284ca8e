"""Whether requests arrive together.

Tested in tests/prediction/test_queue.py.
"""

import asyncio


class Arrivals:
    """Tells whether requests arrive together, so that waiting for the loop's next iterations would join them.

    The first in an iteration is answered at once. A second shows that waiting pays, and it stays that way until a
    request has waited alone.
    """

    def __init__(self) -> None:
        self._first_came = False  # in this iteration
        self._together = False

    def alone(self) -> bool:
        """Whether a request should be answered at once; to be called on the event loop."""
        if self._together:
            return False
        if self._first_came:
            self._together = True
            return False
        self._first_came = True
        asyncio.get_running_loop().call_soon(self._end_iteration)
        return True

    def joined(self, requests: int) -> None:
        """How many requests came together this time."""
        self._together = requests > 1

    def _end_iteration(self) -> None:
        self._first_came = False

"""How far the end of a process has come: one value that its application, its server and its connections read.

Tested in `tests/api/test_server.py` and `tests/api/test_http_protocol.py`.
"""

import math
from dataclasses import dataclass
from typing import Final

from service.api.http_limits import LINGER_SECONDS

ENDING: Final = "ending"
"""Under this key the application hands it to its server, in the state of its lifespan."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a process that listens no more waits for what clients have not sent.

    Attributes
    ----------
    head : float
        Seconds for the next request of an open connection, and for the rest of a head.
    body : float
        Seconds for the rest of a body.
    """

    head: float
    body: float


AT_THE_END: Final = Patience(head=0.0, body=LINGER_SECONDS)
"""Nothing answers once this process has ended."""
REPLACED: Final = Patience(head=LINGER_SECONDS, body=math.inf)
"""Another process answers: clients move to it with their next request, and a body has the time that it always has."""


class Ending:
    """The stages of an end, in their order; each is reached once.

    Attributes
    ----------
    is_draining : bool
        Whether the service ends: it is not ready any more, and still answers.
    is_leaving : bool
        Whether each answer is the last of its connection.
    patience : Patience or None
        Of a process that listens no more; None as long as it listens.
    """

    __slots__ = ("is_draining", "is_leaving", "patience")

    def __init__(self) -> None:
        self.is_draining = self.is_leaving = False
        self.patience: Patience | None = None

    def drain(self) -> None:
        """The service ends; connections are still accepted."""
        self.is_draining = self.is_leaving = True

    def close(self, patience: Patience) -> None:
        """Nothing is accepted any more."""
        self.is_leaving, self.patience = True, patience

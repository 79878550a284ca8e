"""A caller: its name, what it may do, and how much of it."""

from dataclasses import dataclass
from typing import Final, Literal, get_args

Scope = Literal["predict", "evaluate", "outcomes", "audit", "admin", "metrics"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
"""What a credential can allow; the description of a model needs a credential, and no scope."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request.

    Attributes
    ----------
    name : str
        With its namespace: `key:NAME`, `jwt:ISSUER|SUBJECT`, `certificate:SUBJECT`; `anonymous` where the service is
        open.
    scopes : frozenset of str
    models : frozenset of str or None
        Names of the models that it may use; None for all.
    requests, rows : int
        That it may send in a minute; 0 for any number.
    """

    name: str
    scopes: frozenset[str]
    models: frozenset[str] | None = None
    requests: int = 0
    rows: int = 0

    def may_use(self, model: str) -> bool:
        """Whether it may use the model of that name."""
        return self.models is None or model in self.models


ANONYMOUS: Final = Caller("anonymous", frozenset(SCOPES))
"""Everyone, where the service is open."""

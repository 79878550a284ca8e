"""What makes a request wrong many times over, cut to what is reported of it.

A body of a mebibyte holds a hundred thousand unknown keys, or entries of a list that is too long. An error for each
costs two microseconds. What is left is refused for the same reasons, with the same first faults.
"""

from collections.abc import Collection
from itertools import islice
from typing import Final

from service.errors import MOST_FAULTS

ONE_PER_ROW: Final = frozenset({"costs", "groups", "ids", "labels", "policy", "prevalence", "site", "subjects"})
"""Members and parameters that may be lists of one entry per instance."""


def without_excess(
    document: object, members: Collection[str], parameters: Collection[str], session: Collection[str]
) -> object:
    """A request's document with few unknown keys, and lists that are one entry too long at most.

    Parameters
    ----------
    document : object
        Parsed JSON.
    members, parameters, session : collection of str
        Keys that are known: of the request, of its parameters, of a session among them.
    """
    if not isinstance(document, dict):
        return document
    rows, sent = document.get("instances"), document.get("parameters")
    most = 1 + (len(rows) if isinstance(rows, list) else 0)
    few = {name: _cut(name, value, most) for name, value in _few(document, members).items()}
    if isinstance(sent, dict):
        own = {name: _cut(name, value, most) for name, value in _few(sent, parameters).items()}
        state = sent.get("session")
        few["parameters"] = {**own, "session": _few(state, session)} if isinstance(state, dict) else own
    return few


def _cut(name: str, value: object, most: int) -> object:
    return value[:most] if name in ONE_PER_ROW and isinstance(value, list) else value


def _few(members: dict[str, object], known: Collection[str]) -> dict[str, object]:
    if len(members) <= len(known) + MOST_FAULTS:
        return members
    unknown = islice((name for name in members if name not in known), MOST_FAULTS)
    return {name: members[name] for name in (*(name for name in known if name in members), *unknown)}

"""Parameters of `/v2` that resemble one which changes decisions: refused, because unknown ones are ignored."""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final

from service.errors import Fault, InvalidRequest

TAKEN: Final = ("policy", "site")
V1_ONLY: Final = ("prevalence", "costs", "label_costs", "coverage", "fdr", "session", "smoother", "switch")
"""Options of `/v1` alone that change an answer: ignored, they would silently have no effect."""

AS_INPUTS: Final = ("subjects", "groups")
"""Of every row, and so inputs; as parameters they would be ignored."""

PROTOCOL: Final = frozenset(
    {
        "binary_data",
        "binary_data_output",
        "binary_data_size",
        "classification",
        "content_type",
        "headers",
        "priority",
        "sequence_end",
        "sequence_id",
        "sequence_start",
        "shared_memory_byte_size",
        "shared_memory_offset",
        "shared_memory_region",
        "size",
        "timeout",
        "triton_enable_empty_final_response",
        "version",
    }
)
"""Of the Open Inference Protocol, Triton and KServe; short words that these use are never taken for a slip."""

DOCUMENT: Final = frozenset({"id", "inputs", "model_name", "model_version", "outputs", "parameters"})
MOST_NAMES: Final = 256  # distinct ones, of all tensors together
LONGEST: Final = 24  # no slip of one of ours is longer
SUFFIX: Final = re.compile(r"(names?|ids?)$")


def check_parameters(parameters: object, path: tuple[str | int, ...]) -> None:
    """Refuse what would be ignored although it was meant to change the answer.

    Parameters
    ----------
    parameters : object
        Of the request, or of one of its tensors.
    path : tuple of str or int
        Where they stand. Only the request's own, at ``("parameters",)``, take `TAKEN`.

    Raises
    ------
    InvalidRequest
        Naming the known name, never the key that was sent.
    """
    if parameters is None:
        return
    if not isinstance(parameters, dict):
        raise _refused(path, "must be an object")
    own = path == ("parameters",)
    for name in TAKEN if own else ():
        if not isinstance(parameters.get(name), str | None):
            raise _refused((*path, name), "must be a text")
    for name, is_exact in _meant(parameters):
        if not (own and is_exact and name in TAKEN):
            raise _refused((*path, name if is_exact else "?"), _remedy(name, is_exact=is_exact))


def check_number(document: dict[str, object]) -> None:
    """Refuse more names than are ever sent: each that is not known is compared with all that are.

    Raises
    ------
    InvalidRequest
    """
    tensors = [entry for side in ("inputs", "outputs") for entry in _objects(document.get(side))]
    own = {name for entry in (document, *tensors) for name in _names(entry.get("parameters"))}
    if len((own | document.keys()) - PROTOCOL) > MOST_NAMES:
        raise InvalidRequest(f"a request names at most {MOST_NAMES} parameters and members")


def _objects(entries: object) -> list[dict[str, object]]:
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _names(parameters: object) -> Iterable[str]:
    return parameters.keys() if isinstance(parameters, dict) else ()


def check_document(document: dict[str, object]) -> None:
    """Refuse options, or a misspelt ``parameters``, among the members of a request.

    Raises
    ------
    InvalidRequest
    """
    for key in document.keys() - DOCUMENT:
        if resembles(key, "parameters"):
            raise _refused(("?",), "one member resembles `parameters` and is not it; unknown members are ignored")
    for name, is_exact in _meant(document.keys() - DOCUMENT):
        raise _refused((name if is_exact else "?",), _remedy(name, is_exact=is_exact))


@lru_cache(maxsize=4096)
def resembles(key: str, name: str) -> bool:
    """Whether a key is a slip of a name: another case, a plural, a separator, an added "name" or "id", a typing error.

    One typing error (a letter too many, too few, another, or two swapped) in names of four letters or more, two in
    names of six or more.

    Parameters
    ----------
    key, name : str

    Examples
    --------
    >>> [resembles(key, "policy") for key in ("polcy", "Policies", "policy-name", "polycy", "priority")]
    [True, True, True, True, False]
    >>> resembles("sites", "site"), resembles("state", "site")
    (True, False)
    """
    if len(key) > LONGEST:
        return False
    plain = re.sub(r"[^a-z0-9]", "", key.lower())
    forms = {name, f"{name}s", f"{name.removesuffix('y')}ies", name.removesuffix("s")}
    if plain in forms or SUFFIX.sub("", plain) in forms:
        return True
    allowed = 0 if len(name) < 4 else 1 if len(name) < 6 else 2
    return abs(len(plain) - len(name)) <= allowed and _slips(plain, name) <= allowed


def _meant(keys: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Names of ours that keys hold, exactly or nearly."""
    for key in keys:
        for name in (*TAKEN, *V1_ONLY, *AS_INPUTS):
            if key == name or (key.lower() not in PROTOCOL and resembles(key, name)):
                yield name, key == name


def _remedy(name: str, *, is_exact: bool) -> str:
    if name in AS_INPUTS:
        return f"`{name}` of rows are an input of datatype BYTES, one text for every row; as a parameter it is ignored"
    place = (
        "belongs in the request's `parameters`"
        if name in TAKEN
        else "is a parameter of /v1 alone; /v2 takes `policy` and `site`"
    )
    if is_exact:
        return f"`{name}` {place}; ignored here, it would leave the answer as it is without it"
    return f"one name resembles `{name}` and is not it; ignored, it would leave the answer as it is without it"


def _slips(one: str, other: str) -> int:
    """Edit distance in which two swapped neighbours are one slip (optimal string alignment)."""
    rows = [list(range(len(other) + 1))]
    for i, letter in enumerate(one, start=1):
        row = [i]
        for j, against in enumerate(other, start=1):
            cost = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (letter != against))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == against:
                cost = min(cost, rows[-2][j - 2] + 1)
            row.append(cost)
        rows.append(row)
    return rows[-1][-1]


def _refused(path: tuple[str | int, ...], detail: str) -> InvalidRequest:
    return InvalidRequest(f"{'.'.join(map(str, path))}: {detail}", [Fault(path, "misplaced-parameter", detail)])

"""TOML as people and programs write it, within bounds: depth first, because a parser's own cost is not bounded."""

import re
import tomllib
from pathlib import Path
from typing import Any, Final

from service.bundle.wording import one_line
from service.errors import ManifestInvalid

MOST_DEPTH: Final = 8
"""Brackets within brackets, and parts of a dotted key. A manifest has 7 (policies.P.labels.L.costs.ACTION.absent)."""

_TOKENS: Final = re.compile(
    r"""
      (?P<string>
          \"\"\"(?:[^"\\]|\\(?:.|\Z)|"(?!""))*+(?:"{3,5}|\Z)    # what is not closed ends with the text
        | '''(?:[^']|'(?!''))*+(?:'{3,5}|\Z)
        | "(?:[^"\\\n]|\\.)*+"?
        | '[^'\n]*+'?
      )
      | \#[^\n]*+
      | (?P<open>[\[{])
      | (?P<close>[\]}])
      | (?P<dot>\.)
      | (?P<end>[=,\n])
    """,
    re.VERBOSE | re.DOTALL,
)


def parse_toml(text: str, *, where: Path | str) -> dict[str, Any]:
    """Read TOML.

    Parameters
    ----------
    text : str
    where : Path or str
        What to call it in an error.

    Raises
    ------
    ManifestInvalid
        In one line.
    """
    if text.startswith("\ufeff"):
        raise ManifestInvalid(f"{where} begins with a byte order mark; save it as UTF-8 without one")
    if _is_too_deep(text):
        raise ManifestInvalid(f"{where} is nested more than {MOST_DEPTH} deep")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ManifestInvalid(f"{where} is not TOML: {one_line(error)}") from None
    except ValueError:
        raise ManifestInvalid(f"{where} is not TOML: an integer has too many digits") from None


def _is_too_deep(text: str) -> bool:
    depth = dots = 0
    for token in _TOKENS.finditer(text):
        kind = token.lastgroup
        if kind == "dot":
            dots += 1
        elif kind == "end":
            dots = 0
        elif kind in ("open", "close"):
            depth, dots = max(depth + (1 if kind == "open" else -1), 0), 0
        if max(depth, dots + 1) > MOST_DEPTH:
            return True
    return False

"""Numbered changes of a schema, as an engine's .sql file holds them: each is there for good, later ones are added.

Tested in tests/store/test_promises.py.
"""

import re
from functools import cache
from importlib.resources import files
from typing import Final

_HEADING: Final = re.compile(r"^-- migration (\d+)$", re.MULTILINE)


@cache
def migrations(file: str) -> tuple[str, ...]:
    """The scripts of a file, in order; the first one is number 1."""
    parts = _HEADING.split(files("service.store").joinpath(file).read_text("utf-8"))
    return tuple(parts[2::2])

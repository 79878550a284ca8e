"""deploy/Dockerfile, read: its stages by name and their instructions."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.engine import DOCKERFILE


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of the Dockerfile.

    Attributes
    ----------
    base : str
        What it starts from.
    instructions : tuple of (str, str)
        Each as its word and the rest.
    """

    base: str
    instructions: tuple[tuple[str, str], ...]

    def every(self, word: str) -> list[str]:
        """The rest of all instructions of a kind."""
        return [rest for name, rest in self.instructions if name == word]

    def pairs(self, word: str) -> dict[str, str]:
        """Names and values of ENV, LABEL or ARG."""
        return dict(pair.split("=", 1) for rest in self.every(word) for pair in shlex.split(rest))


def stages() -> dict[str, Stage]:
    """Stages by name, in their order; what precedes the first one is left out, the last one is called ``default``."""
    found: dict[str, Stage] = {}
    for text in re.split(r"^FROM ", "\n".join(joined(DOCKERFILE)), flags=re.MULTILINE)[1:]:
        first, *lines = text.splitlines()
        base, _, name = first.partition(" AS ")
        found[name or "default"] = Stage(base, tuple(_split(line) for line in lines))
    return found


def joined(path: Path) -> list[str]:
    """Lines without comments and empty ones, continued lines put together."""
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = "\n".join(line for line in lines if line.strip() and not line.lstrip().startswith("#"))
    return re.sub(r"\s*\\\n\s*", " ", kept).splitlines()


def _split(line: str) -> tuple[str, str]:
    word, rest = line.split(maxsplit=1)
    return word, rest

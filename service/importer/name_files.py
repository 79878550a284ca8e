"""Files of names: one per line, or JSON as Hugging Face's `config.json` and others write it."""

import json
from pathlib import Path
from typing import Any

from service.errors import DataError


def read_names(path: Path, flag: str) -> tuple[str, ...]:
    """Names in their order; a name may hold commas.

    Parameters
    ----------
    path : Path
        UTF-8 text with a name on every line, which may be in double quotes; or, where it ends in `.json`, a list of
        names, an object of indices and names, or one that holds such an object as `id2label`.
    flag : str
        What names the file, for errors.

    Raises
    ------
    DataError
        If it cannot be read so, or a name is empty or there twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise DataError(f"{flag}: {path} does not exist, or is no UTF-8 text") from None
    names = _from_json(text, path, flag) if path.suffix.lower() == ".json" else _from_lines(text)
    if not names:
        raise DataError(f"{flag}: {path} holds no names")
    return check_names(names, f"{flag}: {path}")


def check_names(names: tuple[str, ...], flag: str) -> tuple[str, ...]:
    """The names; DataError for one that is empty, no text of one line, or there twice."""
    seen: dict[str, int] = {}
    for number, name in enumerate(names, start=1):
        if not name.strip():
            raise DataError(f"{flag}: name {number} is empty")
        if not name.isprintable():
            raise DataError(f"{flag}: name {number} holds a tab or another control character; give a name alone")
        if name in seen:
            raise DataError(f"{flag}: {name!r} is there twice, as number {seen[name]} and number {number}")
        seen[name] = number
    return names


def _from_lines(text: str) -> tuple[str, ...]:
    lines = text.replace("\r\n", "\n").rstrip().split("\n")
    return tuple(_unquoted(line.strip()) for line in lines) if text.strip() else ()


def _unquoted(line: str) -> str:
    """A name that was quoted as in a table, for its commas."""
    inner = line[1:-1].replace('""', "")
    quoted = len(line) > 1 and line[0] == line[-1] == '"' and '"' not in inner
    return line[1:-1].replace('""', '"').strip() if quoted else line


def _from_json(text: str, path: Path, flag: str) -> tuple[str, ...]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise DataError(f"{flag}: {path} is no JSON") from None
    value = value.get("id2label", value) if isinstance(value, dict) else value
    names = _in_order(value) if isinstance(value, dict) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{flag}: {path} must be a list of names, or an object of indices 0, 1, … and names (id2label)")
    return tuple(names)


def _in_order(value: dict[str, Any]) -> list[Any] | None:
    keys = [str(i) for i in range(len(value))]
    return [value[key] for key in keys] if set(value) == set(keys) else None

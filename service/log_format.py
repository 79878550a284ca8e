"""Lines of the log, as text or as JSON: of the service, of uvicorn and of every other library.

A line holds a message, fields of a fixed list, and of an error its type and the places in the code that it passed.
The message of an error is never written, nor what other libraries put into theirs: either may hold what a caller sent.
Characters that a terminal acts on, or that would begin another line, are written as escapes.
"""

import json
import logging
import re
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final

FIELDS: Final = (
    "request_id",
    "method",
    "route",
    "status",
    "code",
    "milliseconds",
    "caller",
    "model",
    "version",
    "x_request_id",
    "traceparent",
)
"""What a line can hold beside its message, as `extra` of the standard library's logging."""
CONSTANT_MESSAGES: Final = ("temperance", "uvicorn", "py.warnings")
"""Loggers whose messages hold nothing of a request; of others, only numbers are shown among the arguments."""
MOST_ERRORS: Final = 4  # of a chain

Fields = dict[str, str | int | float]


class TextFormat(logging.Formatter):
    """A line for people: time, severity, logger, message, and `name=value` for every field."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; frames of an error follow it, indented."""
        line = f"{moment(record.created)} {record.levelname} {record.name}: {escaped(message_of(record))}"
        line += _text_of(fields_of(record))
        return "\n    ".join([line, *map(escaped, _error_lines(record))])


class JsonFormat(logging.Formatter):
    """A line for machines: one JSON object, in ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; frames of an error are a list."""
        line: dict[str, object] = {
            "time": moment(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message_of(record),
            **fields_of(record),
        }
        if lines := _error_lines(record):
            line |= {"error": lines[0], "frames": lines[1:]}
        return json.dumps(line, default=str)


def configure(format_name: str, level: str) -> None:
    """Write every line of the process to standard error in one form.

    Parameters
    ----------
    format_name : str
        `text` or `json`.
    level : str
        Least severity.
    """
    # Records need neither; looking them up costs a microsecond for each.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FORMATS[format_name]())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.captureWarnings(capture=True)


def moment(seconds: float) -> str:
    """A time of day in UTC, to the millisecond.

    Examples
    --------
    >>> moment(1.5)
    '1970-01-01T00:00:01.500Z'
    """
    whole = int(seconds)
    return f"{_to_the_second(whole)}.{int(1000 * (seconds - whole)):03d}Z"


def escaped(text: str) -> str:
    r"""The text on one line, with an escape for every character that is not printed as itself.

    Line ends, control characters, ANSI sequences and marks that change the direction of writing.

    Examples
    --------
    >>> escaped("red \x1b[31m, new\nline")
    'red \\x1b[31m, new\\nline'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def message_of(record: logging.LogRecord) -> str:
    """The message of a record, without what another library put into its own.

    Where the arguments are apart, only numbers are shown. Where there are none, the text may have been put together
    before, so it ends where the first value can begin: at a line's end, a bracket, a quotation mark.
    """
    template, is_constant = str(record.msg), record.name.startswith(CONSTANT_MESSAGES)
    if not record.args:
        return template if is_constant else _BEFORE_VALUES.split(template, maxsplit=1)[0].strip()
    try:
        return template % (record.args if is_constant else _shown(record.args))
    except (TypeError, ValueError, KeyError):
        return template


def fields_of(record: logging.LogRecord) -> Fields:
    """Fields of a record that may be written, in order; those that have no value are absent."""
    own = record.__dict__
    return {name: own[name] for name in FIELDS if name in own and own[name] is not None}


def _shown(arguments: object) -> object:
    if isinstance(arguments, Mapping):
        return {key: _number(value) for key, value in arguments.items()}
    return tuple(map(_number, arguments)) if isinstance(arguments, tuple) else ()


def _number(value: object) -> object:
    return value if isinstance(value, int | float) else "…"


def _text_of(fields: Fields) -> str:
    text = "".join([f" {name}={value}" for name, value in fields.items()])
    count = len(fields)
    if text.isprintable() and text.count(" ") == count and text.count("=") == count and '"' not in text:
        return text
    return "".join(f" {name}={_quoted(value)}" for name, value in fields.items())


def _quoted(value: str | float) -> str:
    text = escaped(value) if isinstance(value, str) else str(value)
    return json.dumps(text) if _NEEDS_QUOTES.search(text) else text


def error_lines(error: BaseException) -> list[str]:
    """The type of an error and the places in the code that it passed, then those of its causes; never its message."""
    return [line for cause in _chain(error) for line in (type(cause).__name__, *_frames(cause))]


def _error_lines(record: logging.LogRecord) -> list[str]:
    lines: list[str] = record.__dict__.get("error_lines", [])
    return error_lines(record.exc_info[1]) if record.exc_info and record.exc_info[1] else lines


def _frames(error: BaseException) -> Iterator[str]:
    for frame in traceback.extract_tb(error.__traceback__):
        yield f"{frame.filename}:{frame.lineno} in {frame.name}"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(MOST_ERRORS):
        if error is None:
            return
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


@lru_cache(maxsize=4)
def _to_the_second(whole: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))


_NEEDS_QUOTES: Final = re.compile(r"[ \"=]")
_BEFORE_VALUES: Final = re.compile(r"[\n\r(<\[{'\"`]")
FORMATS: Final[dict[str, type[logging.Formatter]]] = {"text": TextFormat, "json": JsonFormat}

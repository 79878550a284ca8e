"""Lines of the log: one form for all, no values, no character that a terminal acts on."""

import json
import logging
import subprocess
import sys
import timeit
import unicodedata

import pytest

from service.log_format import FIELDS, FORMATS, JsonFormat, TextFormat

CANARY = "canary-7f3a"
SHORT = tuple(FORMATS)
DANGEROUS = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) in {"Cc", "Cf", "Zl", "Zp", "Cs"}]


def record(
    name: str = "temperance", message: str = "a message", *arguments: object, **fields: object
) -> logging.LogRecord:
    made = logging.LogRecord(name, logging.WARNING, __file__, 1, message, arguments, None)
    made.created = 1790000000.25
    made.__dict__.update(fields)
    return made


def failed(error: Exception, name: str = "temperance", message: str = "unexpected fault") -> logging.LogRecord:
    try:
        raise error
    except type(error):
        made = record(name, message)
        made.exc_info = sys.exc_info()
        return made


def test_a_line_of_text_has_the_time_in_utc_and_the_fields_by_name() -> None:
    line = TextFormat().format(record(message="request", status=200, route="/livez", caller="jwt:an issuer|a=b"))
    assert line == (
        '2026-09-21T14:13:20.250Z WARNING temperance: request route=/livez status=200 caller="jwt:an issuer|a=b"'
    )


def test_a_line_of_json_is_one_object() -> None:
    line = json.loads(JsonFormat().format(record("temperance", "%d models", 3, status=200)))
    assert line == {
        "time": "2026-09-21T14:13:20.250Z",
        "level": "warning",
        "logger": "temperance",
        "message": "3 models",
        "status": 200,
    }


@pytest.mark.parametrize("name", SHORT)
def test_only_listed_fields_are_written(name: str) -> None:
    line = FORMATS[name]().format(record(color_message=CANARY, body=CANARY, request_id="0192", path=CANARY))
    assert CANARY not in line
    assert "0192" in line


@pytest.mark.parametrize("name", SHORT)
@pytest.mark.parametrize("place", ["message", "argument", *FIELDS])
def test_no_character_of_any_text_begins_a_line_or_reaches_the_terminal_as_itself(name: str, place: str) -> None:
    text = "".join(DANGEROUS)
    made = {
        "message": record(message=text),
        "argument": record("temperance", "%s", text),
    }.get(place) or record("temperance", "a message", **{place: text})
    line = FORMATS[name]().format(made)
    assert line.isprintable()


def test_json_is_ascii_and_gives_the_text_back() -> None:
    text = "für 😀 \x7f\u202e"
    line = JsonFormat().format(record(message=text))
    assert line.isascii()
    assert json.loads(line)["message"] == text


@pytest.mark.parametrize("name", SHORT)
@pytest.mark.parametrize("logger", ["temperance", "uvicorn.error", "asyncio"])
def test_an_error_is_its_type_and_frames_never_its_message(name: str, logger: str) -> None:
    try:
        raise KeyError(CANARY)  # noqa: TRY301
    except KeyError as cause:
        error = ValueError(CANARY)
        error.__cause__ = cause
    line = FORMATS[name]().format(failed(error, logger))
    assert CANARY not in line
    assert "ValueError" in line
    assert "KeyError" in line
    assert "test_log_format.py" in line
    assert " in failed" in line


@pytest.mark.parametrize("name", SHORT)
@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("Failed to export batch code: %s, reason: %s", (503, CANARY)),
        ("%(path)s is slow", ({"path": CANARY},)),
        ("a template that its arguments do not fit: %d", (CANARY,)),
        ("a template with too many arguments", (CANARY, CANARY)),
        (f"Task exception was never retrieved\nfuture: <Task exception=ValueError('{CANARY}')>", ()),
        (f"Exception in callback Protocol.data_received(b'{CANARY}')", ()),
        (f"no such key: {{'{CANARY}'}}", ()),
    ],
)
def test_what_other_libraries_log_is_written_without_their_values(
    name: str, message: str, arguments: tuple[object, ...]
) -> None:
    line = FORMATS[name]().format(record("asyncio", message, *arguments))
    assert CANARY not in line
    assert message.split(maxsplit=1)[0] in line or message.startswith("%(")


def test_numbers_among_the_arguments_of_other_libraries_are_shown() -> None:
    line = JsonFormat().format(record("opentelemetry", "Failed with code: %s, reason: %s", 503, CANARY))
    assert json.loads(line)["message"] == "Failed with code: 503, reason: …"


def test_every_line_of_the_process_has_the_form_that_is_set() -> None:
    code = (
        "import logging, warnings; from service.log_format import configure; configure('json', 'info');"
        "logging.getLogger('uvicorn.error').info('started'); logging.getLogger('x').debug('unseen');"
        "warnings.warn('old'); logging.getLogger('asyncio').error('a')"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [line["logger"] for line in lines] == ["uvicorn.error", "py.warnings", "asyncio"]


@pytest.mark.parametrize("name", SHORT)
def test_a_line_costs_microseconds(name: str) -> None:
    made = record(message="request", request_id="0192f0c1-0000-7000-8000-000000000000", method="POST", status=200)
    made.__dict__.update(route="/v1/models/{name}:decide", milliseconds=0.8)
    seconds = min(timeit.repeat(lambda: FORMATS[name]().format(made), number=200, repeat=5)) / 200
    assert seconds < 200e-6  # about 5 on a quiet machine

"""Raw requests, mutated: bits, bytes, pieces of other requests, header fields, JSON. One seed gives one sequence."""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from tests.door.cases import corpus
from tests.door.pieces import Template
from tests.door.targets import FORMS, TARGETS, words

OF_BODIES: Final = 0.5  # of the requests: only their body is mutated
FORM_VALUES: Final = (
    ("parameters", '{"ids": ["a"], "layout": "columns", "top_k": 1, "coverage": 0.9}'),
    ("parameters", '{"policy": "biopsy", "fdr": 0.1, "session": {"model": "a", "steps": 1, "alarm": false}}'),
    ("parameters", '{"prevalence": {"benign": 0.5, "malignant": 0.5}, "costs": {"a": {"benign": 0}}}'),
    ("cell", "1e-3"),
    ("rows", '[{"mean radius": 1.0}, null]'),
)
LONGEST: Final = 4096  # bytes of a seed: larger ones are the corpus's own cases
NASTY: Final = (
    b"\x00", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b":", b";", b",", b'"', b"\\", b"%", b"%00", b"%2e%2e%2f",
    b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"{", b"}", b"[", b"]", b"NaN", b"1e400", b"-0", b"null", b"\\ud800",
    b"99999999999999999999", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 0\r\n", b"Host: a\r\n", b"0\r\n\r\n",
    b"Expect: 100-continue\r\n", b"Connection: Upgrade\r\nUpgrade: websocket\r\n", b"HTTP/9.9", b"../",
    b"Content-Encoding: gzip\r\n",
)  # fmt: skip
NUMBER: Final = re.compile(rb"-?\d+(?:\.\d+)?")

Mutation = Callable[[random.Random, bytes, Sequence[bytes]], bytes]


def mutated(count: int, *, seed: int) -> Iterator[bytes]:
    """Requests, each a good or a bad one with one to four mutations."""
    draw = random.Random(seed)  # noqa: S311  # it draws requests, not keys
    seeds, bodies = _seeds(), _bodies()
    for _ in range(count):
        if draw.random() < OF_BODIES:
            name, body = draw.choice(bodies)
            yield _request(name, _several(draw, body, [body for _, body in bodies]))
        else:
            yield _several(draw, draw.choice(seeds), seeds) or b"\x00"


def _several(draw: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    for _ in range(draw.randint(1, 4)):
        data = draw.choice(MUTATIONS)(draw, data, others)
    return data[: 4 * LONGEST]


def _bodies() -> list[tuple[str, bytes]]:
    """Bodies with the target that they are for; of these only the body is mutated, so that it is read."""
    posts = [name for name, target in TARGETS.items() if target.method == "POST"]
    good = [(name, _good(name).partition(b"\r\n\r\n")[2]) for name in posts]
    forms = [
        (name, Template({**words(TARGETS[name], 1 << 20), "value": value}).filled(form).encode())
        for kind, value in FORM_VALUES
        for name, form in FORMS[kind].items()
    ]
    return good * 4 + forms


def _seeds() -> tuple[bytes, ...]:
    good = [_good(name) for name, target in TARGETS.items() if name != "document"] * 8
    bad = [case.sent() for case in corpus() if not case.slow and 0 < len(case.sent()) <= LONGEST]
    return (*good, *bad)


def _good(name: str) -> bytes:
    target = TARGETS[name]
    body = Template(words(target, 1 << 20)).filled("$good").encode() if target.method == "POST" else b""
    return _request(name, body if len(body) <= LONGEST else b'{"instances": [[1, 2]], "labels": [0]}')


def _request(name: str, body: bytes) -> bytes:
    target = TARGETS[name]
    fields = f"{target.method} {target.path} HTTP/1.1\r\nHost: door.test\r\n"
    if body:
        fields += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return fields.encode() + b"\r\n" + body


def _place(draw: random.Random, data: bytes) -> int:
    return draw.randrange(len(data) + 1)


def _flip(draw: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    del others
    if not data:
        return data
    at = draw.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << draw.randrange(8))]) + data[at + 1 :]


def _delete(draw: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    del others
    at = _place(draw, data)
    return data[:at] + data[at + draw.choice((1, 1, 2, 4, 16, 64)) :]


def _insert(draw: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    del others
    at = _place(draw, data)
    return data[:at] + draw.choice(NASTY) + data[at:]


def _repeat(draw: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    del others
    at = _place(draw, data)
    end = min(len(data), at + draw.choice((1, 4, 32)))
    return data[:at] + data[at:end] * draw.choice((2, 3, 50)) + data[end:]


def _splice(draw: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    other = draw.choice(others)
    return data[: _place(draw, data)] + other[_place(draw, other) :]


def _cut(draw: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    del others
    return data[: _place(draw, data)]


def _line(draw: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    del others
    lines = data.split(b"\r\n")
    at, how = draw.randrange(len(lines)), draw.randrange(3)
    if how == 0:
        return b"\r\n".join(lines[:at] + lines[at + 1 :])
    if how == 1:
        return b"\r\n".join([*lines[:at], lines[at], *lines[at:]])
    draw.shuffle(lines)
    return b"\r\n".join(lines)


def _number(draw: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    del others
    found = list(NUMBER.finditer(data))
    if not found:
        return data
    one, value = draw.choice(found), draw.choice((b"NaN", b"1e999", b"-1", b"0", b"true", b'"1"', b"[]", b"9" * 30))
    return data[: one.start()] + value + data[one.end() :]


MUTATIONS: Final[tuple[Mutation, ...]] = (
    _flip,
    _flip,
    _delete,
    _insert,
    _insert,
    _repeat,
    _splice,
    _cut,
    _line,
    _number,
)

"""Bad requests and their expected answers, read from `tests/door/corpus/*.toml`.

A file holds groups; a group holds cases, one a line. What a case does not state it takes from its group. Texts may
hold the words of `tests/door/targets.py`, such as ``$row``. Keys:

============  ============================================================================================
`id`          name within the group; the whole one is ``group.id``, with ``@target`` where there are several
`row`         row of the fault tables in the specification
`why`         the reason for the expected answer, where the specification does not state it
`on`          targets that the request is sent to, each a case of its own; `:decide` by default
`method`      in place of the target's
`path`        in place of the target's
`head`        more header fields: lines, or pieces as they are
`without`     names of the usual fields that are left out
`body`        pieces; or `in`, a form of the target, and `value`, what stands in it
`framing`     `length` (default), `chunked`, or `none`
`raw`         the whole request in pieces, in place of all of the above
`status`      of the answer: one, or a list of those that are as good; `close` is the end without an answer
`code`        of the problem, or several
`answers`     one status, or list of them, for each answer where there are several
`times`       how many such answers there are; 1 by default
`closes`      whether the connection ends after it; unstated or `either` where both are right
`within`      seconds for all of it
`headers`     fields that the answer has, with their values, or `*` for any
`absent`      fields that it has not
`slow`        the request takes seconds by itself, and is sent beside the others
`server`      of a group: `open` (default), or `keys`: one that needs credentials
`proxy`       what differs through a proxy: a table; `own` where it may answer itself; `skip`
`v2`          what differs under `/v2`: a table
============  ============================================================================================
"""

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

from tests.door.pieces import Step, Template, content, steps
from tests.door.targets import FORMS, TARGETS, Target, words

CORPUS: Final = Path(__file__).with_name("corpus")
KEYS: Final = frozenset(
    [
        "id",
        "row",
        "why",
        "on",
        "method",
        "path",
        "head",
        "without",
        "body",
        "in",
        "value",
        "framing",
        "raw",
        "status",
        "code",
        "answers",
        "times",
        "closes",
        "within",
        "headers",
        "absent",
        "slow",
        "server",
        "proxy",
        "v2",
    ]
)
GROUP_KEYS: Final = KEYS - {"id"} | {"name", "cases"}

Status = int | Literal["close"]
Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Expected:
    """What must come back.

    Attributes
    ----------
    statuses : tuple
        For each answer the statuses that are as good.
    codes : frozenset of str
        Of the last answer's problem; any where it is empty.
    closes : bool or None
        Whether the connection ends after the last answer.
    within : float
        Seconds.
    headers : dict of str to str
        Fields of the last answer; ``*`` is any value.
    absent : frozenset of str
        Fields that it has not.
    """

    statuses: tuple[tuple[Status, ...], ...]
    codes: frozenset[str]
    closes: bool | None
    within: float
    headers: Mapping[str, str]
    absent: frozenset[str]


@dataclass(frozen=True, slots=True)
class Case:
    """One request.

    Attributes
    ----------
    id, group, row : str
    path, method : str
        That the answer's form follows from; empty for a request given as bytes.
    steps : tuple of Step
    expected : Expected
    slow : bool
    proxied : str
        `same`, `own` or `skip`.
    """

    id: str
    group: str
    row: str
    path: str
    method: str
    steps: tuple[Step, ...]
    expected: Expected
    slow: bool
    proxied: str

    def sent(self) -> bytes:
        """All bytes of the request."""
        return b"".join(step for step in self.steps if isinstance(step, bytes))


@dataclass(frozen=True, slots=True)
class Setting:
    """Of the server that the cases are for.

    Attributes
    ----------
    limit : int
        Bytes that a body may have.
    proxied : bool
        Whether a proxy stands in front.
    key : str
        That it knows, of scope `predict`; cases of a server that needs credentials are made with one alone.
    """

    limit: int = 1 << 20
    proxied: bool = False
    key: str = ""


@cache
def corpus(setting: Setting = Setting()) -> tuple[Case, ...]:  # it is frozen
    """All cases, in the order of the files."""
    found = [case for path in sorted(CORPUS.glob("*.toml")) for case in read(path.read_text("utf-8"), setting)]
    names = [case.id for case in found]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"several cases are called {', '.join(sorted(twice))}")
    return tuple(found)


def read(text: str, setting: Setting) -> Iterator[Case]:
    """The cases of one file."""
    for group in tomllib.loads(text)["group"]:
        _check(group, GROUP_KEYS, group["name"])
        if (group.get("server", "open") == "keys") != bool(setting.key):
            continue
        shared = {key: value for key, value in group.items() if key not in {"name", "cases", "server"}}
        for entry in group["cases"]:
            _check(entry, KEYS, f"{group['name']}.{entry.get('id')}")
            yield from _cases(group["name"], {**shared, **entry}, setting)


def _cases(group: str, entry: Entry, setting: Setting) -> Iterator[Case]:
    targets = entry.get("on", ["decide"])
    for name in targets:
        target = TARGETS[name]
        one = {**entry, **(entry.get("v2", {}) if target.is_v2 else {})}
        proxy = one.get("proxy", "same")
        if setting.proxied and isinstance(proxy, Mapping):
            one.update(proxy)
        whole = f"{group}.{entry['id']}" + (f"@{name}" if len(targets) > 1 else "")
        yield _case(whole, group, target, one, setting)


def _case(name: str, group: str, target: Target, one: Entry, setting: Setting) -> Case:
    known = words(target, setting.limit, setting.key)
    template = Template({**known, "value": Template(known).filled(one.get("value", ""))})
    is_raw = "raw" in one
    sent = steps(one["raw"], template, encoding="latin-1") if is_raw else _request(target, one, template)
    proxy = one.get("proxy", "same")
    return Case(
        name,
        group,
        one["row"],
        "" if is_raw and "path" not in one else template.filled(one.get("path", target.path)),
        "" if is_raw and "method" not in one else one.get("method", target.method),
        tuple(sent),
        _expected(one),
        one.get("slow", False),
        proxy if isinstance(proxy, str) else "same",
    )


def _expected(one: Entry) -> Expected:
    answers = one["answers"] if "answers" in one else [one["status"]] * one.get("times", 1)
    return Expected(
        tuple(tuple(_listed(status)) for status in answers),
        frozenset(_listed(one.get("code", []))),
        None if one.get("closes") == "either" else one.get("closes"),
        one.get("within", 5.0),
        {name.lower(): value for name, value in one.get("headers", {}).items()},
        frozenset(name.lower() for name in one.get("absent", ())),
    )


def _request(target: Target, one: Entry, template: Template) -> Iterator[Step]:
    method, path = one.get("method", target.method), one.get("path", target.path)
    body = list(steps(_body(target, one), template)) if _has_body(target, one) else []
    framing = one.get("framing", "length" if body else "none")
    if framing == "chunked":
        whole = b"".join(step for step in body if isinstance(step, bytes))
        body = list(steps({"chunked": whole.decode("latin-1"), "size": 4096}, _NONE, encoding="latin-1"))
    fields = dict(_usual(target, body, framing))
    left = {name.lower() for name in one.get("without", ())}
    lines = [f"{name}: {value}" for name, value in fields.items() if name.lower() not in left]
    more = [line + "\r\n" if isinstance(line, str) else line for line in one.get("head", ())]
    first = f"{method} {path} HTTP/1.1\r\n"
    yield content([first, *(f"{line}\r\n" for line in lines), *more, "\r\n"], template, encoding="latin-1")
    yield from body


def _has_body(target: Target, one: Entry) -> bool:
    return "body" in one or "in" in one or (target.method == "POST" and one.get("method", "POST") != "GET")


def _body(target: Target, one: Entry) -> Any:
    if "in" in one:
        return FORMS[one["in"]][target.name]
    return one.get("body", "$good")


def _usual(target: Target, body: Sequence[Step], framing: str) -> Iterable[tuple[str, str]]:
    yield "Host", "$host"
    yield "User-Agent", "door-$canary"
    if target.method == "POST":
        yield "Content-Type", "application/json"
    if framing == "length":
        yield "Content-Length", str(sum(len(step) for step in body if isinstance(step, bytes)))
    if framing == "chunked":
        yield "Transfer-Encoding", "chunked"


def _check(entry: Entry, known: frozenset[str], name: str) -> None:
    unknown = entry.keys() - known
    if unknown:
        raise ValueError(f"{name} has unknown keys: {', '.join(sorted(unknown))}")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


_NONE: Final = Template({"no such word": ""})

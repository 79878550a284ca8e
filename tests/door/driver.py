"""Drives the corpus of bad requests against a running server, and prints by group how many are answered as expected.

Run as ``python -m tests.door.driver --url http://127.0.0.1:8000``; the server's body limit should be 1 MiB
(``TEMPERANCE_MAX_BODY=1048576``), else state it with ``--limit``. A good request follows every ten bad ones.
"""

import argparse
import asyncio
import fnmatch
import json
import math
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from tests.door.cases import Case, Setting, corpus
from tests.door.exchange import Address, Exchange, exchange
from tests.door.pieces import Template
from tests.door.targets import HOST, TARGETS, words
from tests.door.verdicts import faults

AT_ONCE: Final = 10  # bad requests between two good ones, sent side by side
LARGE: Final = 1 << 16  # bytes from which a request is sent by itself: ten large ones at once are a load, not a fault
GOOD_SECONDS: Final = 5.0
MOST_BAD: Final = 3  # good requests without their answer, after which a server is given up


@dataclass(frozen=True, slots=True)
class Outcome:
    """A case, what came back, and what is wrong with it."""

    case: Case
    seen: Exchange | None
    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What a drive showed.

    Attributes
    ----------
    outcomes : tuple of Outcome
    good : tuple of str
        What was wrong with good requests in between.
    seconds : float
    """

    outcomes: tuple[Outcome, ...]
    good: tuple[str, ...]
    seconds: float

    @property
    def failed(self) -> list[Outcome]:
        """Cases that were not answered as expected."""
        return [outcome for outcome in self.outcomes if outcome.faults]


async def drive(address: Address, cases: Sequence[Case], *, proxied: bool = False, credential: str = "") -> Report:
    """Send every case, slow ones beside the others, and a good request after every ten.

    Parameters
    ----------
    address : Address
    cases : sequence of Case
    proxied : bool
        Whether a proxy answers at that address.
    credential : str
        Header line of good requests, with its end; empty without one.
    """
    started = time.monotonic()
    kept = [case for case in cases if not (proxied and case.proxied == "skip")]
    first = await _good(address, credential)
    slow = [asyncio.ensure_future(_outcome(address, case, proxied=proxied)) for case in kept if case.slow]
    outcomes, good = [], []
    for some in _blocks([case for case in kept if not case.slow]):
        outcomes += await _together(address, some, proxied=proxied)
        good += _differs(first, await _good(address, credential), f"after {some[-1].id}")
        if len(good) >= MOST_BAD:
            break
    outcomes += await asyncio.gather(*slow)
    good += _differs(first, await _good(address, credential), "at the end")
    return Report(tuple(outcomes), tuple(good), time.monotonic() - started)


async def _together(address: Address, cases: Sequence[Case], *, proxied: bool) -> list[Outcome]:
    small = [case for case in cases if len(case.sent()) < LARGE]
    outcomes = await asyncio.gather(*(_outcome(address, case, proxied=proxied) for case in small))
    return [*outcomes, *[await _outcome(address, case, proxied=proxied) for case in cases if case not in small]]


def _blocks(cases: Sequence[Case]) -> Iterator[Sequence[Case]]:
    yield from (cases[i : i + AT_ONCE] for i in range(0, len(cases), AT_ONCE))


async def _outcome(address: Address, case: Case, *, proxied: bool) -> Outcome:
    expected = case.expected
    closes = expected.closes is True or any("close" in among for among in expected.statuses)
    try:
        seen = await exchange(
            address,
            case.steps,
            count=len(expected.statuses),
            within=expected.within,
            until_closed=closes and not proxied,
        )
    except OSError as error:
        return Outcome(case, None, (f"no connection: {type(error).__name__}",))
    return Outcome(case, seen, tuple(faults(case, seen, proxied=proxied)))


async def _good(address: Address, credential: str) -> Any:
    target = TARGETS["decide"]
    body = Template(words(target, 0)).filled("$good")
    head = (
        f"POST {target.path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n{credential}"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    seen = await exchange(address, [(head + body).encode()], within=GOOD_SECONDS)
    if [answer.status for answer in seen.answers] != [200]:
        return [answer.status for answer in seen.answers] or "no answer"
    return [{**row, "prediction_id": None} for row in seen.answers[0].document()["predictions"]]


def _differs(first: Any, now: Any, when: str) -> list[str]:
    return [] if isinstance(now[0], dict) and _alike(first, now) else [f"a good request {when}: {str(now)[:100]}"]


def _alike(one: Any, other: Any) -> bool:
    # A row that was answered together with others may differ in its last bits.
    if isinstance(one, float):
        return isinstance(other, float) and math.isclose(one, other, rel_tol=1e-6)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(_alike(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(_alike, one, other))
    return bool(one == other)


def table(report: Report, *, by: str = "group") -> str:
    """Cases and those as expected, by group or by row of the fault tables."""
    key = (lambda case: case.row) if by == "row" else (lambda case: case.group)
    cases = Counter(key(outcome.case) for outcome in report.outcomes)
    failed = Counter(key(outcome.case) for outcome in report.failed)
    lines = [f"{by:12} {'cases':>6} {'as expected':>12}"]
    lines += [f"{name:12} {cases[name]:6} {cases[name] - failed[name]:12}" for name in sorted(cases, key=_natural)]
    total = len(report.outcomes)
    lines.append(f"{'all':12} {total:6} {total - len(report.failed):12}   {report.seconds:.1f} s")
    return "\n".join(lines)


def described(outcome: Outcome) -> str:
    """A line about a case that failed."""
    return f"{outcome.case.id} ({outcome.case.row}): {'; '.join(outcome.faults)}"


def _natural(name: str) -> tuple[str, int]:
    found = re.search(r"\d+", name)
    return re.sub(r"\d+", "", name), int(found[0]) if found else 0


def chosen(cases: Sequence[Case], *, only: str = "*") -> list[Case]:
    """The cases whose names fit a pattern."""
    return [case for case in cases if fnmatch.fnmatch(case.id, only)]


def authorization(key: str) -> str:
    """The header line of a good request with a key."""
    return f"Authorization: Bearer {key}\r\n" if key else ""


def main() -> None:
    """Drive a server, print the table, and end with status 1 where a case failed."""
    arguments = _arguments()
    url = urlsplit(arguments.url)
    cases = chosen(corpus(Setting(arguments.limit, arguments.proxied, arguments.key)), only=arguments.only)
    address, credential = Address(str(url.hostname), url.port or 80), authorization(arguments.key)
    report = asyncio.run(drive(address, cases, proxied=arguments.proxied, credential=credential))
    for outcome in report.failed:
        sys.stdout.write(described(outcome) + "\n")
        if arguments.show and outcome.seen:
            sys.stdout.write(f"    sent {outcome.case.sent()[:600]!r}\n    got {outcome.seen!r:.1500}\n")
    sys.stdout.write("\n".join((*report.good, table(report, by=arguments.by))) + "\n")
    if arguments.json:
        arguments.json.write(json.dumps({one.case.id: one.faults for one in report.outcomes}))
    sys.exit(1 if report.failed or report.good else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--limit", type=int, default=1 << 20, help="bytes that a body may have")
    parser.add_argument("--only", default="*", help="pattern of the names of cases, such as 'num.*'")
    parser.add_argument("--by", choices=["group", "row"], default="group")
    parser.add_argument("--proxied", action="store_true", help="a proxy answers at that address")
    parser.add_argument("--key", default="", help="of scope predict: drives the cases about credentials")
    parser.add_argument("--show", action="store_true", help="what was sent and what came back, of cases that failed")
    parser.add_argument("--json", type=argparse.FileType("w"), help="file for the faults by name of the case")
    return parser.parse_args()


if __name__ == "__main__":
    main()

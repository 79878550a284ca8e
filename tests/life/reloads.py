"""L4: an alias that moves a thousand times under load. Run as ``python -m tests.life.reloads``.

Some versions are new to the machine, and one in ten reloads is broken: in its sums, its graph, its manifest, its
calibration, its files, or in the file of aliases. Every answer is compared whole with that of its version. ``--against
DIR`` drives the service of another checkout.
"""

import argparse
import itertools
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tests.bench.servers import ROOT
from tests.bench.table import show_rows, with_target
from tests.life.client import ID, ID_BYTES, MODEL
from tests.life.deployments import ALIAS_TEXTS, DAMAGES, NAME, SUMS, Deployments
from tests.life.load import KINDS, decided, load, share_of_capacity
from tests.life.outcomes import Outcomes, lost, shown
from tests.life.processes import exchanged, service, wait_for

RELOADS: Final = 1000
EVERY: Final = 10
"""Of so many reloads one is broken."""

NEW: Final = 0.2
"""Share of the other versions that are new to the machine."""

ALIKE: Final = 32
"""Answers in a row, each on a connection of its own, after which both workers are taken to say so."""

BEFORE: Final = 0.5
PATIENCE: Final = 20.0
PAUSE: Final = 0.02
CONVERGED_SECONDS: Final = 2.0
GOOD: Final = "good"
BROKEN_KINDS: Final = (*DAMAGES, *ALIAS_TEXTS)
DESCRIBE: Final = f"GET /v1/models/{NAME} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()


@dataclass(frozen=True, slots=True)
class Flip:
    """A move of the alias.

    Attributes
    ----------
    moment : float
    before, version : int
        Version that was served, and that the alias names now; the same if it is broken.
    kind : str
        `known`, `new`, or how it is broken.
    seen : float or None
        Seconds until all workers said so: that they serve it, or refuse it. None if that took too long.
    """

    moment: float
    before: int
    version: int
    kind: str
    seen: float | None

    @property
    def is_broken(self) -> bool:
        """Whether it must be refused."""
        return self.kind in BROKEN_KINDS


@dataclass(frozen=True, slots=True)
class Reloaded:
    """Reloads under load.

    Attributes
    ----------
    rate : float
        Requests in a second, of both kinds of client together.
    flips : sequence of Flip
    outcomes : sequence of Outcomes
        Of each kind of client.
    expected : dict of int to dict
        Version -> what it answers.
    end : float
        When the load was stopped.
    """

    rate: float
    flips: Sequence[Flip]
    outcomes: Sequence[Outcomes]
    expected: Mapping[int, dict[str, Any]]
    end: float

    @property
    def mixed(self) -> int:
        """Answers that are not, in all they say, those of the version that they name."""
        return sum(int(np.isin(one.requests["answer"], _strange(one, self.expected)).sum()) for one in self.outcomes)

    @property
    def unexpected(self) -> int:
        """Answers of a version that the alias named neither at the request nor before that."""
        found = 0
        for one in self.outcomes:
            versions = _versions(one)
            for flip, during in zip(self.flips, self._intervals(one), strict=True):
                found += int((~np.isin(versions[during], (0, flip.before, flip.version))).sum())
        return found

    @property
    def converged(self) -> npt.NDArray[np.float64]:
        """Of every reload that is not broken, seconds until the last request that the version before answered."""
        last = np.zeros(len(self.flips))
        for one in self.outcomes:
            versions, begun = _versions(one), one.requests["begun"]
            for i, (flip, during) in enumerate(zip(self.flips, self._intervals(one), strict=True)):
                old = begun[during & (versions == flip.before)]
                last[i] = max(last[i], old.max(initial=flip.moment) - flip.moment)
        return last[[not flip.is_broken for flip in self.flips]]

    def _intervals(self, one: Outcomes) -> Iterator[npt.NDArray[np.bool_]]:
        ends = [*(flip.moment for flip in self.flips[1:]), self.end]
        begun, done = one.requests["begun"], one.requests["done"]
        for flip, end in zip(self.flips, ends, strict=True):
            yield (begun >= flip.moment) & (done < end)


def _versions(one: Outcomes) -> npt.NDArray[np.int64]:
    named = np.array([int(_read(answer)["version"]) for answer in one.answers] + [0])  # the last: of no answer
    found: npt.NDArray[np.int64] = named[one.requests["answer"]]
    return found


def _strange(one: Outcomes, expected: Mapping[int, dict[str, Any]]) -> list[int]:
    answers = [_read(answer) for answer in one.answers]
    return [place for place, answer in enumerate(answers) if expected.get(int(answer["version"])) != answer]


def _read(answer: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(b"{" + answer)
    return found


class Alias:
    """The alias of a served model, moved and waited for.

    Parameters
    ----------
    deployments : Deployments
    port : int
    """

    def __init__(self, deployments: Deployments, port: int) -> None:
        self._deployments, self._port = deployments, port
        self._served = deployments.first[0]
        self._draw = random.Random(0)  # noqa: S311  # which version is next is no secret

    def expected(self) -> dict[int, dict[str, Any]]:
        """What each of the first versions answers, from a service that does nothing else."""
        return {version: self._answer_of(version) for version in self._deployments.first}

    def move(self) -> Flip:
        """Move it to another version, known or new."""
        variant = self._draw.choice([one for one in self._deployments.first if one != self._variant])
        is_new = self._draw.random() < NEW
        version = self._deployments.publish(variant) if is_new else variant
        return self._moved(version, "new" if is_new else "known")

    def damage(self, kind: str) -> Flip:
        """Move it to what cannot be served."""
        deployments, before = self._deployments, self._served
        if kind in DAMAGES:
            version = deployments.publish_damaged(deployments.first[0], kind)
            moment = time.monotonic()
            deployments.alias(version)
        else:
            moment = time.monotonic()
            deployments.write_aliases(ALIAS_TEXTS[kind])
        seen = _all_say(self._port, lambda one: one["refusal"] is not None and int(one["version"]) == before)
        return Flip(moment, before, before, kind, seen)

    @property
    def _variant(self) -> int:
        return self._deployments.variants[self._served]

    def _moved(self, version: int, kind: str) -> Flip:
        before, self._served = self._served, version
        moment = time.monotonic()
        self._deployments.alias(version)
        seen = _all_say(self._port, lambda one: one["refusal"] is None and int(one["version"]) == version)
        return Flip(moment, before, version, kind, seen)

    def _answer_of(self, version: int) -> dict[str, Any]:
        if version != self._served and self._moved(version, "known").seen is None:
            raise SystemExit(f"version {version} is not served")
        answer = (exchanged(self._port, decided(keeps=False)) or b"").partition(b"\r\n\r\n")[2]
        text = answer[answer.index(MODEL) :].replace(answer[len(ID) : len(ID) + ID_BYTES], b"")
        return _read(text)


def _all_say(port: int, is_so: Callable[[dict[str, Any]], bool]) -> float | None:
    def says() -> bool:
        answer = (exchanged(port, DESCRIBE) or b"").partition(b"\r\n\r\n")[2]
        return bool(answer) and is_so(json.loads(answer))

    return wait_for(lambda: all(says() for _ in range(ALIKE)), PATIENCE, pause=PAUSE)


def reloaded(
    alias: Alias, deployments: Deployments, port: int, kinds: Sequence[str], *, rate: float | None = None
) -> Reloaded:
    """Move the alias under load, once for each kind: `good`, or how it is broken; ends where it is not followed."""
    answers = alias.expected()
    chosen = share_of_capacity(port, KINDS[0]) if rate is None else rate
    flips: list[Flip] = []
    with ExitStack() as stack:
        loads = [stack.enter_context(load(port, kind, chosen / len(KINDS))) for kind in KINDS]
        time.sleep(BEFORE)
        for kind in kinds:
            flips.append(alias.move() if kind == GOOD else alias.damage(kind))
            if flips[-1].seen is None and kind == GOOD:
                break
        end = time.monotonic()
    expected = {
        version: {**answers[variant], "version": str(version), "digest": deployments.digest(version)}
        for version, variant in deployments.variants.items()
        if (deployments.folder(version) / SUMS).exists()
    }
    return Reloaded(chosen, flips, [one.ended for one in loads], expected, end)


def drawn(reloads: int) -> list[str]:
    """Kinds of so many reloads: every tenth is broken, in each way in turn."""
    broken = itertools.cycle(BROKEN_KINDS)
    return [next(broken) if i % EVERY == EVERY - 1 else GOOD for i in range(reloads)]


def figures(found: Reloaded) -> list[tuple[str, str]]:
    """Of the table."""
    broken = [flip for flip in found.flips if flip.is_broken]
    good, converged = [flip for flip in found.flips if not flip.is_broken], found.converged
    counts = sum((one.first for one in found.outcomes), Counter())
    return [
        ("requests/s, half of them on kept connections", f"{found.rate:,.0f}"),
        ("requests", f"{counts.total():,}"),
        ("no answer", shown(counts)),
        ("lost", with_target(lost(counts), ".0f", at_most=0)),
        ("answers of mixed versions", with_target(found.mixed, ".0f", at_most=0)),
        ("answers of a version that was not named", with_target(found.unexpected, ".0f", at_most=0)),
        ("reloads: known / new / broken", f"{_count(good, 'known')} / {_count(good, 'new')} / {len(broken)}"),
        ("not followed", with_target(sum(flip.seen is None for flip in good), ".0f", at_most=0)),
        ("all workers follow: median", f"{np.median(converged):.2f} s"),
        ("all workers follow: p99", f"{with_target(_p99(converged), '.2f', at_most=CONVERGED_SECONDS)} s"),
        ("all workers follow: slowest", f"{converged.max(initial=0.0):.2f} s"),
        ("broken, not refused", with_target(sum(flip.seen is None for flip in broken), ".0f", at_most=0)),
        ("after which it was not followed", ", ".join(_lethal(found.flips)) or "nothing"),
    ]


def _count(flips: Sequence[Flip], kind: str) -> int:
    return sum(flip.kind == kind for flip in flips)


def _p99(values: npt.NDArray[np.float64]) -> float:
    return float(np.quantile(values, 0.99, method="higher")) if len(values) else float("nan")


def _lethal(flips: Sequence[Flip]) -> list[str]:
    pairs = itertools.pairwise(flips)
    return [before.kind for before, flip in pairs if before.is_broken and not flip.is_broken and flip.seen is None]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--reloads", type=int, default=RELOADS)
    parser.add_argument("--without", default="", help="kinds of damage that are left out, separated by commas")
    parser.add_argument("--against", type=Path, default=ROOT)
    options = parser.parse_args()
    left_out = {kind.strip() for kind in options.without.split(",")}
    kinds = [kind for kind in drawn(options.reloads) if kind not in left_out]
    with tempfile.TemporaryDirectory() as folder:
        deployments = Deployments(Path(folder), options.against)
        with service(Path(folder), workers=2, checkout=options.against) as running:
            found = reloaded(Alias(deployments, running.port), deployments, running.port, kinds)
    show_rows(
        "Reloads of two workers under 60 % load, shipped model and versions of it",
        ("", "measured"),
        figures(found),
        caption="A reload begins when aliases.toml is in place; all follow from the last request on that the version "
        "before answered.",
    )


if __name__ == "__main__":
    main()

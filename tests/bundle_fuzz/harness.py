"""Damaged bundles through `verify`, a start and a reload: python -m tests.bundle_fuzz.harness [--count 2400].

Batches of cases run in processes of their own, two at a time; one that dies or hangs costs its case a mark and is
replaced.
"""

import argparse
import importlib
import json
import logging
import multiprocessing
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any, Final

from service.bundle.repository import Repository
from service.bundle.self_test import TOLERANCE
from service.errors import ServiceError
from service.runtime.registry import load_registry
from tests.bundle_fuzz.cases import Case, Prepared, cases, prepare
from tests.bundle_fuzz.damage import BOUND_GRAPH, DAMAGE
from tests.bundle_fuzz.sound import answers, difference, write_sound

DOORS: Final = ("verify", "start", "reload")
OUTCOMES: Final = (
    *("harmless", "refused", "declared", "rounding"),
    *("DIFFERENT", "TRACEBACK", "LATE", "MEMORY", "DIED", "UNCLEAR"),
)
"""In capitals: what must not be. ``rounding``: a graph that was bound again answers within the tolerance of the
self-test, which other processors need, with equal labels, actions and flags. UNCLEAR is a refusal of several lines, of
more than 500 characters, or of no file."""

SECONDS: Final = 20
PATIENCE: Final = 5
"""So much longer may a door take by the clock than it computes, on a machine that others use."""

MOST_MEMORY: Final = 2**30
ADDRESS_SPACE: Final = 6 * 2**30
LONGEST: Final = 500
BATCH: Final = 30
PLACES: Final = re.compile(
    r"manifest\.toml|calibration\.json|state\.npz|model\.onnx|SHA256SUMS|aliases\.toml|/[12]\b|alias"
)


@dataclass(frozen=True, slots=True)
class Found:
    """What came of a case at one door."""

    case: str
    kind: str
    door: str
    what: str
    outcome: str
    detail: str
    seconds: float
    memory: int


class Late(BaseException):
    """The time of a door is over; no handler of errors catches it."""


def run(count: int, *, seed: int, folder: Path, doors: str, processes: int = 2) -> Iterator[list[Found]]:
    """All cases, batch by batch, and what came of each at every door."""
    sound = write_sound(folder)
    every = cases(count, seed)
    batches = [every[start : start + BATCH] for start in range(0, len(every), BATCH)]
    with ThreadPoolExecutor(processes) as pool:
        yield from pool.map(partial(_batch, sound=sound, doors=doors), batches)


def failures(found: list[Found]) -> list[Found]:
    """Those that must not be."""
    return [entry for entry in found if entry.outcome.isupper()]


def table(found: list[Found]) -> str:
    """Outcomes by kind, in Markdown: of a case the worst of its doors."""
    worst: dict[tuple[str, str], int] = {}
    for entry in found:
        key = (entry.kind, entry.case)
        worst[key] = max(worst.get(key, 0), OUTCOMES.index(entry.outcome))
    counts = {kind: Counter(OUTCOMES[w] for (k, _), w in worst.items() if k == kind) for kind in DAMAGE}
    counts["all"] = sum(counts.values(), Counter())
    head = f"| kind | cases | {' | '.join(OUTCOMES)} |\n|---|---|{'---|' * len(OUTCOMES)}\n"
    rows = (f"| {k} | {c.total()} | {' | '.join(str(c[o]) for o in OUTCOMES)} |\n" for k, c in counts.items())
    return head + "".join(rows)


def _batch(batch: list[Case], *, sound: Path, doors: str) -> list[Found]:
    """A batch in a process of its own; another one goes on behind a case that ends it."""
    found: list[Found] = []
    left = list(batch)
    while left:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(left, sound, doors, theirs))
        process.start()
        theirs.close()
        done, ended = _received(ours, len(left))
        found += [entry for entries in done for entry in entries]
        process.kill()
        process.join()
        left = left[len(done) :]
        if ended is not None and left:
            case = left.pop(0)
            found.append(Found(str(case), case.kind, "start", "", ended, "", 0.0, 0))
    return found


def _received(ours: Connection, count: int) -> tuple[list[list[Found]], str | None]:
    done: list[list[Found]] = []
    patience = 120.0 + PATIENCE * SECONDS * count  # the first answer comes after the proofs of all
    while len(done) < count:
        if not ours.poll(patience):
            return done, "LATE"
        try:
            done.append(ours.recv())
        except EOFError:
            return done, "DIED"
        patience = 4.0 * PATIENCE * SECONDS
    return done, None


def _work(batch: list[Case], sound: Path, doors: str, theirs: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, _late)
    logging.disable(logging.CRITICAL)
    through = importlib.import_module(doors)
    expected: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        prepared = [prepare(case, sound, Path(folder) / str(i)) for i, case in enumerate(batch)]
        known = through.prove(prepared)
        _peak()  # what it took to make the cases is ours
        for case in prepared:
            if case.case.model not in expected:
                registry = load_registry(Repository(sound))
                expected |= {name: answers(registry.model(name), name) for name in registry.names()}
            theirs.send(list(_through_all(through, case, known, expected[case.case.model])))
            shutil.rmtree(case.root)
        theirs.close()


def _late(_number: int, _frame: FrameType | None) -> None:
    raise Late


def _through_all(through: Any, case: Prepared, known: Any, expected: dict[str, Any]) -> Iterator[Found]:
    name = case.case.model
    reloader = through.begin(case, known)
    case.publish()
    yield _outcome(case, "verify", lambda: through.verify(case, known), expected)
    yield _outcome(case, "start", lambda: through.start(case, known), expected)
    yield _outcome(case, "reload", lambda: through.reload(reloader, name), expected)
    if reloader.registry.find(name) is None and case.case.kind != "aliases":
        yield Found(str(case.case), case.case.kind, "reload", case.damaged.what, "DIFFERENT", "not served", 0.0, 0)


def _outcome(case: Prepared, door: str, enter: Any, expected: dict[str, Any]) -> Found:
    began = time.process_time()
    outcome, detail = _entered(case, door, enter, expected)
    took, memory = time.process_time() - began, _peak()  # of this process: others may have the processors
    outcome = "MEMORY" if memory > MOST_MEMORY else "LATE" if took > SECONDS else outcome
    return Found(str(case.case), case.case.kind, door, case.damaged.what, outcome, detail[:600], took, memory)


def _entered(case: Prepared, door: str, enter: Any, expected: dict[str, Any]) -> tuple[str, str]:
    try:
        with _time_limit():
            registry = enter()
            if door == "verify":
                return "harmless", ""
            return _compared(case, answers(registry.model(case.case.model), case.case.model), expected)
    except ServiceError as error:
        return _refusal(str(error)), str(error)
    except Late:
        return "LATE", ""
    except MemoryError as error:
        return "MEMORY", str(error)
    except Exception as error:  # noqa: BLE001  # what would be a traceback
        return "TRACEBACK", f"{type(error).__name__}: {error}"


def _compared(case: Prepared, found: dict[str, Any], expected: dict[str, Any]) -> tuple[str, str]:
    apart = difference(expected, found)
    if apart is None:
        return "harmless", ""
    if BOUND_GRAPH in case.damaged.what and difference(expected, found, tolerance=TOLERANCE) is None:
        return "rounding", apart
    return ("declared" if case.damaged.is_declared else "DIFFERENT"), apart


def _refusal(text: str) -> str:
    is_clear = "\n" not in text and len(text) <= LONGEST and PLACES.search(text)
    return "refused" if is_clear else "UNCLEAR"


@contextmanager
def _time_limit() -> Iterator[None]:
    signal.alarm(PATIENCE * SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)


def _peak() -> int:
    """Resident bytes at most since the last call, of this process."""
    peak = int(next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line).split()[1])
    Path("/proc/self/clear_refs").write_text("5")
    return peak * 1024


def _kept(batch: list[Found], out: Path | None) -> list[Found]:
    if out is not None:
        with out.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(entry)) + "\n" for entry in batch)
    return batch


def main() -> None:
    """Run, and print the table and what must not be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--doors", default="tests.bundle_fuzz.doors")
    parser.add_argument("--folder", type=Path, help="of the sound models, to use them again")
    parser.add_argument("--out", type=Path, help="every outcome as a line of JSON")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-sound-") as folder:
        batches = run(options.count, seed=options.seed, folder=options.folder or Path(folder), doors=options.doors)
        found = [entry for batch in batches for entry in _kept(batch, options.out)]
    sys.stdout.write(table(found))
    for entry in failures(found):
        sys.stdout.write(f"{entry.outcome} at {entry.door}: {entry.case}: {entry.what}: {entry.detail:.200}\n")
    slowest, largest = max(entry.seconds for entry in found), max(entry.memory for entry in found)
    took = time.monotonic() - began
    sys.stdout.write(f"{took:.0f} s; slowest door {slowest:.1f} s; largest process {largest / 2**20:.0f} MiB\n")


if __name__ == "__main__":
    main()

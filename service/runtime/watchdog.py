"""Runs of a graph that must end by a deadline: one thread watches over all of them."""

import threading
import time

import onnxruntime as ort


class Watchdog:
    """Ends runs whose time is over, at the next node of their graph.

    One operator that takes long is not interrupted; nothing in ONNX Runtime can. `overdue` tells of it.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._watched: dict[int, tuple[float, ort.RunOptions]] = {}
        self._wakes = float("inf")
        self._thread: threading.Thread | None = None

    def begin(self, options: ort.RunOptions, deadline: float) -> None:
        """Watch over a run until `end`.

        Parameters
        ----------
        options : RunOptions
            Of this run alone: once it was ended they cannot be used again.
        deadline : float
            On the monotonic clock.
        """
        with self._changed:
            self._watched[id(options)] = deadline, options
            if deadline < self._wakes:  # otherwise it wakes early enough, and looks again
                self._start()
                self._changed.notify()

    def end(self, options: ort.RunOptions) -> None:
        """The run is over."""
        with self._changed:
            del self._watched[id(options)]

    def overdue(self) -> float:
        """Seconds by which the run that is latest is beyond its deadline; 0 if none is."""
        with self._changed:
            earliest = min((deadline for deadline, _ in self._watched.values()), default=float("inf"))
        return max(0.0, time.monotonic() - earliest)

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():  # a forked process has none
            self._thread = threading.Thread(target=self._watch, name="deadlines", daemon=True)
            self._thread.start()

    def _watch(self) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                for deadline, options in self._watched.values():
                    options.terminate = options.terminate or deadline <= now
                self._wakes = min((d for d, _ in self._watched.values() if d > now), default=float("inf"))
                self._changed.wait(None if self._wakes == float("inf") else self._wakes - now)


WATCHDOG = Watchdog()

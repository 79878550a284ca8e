"""Both ends of a child process under limits: graphs that may hang, crash or fill the memory are loaded and run in it.

One request per line on the child's standard input, one answer per line on its standard output, both JSON. The child
ends with its parent, however that ends. Its standard error is discarded.
"""

import ctypes
import json
import math
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any, Final

from service.errors import ServiceError

PACKAGE: Final = Path(__file__).parent.parent.parent
GIBIBYTE: Final = 1 << 30
START_SECONDS: Final = 60.0
"""In which the child must be ready: what it imports is ours."""
LONGEST_ANSWER: Final = 1 << 16
LONGEST_ERROR: Final = 8000
"""Characters of an error; each may take six bytes of the answer."""
OUT_OF_MEMORY: Final = "memory"
"""The error of a request that needs more memory than it may."""
PR_SET_PDEATHSIG: Final = 1

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may take.

    Attributes
    ----------
    seconds : float
        Until it is answered.
    memory : int
        Bytes beyond what the child has before.
    """

    seconds: float
    memory: int


class Ended(Exception):
    """The child ended before it answered.

    Attributes
    ----------
    late : bool
        Whether it was stopped because the time of the request was over.
    cause : str
        How it ended, in words.
    """

    def __init__(self, *, late: bool, cause: str) -> None:
        super().__init__(cause)
        self.late = late
        self.cause = cause


class LimitedProcess:
    """A running child; made by `limited_process`.

    Attributes
    ----------
    is_usable : bool
        False once it has ended, or has run out of memory, after which ONNX Runtime may be in any state.
    """

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self.is_usable = True

    def answer(self, request: Message, limits: Limits) -> Message:
        """What the child answers; ``{"error": …}`` where it raised an error of the service, or `OUT_OF_MEMORY`.

        Raises
        ------
        Ended
            If it answers nothing any more. Every later request raises this too.
        """
        line, late = self._exchange(json.dumps({**request, "limits": [limits.seconds, limits.memory]}), limits.seconds)
        if not line.endswith(b"\n"):
            self.is_usable = False
            code = self._wait()
            raise Ended(late=late or code == -signal.SIGXCPU, cause=_cause(code))
        answer: Message = json.loads(line)
        self.is_usable = answer.get("error") != OUT_OF_MEMORY
        return answer

    def wait_until_ready(self) -> None:
        """Let the child import what it needs, which takes no time of a request."""
        self._exchange("", START_SECONDS)

    def kill(self) -> None:
        """End the child now, from any thread."""
        self._process.kill()

    def _exchange(self, line: str, seconds: float) -> tuple[bytes, bool]:
        assert self._process.stdin is not None  # noqa: S101  # both are pipes, which only mypy does not know
        assert self._process.stdout is not None  # noqa: S101
        patience = Timer(seconds, self._process.kill)
        patience.daemon = True
        patience.start()
        try:
            self._process.stdin.write(f"{line}\n".encode())
            return self._process.stdout.readline(LONGEST_ANSWER), not patience.is_alive()
        except BrokenPipeError:
            return b"", not patience.is_alive()
        finally:
            patience.cancel()

    def _wait(self) -> int:
        self._process.kill()  # its output has ended, so that it ends now or does nothing of use
        return self._process.wait()


@contextmanager
def limited_process(module: str) -> Iterator[LimitedProcess]:
    """A child that runs one of our modules, whose `main` is `answer_requests`; killed when the context ends.

    Parameters
    ----------
    module : str

    Raises
    ------
    OSError
        If no process can be started.
    """
    path = os.pathsep.join([str(PACKAGE), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, **_ONE_THREAD}
    command = [sys.executable, "-P", "-m", module]
    pipe, discard = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(  # noqa: S603  # our own module
        command, bufsize=0, env=environment, stdin=pipe, stdout=pipe, stderr=discard
    ) as process:
        try:
            child = LimitedProcess(process)
            child.wait_until_ready()
            yield child
        finally:
            process.kill()


def is_out_of_memory(text: str) -> bool:
    """Whether an error of ONNX Runtime says that there was not enough memory."""
    return any(sign in text for sign in _SIGNS_OF_NO_MEMORY)


def answer_requests(answer: Callable[[Message], Message]) -> None:
    """Answer one request after another, each under its limits, until the parent closes the input or ends.

    Parameters
    ----------
    answer : callable
        What it raises beyond errors of the service and want of memory ends the process.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # also in the midst of a load that never ends
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    output = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever libraries print is no answer
    for line in sys.stdin.buffer:
        reply = _answer(json.loads(line), answer) if line.strip() else {}
        os.write(output, f"{json.dumps(reply)}\n".encode())


def _answer(request: Message, answer: Callable[[Message], Message]) -> Message:
    try:
        _limit(Limits(*request.pop("limits")))
        return answer(request)
    except ServiceError as error:
        text = str(error)
        return {"error": OUT_OF_MEMORY if is_out_of_memory(text) else text[:LONGEST_ERROR]}
    except MemoryError:
        return {"error": OUT_OF_MEMORY}


def _limit(limits: Limits) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu = math.ceil(used.ru_utime + used.ru_stime + limits.seconds) + 1  # the parent is first, where there is one
    _limit_softly(resource.RLIMIT_AS, pages * resource.getpagesize() + limits.memory)
    _limit_softly(resource.RLIMIT_CPU, cpu)


def _limit_softly(kind: int, value: int) -> None:
    # The next request may have a higher limit, which only the soft one lets it have.
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _cause(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


_SIGNS_OF_NO_MEMORY: Final = ("Failed to allocate memory", "bad_alloc")
_ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
"""Variables of the child: threads would reserve address space, of which it has little."""

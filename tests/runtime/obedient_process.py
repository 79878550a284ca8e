"""A limited process that does to itself what a request names: what a bad graph might do to it."""

import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from typing import Final

from service.errors import GraphError
from service.runtime.limited_process import Message, answer_requests


def _say_limits(request: Message) -> Message:
    del request
    kinds = {"cpu": resource.RLIMIT_CPU, "core": resource.RLIMIT_CORE}
    return {"pid": os.getpid()} | {name: resource.getrlimit(kind)[0] for name, kind in kinds.items()}


def _fill_memory(request: Message) -> Message:
    return {"filled": len(bytearray(request["bytes"]))}


def _die(request: Message) -> Message:
    os.kill(os.getpid(), request["signal"])
    return {}


def _exit(request: Message) -> Message:
    sys.exit(request["code"])


def _never_end(request: Message) -> Message:
    if request["busy"]:
        while True:
            pass
    signal.pause()
    return {}


def _fail(request: Message) -> Message:
    raise GraphError(request["text"])


def _print(request: Message) -> Message:
    print(request["text"], flush=True)  # noqa: T201  # as a library might
    os.write(1, b"{}\n")
    return {"at": time.time()}


ACTS: Final[dict[str, Callable[[Message], Message]]] = {
    "say limits": _say_limits,
    "fill memory": _fill_memory,
    "die": _die,
    "exit": _exit,
    "never end": _never_end,
    "fail": _fail,
    "print": _print,
}

if __name__ == "__main__":
    answer_requests(lambda request: ACTS[request["act"]](request))

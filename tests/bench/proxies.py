"""Processor time that HAProxy takes for a request, as a proxy of requests and of connections, with kept and new ones.

Run as ``python -m tests.bench.proxies``; it needs HAProxy and wrk (``apt-get install haproxy wrk``). Another HAProxy
with finished answers stands behind it. Requests and answers are as long as those of the shipped model. Processor time
is counted, and not requests per second: client, proxy and server share this machine.
"""

import shutil
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import median
from typing import Final

from service.api.bench import Address
from service.api.cost_measurement import processor_seconds
from tests.bench.servers import Server, running
from tests.bench.table import show_rows
from tests.bench.wrk import JSON, Request, measure, required

BODY: Final = b"1.25," * 50
ANSWER_BYTES: Final = 1180
CONNECTIONS: Final = 32
MODES: Final = {"http": "requests (layer 7)", "tcp": "connections (layer 4)"}
KINDS: Final[dict[str, dict[str, str]]] = {"kept connections": {}, "a new connection each": {"connection": "close"}}
ROUNDS: Final = 3
SECONDS: Final = 2
COMMON: Final = """
global
    nbthread 1
defaults
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    mode {mode}
frontend front
    bind "127.0.0.1:$LISTENS_AT"
"""
ANSWERS: Final = "    http-request return status 200 content-type application/json file {answer}\n"
PASSES: Final = "    default_backend back\nbackend back\n    server one 127.0.0.1:{behind}\n"


def haproxy(place: Path, text: str, **values: object) -> AbstractContextManager[Server]:
    """HAProxy with a configuration, on one thread."""
    place.write_text((COMMON + text).format(**values), encoding="utf-8")
    start = f"LISTENS_AT=PORT exec haproxy -db -f {place}"
    return running("sh", "-c", start, ready="/", environment={})


def seconds_of_a_request(server: Server, headers: dict[str, str]) -> float:
    """Processor time of one."""
    address = Address("127.0.0.1", server.port, server.pid)
    request, used = Request("/", BODY, JSON | headers), processor_seconds(address)
    load = measure(server.url, request, connections=CONNECTIONS, seconds=SECONDS)
    return (processor_seconds(address) - used) / (SECONDS * load.per_second)


def main() -> None:
    """Print the table."""
    required()
    if shutil.which("haproxy") is None:
        raise SystemExit("this benchmark needs HAProxy: apt-get install haproxy")
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "answer").write_bytes(b"1" * ANSWER_BYTES)
        with haproxy(folder / "answers.cfg", ANSWERS, mode="http", answer=folder / "answer") as behind:
            for mode, meaning in MODES.items():
                with haproxy(folder / f"{mode}.cfg", PASSES, mode=mode, behind=behind.port) as proxy:
                    for kind, headers in KINDS.items():
                        taken = median(seconds_of_a_request(proxy, headers) for _ in range(ROUNDS))
                        rows.append((meaning, kind, f"{1e6 * taken:.0f} us", f"{1.0 / taken:,.0f}"))
    columns = ("proxy of", "client", "processor time of a request", "requests/s of one processor")
    show_rows("HAProxy", columns, rows, caption=f"Medians of {ROUNDS} rounds of {SECONDS} s.")


if __name__ == "__main__":
    main()

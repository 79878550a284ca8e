"""A web server over a folder, with TLS: it knows ranges, and does wrong what a test lets it do."""

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

from tests.certificates import Pair

Answer = Callable[[BaseHTTPRequestHandler], None]
PIECE = 4096


@dataclass
class Files:
    """What a server gives out, and what it was asked for.

    `answers` take the place of files; `sent` counts bytes of bodies; the server waits in `hold` before each piece once
    `pause_after` bytes were sent; it ends the connection once `cut_after` more bytes of a file were.
    """

    root: Path
    address: str = ""
    ranges: bool = True
    cut_after: int | None = None
    pause_after: int | None = None
    sent: int = 0
    answers: dict[str, Answer] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)
    paused: threading.Event = field(default_factory=threading.Event)
    hold: threading.Event = field(default_factory=threading.Event)

    def paths(self) -> list[str]:
        """Of the requests so far, without the address' own folder."""
        return [path for path, _ in self.requests]


class QuietHandler(BaseHTTPRequestHandler):
    """One that prints nothing."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's name
        del format, args


def redirect(location: str) -> Answer:
    """Answers 302."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", location)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def body(content: bytes, *, status: int = 200, **headers: str) -> Answer:
    """Answers these bytes."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content_Length": str(len(content)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def endless(handler: BaseHTTPRequestHandler) -> None:
    """Answers zeros for as long as they are read, without a length."""
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(bytes(1 << 16))
    except OSError:
        return


@contextmanager
def file_server(root: Path, pair: Pair | None = None) -> Iterator[Files]:
    """Serve a folder under `/models` on a free port, with TLS where there is a certificate."""
    files = Files(root)

    class Handler(QuietHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.close_connection = True
            files.requests.append((self.path, self.headers.get("Range", "")))
            files.authorizations.append(self.headers.get("Authorization", ""))
            if answer := files.answers.get(self.path):
                answer(self)
                return
            path = files.root / unquote(self.path).removeprefix("/models/")
            if not path.is_file():
                self.send_error(404)
                return
            _send(self, files, path.read_bytes())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if pair is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    files.address = f"{'http' if pair is None else 'https'}://127.0.0.1:{server.server_port}/models"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield files
    finally:
        files.hold.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _send(handler: BaseHTTPRequestHandler, files: Files, content: bytes) -> None:
    start = handler.headers.get("Range", "").removeprefix("bytes=").partition("-")[0] if files.ranges else ""
    offset = int(start or 0)
    if offset and offset >= len(content):
        handler.send_response(416)
        handler.send_header("Content-Range", f"bytes */{len(content)}")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    handler.send_response(206 if offset else 200)
    if offset:
        handler.send_header("Content-Range", f"bytes {offset}-{len(content) - 1}/{len(content)}")
    handler.send_header("Content-Length", str(len(content) - offset))
    handler.end_headers()
    _send_pieces(handler, files, content[offset:])


def _send_pieces(handler: BaseHTTPRequestHandler, files: Files, content: bytes) -> None:
    for begin in range(0, len(content), PIECE):
        if files.cut_after is not None and begin >= files.cut_after:
            return
        if files.pause_after is not None and files.sent >= files.pause_after:
            files.paused.set()
            files.hold.wait(60)
            return
        piece = content[begin : begin + PIECE]
        try:
            handler.wfile.write(piece)
        except OSError:
            return
        files.sent += len(piece)


def wait_until(holds: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for what another process does."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)

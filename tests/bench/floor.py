"""The floor: uvicorn giving the same bytes to every request, whose body it reads."""

import os
from pathlib import Path
from typing import Final

from starlette.types import Receive, Scope, Send

ANSWER: Final = Path(os.environ["FLOOR_ANSWER"]).read_bytes()
HEADERS: Final = [(b"content-length", str(len(ANSWER)).encode()), (b"content-type", b"application/json")]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body", False):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": ANSWER})

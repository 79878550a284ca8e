"""Header fields of pages: what the documentation page may do in a browser."""

from base64 import b64encode
from hashlib import sha256

import httpx

from service.api.page_headers import page_headers


def policy(fields: dict[str, str]) -> dict[str, str]:
    return dict(part.split(" ", 1) for part in fields["Content-Security-Policy"].split("; "))


def test_scripts_that_stand_in_the_page_are_known_by_their_digests() -> None:
    page = b"<html><script src='a.js'></script><script>one()</script><script>\ntwo()\n</script></html>"
    digests = [b64encode(sha256(script).digest()).decode() for script in (b"one()", b"\ntwo()\n")]
    assert policy(page_headers(page))["script-src"] == f"'self' 'sha256-{digests[0]}' 'sha256-{digests[1]}'"
    assert policy(page_headers(b"<html></html>"))["script-src"] == "'self'"


def test_a_page_loads_and_sends_nothing_but_to_this_service_and_stands_in_no_frame() -> None:
    found = policy(page_headers(b""))
    assert (found["default-src"], found["connect-src"], found["frame-ancestors"]) == ("'none'", "'self'", "'none'")
    assert not [value for name, value in found.items() if name != "style-src" and "unsafe" in value]


async def test_the_documentation_page_has_them(client: httpx.AsyncClient) -> None:
    answer = await client.get("/docs")
    assert (
        page_headers(answer.content).items() <= {name.title(): value for name, value in answer.headers.items()}.items()
    )

"""HTTP of pulls: TLS stays TLS, credentials stay at their server, and each error is one line without them."""

import base64
import re
from pathlib import Path

import httpx
import pytest

from service.pull.pull_errors import PullFailed, SourceInterrupted, SourceMissing
from service.pull.web_client import WebClient, below_user, is_loopback, titled
from tests.pull.file_server import Files, body, file_server, redirect
from tests.shipped_model import NAME, SHIPPED

FILE = f"{NAME}/aliases.toml"


def read(address: str, *, netrc: bool = False, offset: int = 0) -> bytes:
    client = WebClient(netrc=netrc)
    try:
        with client.read(httpx.URL(address), offset) as content:
            return b"".join(content.chunks)
    finally:
        client.close()


def test_redirects_are_followed_within_tls(web: Files):
    web.answers["/a"] = redirect("/b")
    web.answers["/b"] = redirect(f"{web.address}/{FILE}")
    assert read(web.address.replace("/models", "/a")) == (SHIPPED / FILE).read_bytes()


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:9/x",
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "//[bad",
        "gopher://127.0.0.1/x",
        "https://",
        "https://xn--/x",
        "https://a..b/x",
    ],
)
def test_a_redirect_out_of_tls_or_to_what_is_no_url_is_refused(web: Files, location: str):
    web.answers["/a"] = redirect(location)
    with pytest.raises(PullFailed) as caught:
        read(web.address.replace("/models", "/a"))
    assert len(str(caught.value).splitlines()) == 1


def test_redirects_in_a_circle_end(web: Files):
    web.answers["/a"] = redirect("/a")
    with pytest.raises(PullFailed, match="more than 5 redirects"):
        read(web.address.replace("/models", "/a"))
    assert len(web.requests) == 6


def test_a_credential_goes_to_its_server_and_not_where_that_one_redirects(web: Files, tmp_path: Path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login puller password hidden\n")
    web.answers["/a"] = redirect(f"{web.address.replace('127.0.0.1', 'localhost')}/{FILE}")
    with pytest.raises(PullFailed, match="certificate is not accepted") as caught:  # it is of 127.0.0.1 alone
        read(web.address.replace("/models", "/a"), netrc=True)
    assert web.authorizations == [f"Basic {base64.b64encode(b'puller:hidden').decode()}"]
    assert "hidden" not in str(caught.value)


def test_an_authorization_header_is_dropped_at_another_origin():
    with file_server(SHIPPED) as first, file_server(SHIPPED) as second:
        first.answers["/a"] = redirect(f"{second.address}/{FILE}")
        client = WebClient()
        url = httpx.URL(first.address.replace("/models", "/a"))
        with client.get(url, {"Authorization": "Bearer hidden"}) as response:
            assert response.status_code == 200
        client.close()
    assert (first.authorizations, second.authorizations) == (["Bearer hidden"], [""])


def test_a_certificate_of_an_unknown_authority_is_refused(web: Files, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(PullFailed, match="certificate is not accepted; SSL_CERT_FILE") as caught:
        read(f"{web.address}/{FILE}")
    assert not isinstance(caught.value, SourceInterrupted)


def test_a_server_that_is_not_there_is_an_interruption(tmp_path: Path):
    with file_server(tmp_path) as files:
        address = files.address
    with pytest.raises(SourceInterrupted, match="it cannot be reached"):
        read(f"{address}/x")


@pytest.mark.parametrize(
    ("status", "error"),
    [(404, SourceMissing), (410, SourceMissing), (401, PullFailed), (403, PullFailed), (500, SourceInterrupted),
     (503, SourceInterrupted), (429, SourceInterrupted), (418, PullFailed), (304, PullFailed), (206, PullFailed)],
)  # fmt: skip
def test_statuses_are_errors_of_their_kind(web: Files, status: int, error: type[PullFailed]):
    web.answers["/a"] = body(b"", status=status)
    with pytest.raises(error) as caught:
        read(web.address.replace("/models", "/a"))
    assert type(caught.value) is error


def test_a_part_from_another_byte_than_requested_is_refused(web: Files):
    web.answers["/a"] = body(b"abc", status=206, Content_Range="bytes 0-2/3")
    with pytest.raises(PullFailed, match="another part of the file"):
        read(web.address.replace("/models", "/a"), offset=1)


def test_a_compressed_answer_is_refused_before_it_is_unpacked(web: Files):
    web.answers["/a"] = body(b"\x1f\x8b" + bytes(100), Content_Encoding="gzip")
    with pytest.raises(PullFailed, match="compresses files"):
        read(web.address.replace("/models", "/a"))


def test_plain_http_is_for_this_machine_alone_unless_it_is_allowed():
    with pytest.raises(PullFailed, match=re.escape("http://models.example/x: only https is followed; --plain-http")):
        read("http://models.example/x")


def test_titles_hold_no_credential():
    assert titled(httpx.URL("https://user:hidden@host:8443/a/b?sig=hidden#hidden")) == "https://host:8443/a/b"


def test_titles_keep_what_a_path_must_not_hold_as_it_was_written(web: Files):
    web.answers["/a"] = redirect("/b%0Ac%3Fd")
    web.answers["/b%0Ac%3Fd"] = redirect("ftp://host/x")
    with pytest.raises(PullFailed, match="/b%0Ac%3Fd: the server redirects"):
        read(web.address.replace("/models", "/a"))


@pytest.mark.parametrize("text", ["machine host login puller\nhidden password", "\udcff"])
def test_a_file_of_netrc_that_is_none_is_named_without_its_words(tmp_path: Path, text: str):
    (tmp_path / "netrc").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(PullFailed, match=r"netrc is no file of netrc") as caught:
        WebClient(netrc=True)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("SSL_CERT_FILE", "/no/such/file", "SSL_CERT_FILE or SSL_CERT_DIR cannot be read: No such file"),
        ("HTTPS_PROXY", "gopher://user:hidden@host", "no usable URL"),
    ],
)
def test_an_environment_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, reason: str
):
    monkeypatch.setenv(name, value)
    with pytest.raises(PullFailed, match=reason) as caught:
        WebClient()
    assert "hidden" not in str(caught.value)


def test_a_user_without_a_folder_has_no_credentials():
    assert below_user("~no-such-user-of-tests/.netrc") == Path("~no-such-user-of-tests/.netrc")


@pytest.mark.parametrize(
    ("host", "expected"),
    [("localhost", True), ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("[::1]", True), ("10.0.0.1", False),
     ("localhost.example", False), ("0.0.0.0", False), ("models.example", False)],  # noqa: S104  # an address to read
)  # fmt: skip
def test_loopback_is_known_by_name_and_address(host: str, expected: bool):  # noqa: FBT001  # a parameter of a test
    assert is_loopback(host) is expected

"""A file that is cut, changed or slow on its way: it is continued, and finished only with the right sum."""

import hashlib
from pathlib import Path

import pytest

from service.pull.fetching import TRIES, Budget, Fetch
from service.pull.pull_errors import PullFailed, SourceInterrupted
from service.pull.web_source import WebSource
from tests.pull.file_server import Files, body, endless
from tests.shipped_model import NAME, SHIPPED

FILE = f"{NAME}/1/state.npz"
CONTENT = (SHIPPED / FILE).read_bytes()
SUM = hashlib.sha256(CONTENT).hexdigest()


def fetched(web: Files, tmp_path: Path, *, file: str = FILE, limit: int = 1 << 30) -> tuple[bytes, int, list[float]]:
    """Content of the file, the bytes that a progress bar has seen, and the pauses between tries."""
    seen, pauses = [0], list[float]()

    def advance(count: int) -> None:
        seen[0] += count

    source = WebSource(web.address)
    try:
        Fetch(source, Budget(limit), advance, pauses.append).file(file, SUM, tmp_path / "part", tmp_path / "whole")
    finally:
        source.close()
    return (tmp_path / "whole").read_bytes(), seen[0], pauses


def test_a_download_that_is_cut_again_and_again_continues_where_it_ended(web: Files, tmp_path: Path):
    web.cut_after = 20_000
    content, seen, pauses = fetched(web, tmp_path)
    assert content == CONTENT
    assert seen == len(CONTENT)
    begins = [int(part.removeprefix("bytes=").removesuffix("-") or 0) for _, part in web.requests]
    assert len(begins) == 4
    assert begins == sorted(begins)
    assert begins[1] >= 20_000
    assert len(pauses) == 3


def test_a_server_without_ranges_is_read_from_the_beginning_again(web: Files, tmp_path: Path):
    web.ranges = False
    (tmp_path / "part").write_bytes(CONTENT[:30_000])
    content, seen, _ = fetched(web, tmp_path)
    assert (content, seen) == (CONTENT, len(CONTENT))
    assert web.requests == [(f"/models/{FILE}", "bytes=30000-")]


@pytest.mark.parametrize("part", [b"x" * 1000, b"x" * len(CONTENT), CONTENT + b"more"])
def test_a_part_of_other_bytes_is_dropped_and_the_file_fetched_whole(web: Files, tmp_path: Path, part: bytes):
    (tmp_path / "part").write_bytes(part)
    content, seen, _ = fetched(web, tmp_path)
    assert (content, seen) == (CONTENT, len(CONTENT))


def test_a_finished_file_is_not_requested_again(web: Files, tmp_path: Path):
    (tmp_path / "whole").write_bytes(CONTENT)
    assert fetched(web, tmp_path)[0] == CONTENT
    assert web.requests == []


def test_a_source_that_brings_no_byte_is_given_up_after_some_tries(web: Files, tmp_path: Path):
    web.answers[f"/models/{FILE}"] = body(b"", status=503)
    with pytest.raises(SourceInterrupted, match="HTTP 503"):
        fetched(web, tmp_path)
    assert len(web.requests) == TRIES


def test_a_download_that_never_ends_is_given_up_at_the_limit(web: Files, tmp_path: Path):
    web.answers[f"/models/{FILE}"] = endless
    with pytest.raises(PullFailed, match="more bytes than --max-bytes"):
        fetched(web, tmp_path, limit=1 << 20)
    assert (tmp_path / "part").stat().st_size <= 1 << 20


def test_a_length_beyond_what_such_a_file_can_have_is_refused_before_a_byte_is_written(web: Files, tmp_path: Path):
    web.answers[f"/models/{NAME}/1/manifest.toml"] = body(b"", Content_Length=str(1 << 40))
    with pytest.raises(PullFailed, match="larger than such a file can be"):
        fetched(web, tmp_path, file=f"{NAME}/1/manifest.toml")
    assert (tmp_path / "part").stat().st_size == 0


def test_a_part_that_is_a_link_is_not_followed(web: Files, tmp_path: Path):
    (tmp_path / "victim").write_bytes(b"mine")
    (tmp_path / "part").symlink_to(tmp_path / "victim")
    with pytest.raises(Exception, match="part"):
        fetched(web, tmp_path)
    assert (tmp_path / "victim").read_bytes() == b"mine"

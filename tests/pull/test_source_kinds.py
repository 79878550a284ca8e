"""Promises that every kind of source keeps."""

import errno
import hashlib
import shutil
from pathlib import Path

import pytest

from service.bundle.repository import Repository
from service.bundle.writer import set_alias
from service.pull.fetching import Budget, Fetch
from service.pull.pull_errors import PullFailed, SourceMissing
from service.pull.pull_plan import Choice, PullRequest
from service.pull.pull_versions import PulledModel, pull
from service.pull.source import Source
from service.pull.source_kinds import SOURCES, open_source
from tests.damaged_versions import reseal
from tests.pull.places import PLACES, Place
from tests.pull.registry_server import files_of
from tests.shipped_model import NAME, SHIPPED

ONE = PullRequest((Choice(NAME),))


def pull_from(address: str, here: Repository, request: PullRequest) -> list[PulledModel]:
    with open_source(address) as source:
        return pull(source, here, request, pause=lambda _: None)


def ours(repository: Repository) -> dict[str, bytes]:
    return {path: content for path, content in files_of(repository.root).items() if "/.pulling-" not in path}


def tampered(tmp_path: Path, file: str, content: bytes) -> Path:
    root = shutil.copytree(SHIPPED, tmp_path / "tampered")
    (root / NAME / "1" / file).write_bytes(content)
    return root


def test_every_scheme_has_a_place_in_these_tests():
    assert set(SOURCES) - {"http"} == set(PLACES) - {"folder"}


def test_a_pull_brings_the_same_files_and_aliases_and_a_second_one_changes_nothing(place: Place, here: Repository):
    first = pull_from(place.address, here, ONE)
    second = pull_from(place.address, here, ONE)
    assert ours(here) == {path: content for path, content in files_of(SHIPPED).items() if not path.endswith(".md")}
    assert [(one.versions[0].state, one.aliases_set) for one in (*first, *second)] == [
        ("pulled", True),
        ("present", False),
    ]
    assert here.bundle(NAME, 1).digest == first[0].versions[0].digest


def test_a_source_that_can_list_brings_every_model_without_a_name_and_another_says_so(place: Place, here: Repository):
    if place.address.startswith("https"):
        with pytest.raises(PullFailed, match="does not list models; name them"):
            pull_from(place.address, here, PullRequest())
    else:
        assert [model.name for model in pull_from(place.address, here, PullRequest())] == [NAME]


@pytest.mark.parametrize("file", ["model.onnx", "manifest.toml", "state.npz"])
def test_a_file_that_does_not_match_its_sum_is_refused_and_nothing_is_published(
    place: Place, here: Repository, tmp_path: Path, file: str
):
    place.fill(tampered(tmp_path, file, b"other bytes"))
    with pytest.raises(PullFailed, match=f"{NAME}/1/{file} does not match its sum"):
        pull_from(place.address, here, ONE)
    assert here.versions(NAME) == []
    assert here.aliases(NAME) == {}


def test_a_version_whose_digest_is_not_expected_is_refused_before_anything_is_written(place: Place, here: Repository):
    with pytest.raises(PullFailed, match="which no --digest allows"):
        pull_from(place.address, here, PullRequest((Choice(NAME),), digests=frozenset({f"sha256:{'0' * 64}"})))
    assert not list(here.root.iterdir())


def test_a_number_that_belongs_to_other_files_here_is_refused_and_they_stay(place: Place, here: Repository):
    shutil.copytree(SHIPPED / NAME, here.root / NAME)
    manifest = here.root / NAME / "1" / "manifest.toml"
    manifest.write_text(manifest.read_text() + "\n# another\n")
    reseal(here.root / NAME / "1")
    before = files_of(here.root)
    with pytest.raises(PullFailed, match="a version never changes"):
        pull_from(place.address, here, ONE)
    assert files_of(here.root) == before


def test_a_part_that_an_interrupted_pull_left_is_continued(place: Place, here: Repository):
    digest = Repository(SHIPPED).bundle(NAME, 1).digest
    staging = here.root / NAME / f".pulling-1-{str(digest).removeprefix('sha256:')}"
    for folder in ("files", "parts"):
        (staging / folder).mkdir(parents=True)
    (staging / "parts" / "state.npz").write_bytes((SHIPPED / NAME / "1" / "state.npz").read_bytes()[:50_000])
    shutil.copyfile(SHIPPED / NAME / "1" / "model.onnx", staging / "files" / "model.onnx")
    with open_source(place.address) as source, source.read(f"{NAME}/1/state.npz", 50_000) as content:
        assert content.offset == 50_000
        count = sum(len(chunk) for chunk in content.chunks)
    assert count == (SHIPPED / NAME / "1" / "state.npz").stat().st_size - 50_000
    pull_from(place.address, here, ONE)
    assert here.bundle(NAME, 1).digest == digest
    assert not list((here.root / NAME).glob(".pulling-1*"))


def test_a_part_that_holds_every_byte_is_finished_without_another_one(place: Place, here: Repository, tmp_path: Path):
    content = (SHIPPED / NAME / "1" / "state.npz").read_bytes()
    (tmp_path / "part").write_bytes(content)
    with open_source(place.address) as source:
        budget = Budget(0)
        sum_of_it = hashlib.sha256(content).hexdigest()
        Fetch(source, budget).file(f"{NAME}/1/state.npz", sum_of_it, tmp_path / "part", here.root / "state.npz")
    assert (here.root / "state.npz").read_bytes() == content
    assert budget.left == 0


def test_a_part_with_bytes_too_many_is_fetched_anew(place: Place, here: Repository, tmp_path: Path):
    content = (SHIPPED / NAME / "1" / "state.npz").read_bytes()
    (tmp_path / "part").write_bytes(content + b"more")
    with open_source(place.address) as source:
        sum_of_it = hashlib.sha256(content).hexdigest()
        fetch = Fetch(source, Budget(3 * len(content)))
        fetch.file(f"{NAME}/1/state.npz", sum_of_it, tmp_path / "part", here.root / "state.npz")
    assert (here.root / "state.npz").read_bytes() == content


def test_a_full_disk_is_named_as_the_place_that_cannot_be_written(place: Place):
    """`/dev/full` stands for it."""
    with open_source(place.address) as source, pytest.raises(OSError, match="No space left") as caught:
        _write_to_a_full_disk(source)
    assert caught.value.errno == errno.ENOSPC


def _write_to_a_full_disk(source: Source) -> None:
    with source.read(f"{NAME}/1/state.npz") as content, Path("/dev/full").open("wb", buffering=0) as full:
        full.writelines(content.chunks)


def test_what_a_source_does_not_hold_is_missing(place: Place, here: Repository):
    with pytest.raises(SourceMissing, match="holds no version 7"):
        pull_from(place.address, here, PullRequest((Choice(NAME, 7),)))
    with pytest.raises(PullFailed, match="is missing or names no version"):
        pull_from(place.address, here, PullRequest((Choice("other"),)))
    assert not list(here.root.iterdir())


def test_aliases_of_a_source_that_have_moved_are_taken_over_only_on_request(
    place: Place, here: Repository, repository: Repository, publish_again
):
    publish_again()
    pull_from(place.address, here, ONE)
    set_alias(repository, NAME, "stable", 2)
    place.fill(repository.root)
    left = pull_from(place.address, here, ONE)
    assert (left[0].aliases, left[0].differ) == ({"stable": 1}, True)
    assert here.versions(NAME) == [1, 2]
    taken = pull_from(place.address, here, PullRequest((Choice(NAME),), aliases="set"))
    assert (taken[0].aliases, taken[0].differ) == ({"stable": 2}, False)
    assert here.aliases(NAME) == {"stable": 2}


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("ftp://host/models", "begins with one of https://"),
        ("file:///etc", "begins with one of https://"),
        ("https://user:hidden@host/models", "NETRC"),
        ("https://host/models?sig=hidden", "only a host and a path"),
        ("https:///models", "names no host"),
        ("https://xn--/models", "is no URL"),
        ("oci://host", "names no artifact"),
        ("oci://[::::1]/models:1", "names no artifact"),
        ("oci://xn--/models:1", "names no artifact"),
        ("oci://host/UPPER:1", "names no artifact"),
        ("oci://host/team/../../models:1", "names no artifact"),
        ("oci://user:hidden@host/models:1", "names no artifact"),
        ("oci://host/models@sha256:12", "names no artifact"),
        ("s3://", "names no bucket"),
        ("s3://UPPER/x", "names no bucket"),
        ("no-such-folder", "is no folder"),
    ],
)
def test_an_address_of_another_form_is_refused_without_repeating_credentials(address: str, reason: str):
    with pytest.raises(PullFailed, match=reason) as caught, open_source(address):
        raise AssertionError
    assert "hidden" not in str(caught.value)


def test_an_endpoint_of_buckets_that_is_no_url_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("obstore", reason="obstore is not installed")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:hidden@[::::1]")
    with (
        pytest.raises(PullFailed, match=r"endpoint of s3://, of AWS_.* is no URL") as caught,
        open_source("s3://models"),
    ):
        raise AssertionError
    assert "hidden" not in str(caught.value)

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from service.bundle.repository import Bundle, Repository
from service.bundle.sums import verify_retired
from service.bundle.writer import publish, remove_alias, retire, set_alias
from service.errors import BundleDamaged, BundleError, BundleNotFound, ManifestInvalid


@pytest.fixture
def three(repository: Repository, draft_of: Callable[..., Bundle]) -> Repository:
    """A model `copy` of three versions; 1 is stable, 3 is canary."""
    for _ in range(3):
        draft = draft_of()
        publish(repository, draft, record=draft.record, state=draft.state)
    set_alias(repository, "copy", "canary", 3)
    return repository


def files(repository: Repository, version: int) -> set[str]:
    return {path.name for path in (repository.root / "copy" / str(version)).iterdir()}


def test_a_retired_version_is_gone_from_lists_and_aliases_and_keeps_its_files(three: Repository) -> None:
    before = files(three, 3)
    assert retire(three, "copy", 3) == ["canary"]
    assert (three.versions("copy"), three.retired("copy"), three.aliases("copy")) == ([1, 2], [3], {"stable": 1})
    assert files(three, 3) == before
    assert verify_retired(three.root / "copy" / "3") is False
    for refused in (lambda: three.bundle("copy", 3), lambda: set_alias(three, "copy", "stable", 3)):
        with pytest.raises(BundleNotFound, match="version 3 of copy is retired"):
            refused()


def test_a_purge_leaves_manifest_record_and_sums(three: Repository) -> None:
    retire(three, "copy", 2, purge=True)
    assert files(three, 2) == {"manifest.toml", "calibration.json", "SHA256SUMS"}
    assert verify_retired(three.root / "copy" / "2") is True
    (three.root / "copy" / "2" / "manifest.toml").write_text("schema = 1")
    with pytest.raises(BundleDamaged, match=r"manifest\.toml does not match"):
        verify_retired(three.root / "copy" / "2")


def test_a_number_is_never_used_again_even_when_nothing_is_left_of_it(
    three: Repository, draft_of: Callable[..., Bundle]
) -> None:
    retire(three, "copy", 3, purge=True)
    for path in (three.root / "copy" / "3").iterdir():
        path.unlink()
    (three.root / "copy" / "3").rmdir()
    draft = draft_of()
    assert publish(three, draft, record=draft.record, state=draft.state) == 4


def test_a_retirement_is_repeated_without_harm_and_may_purge_later(three: Repository) -> None:
    retire(three, "copy", 3)
    assert retire(three, "copy", 3) == []
    assert retire(three, "copy", 3, purge=True) == []
    assert "model.onnx" not in files(three, 3)


def test_an_interrupted_retirement_goes_on_where_it_ended(three: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    replace, calls = Path.replace, []

    def failing(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == 2:
            raise OSError(28, os.strerror(28))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(BundleError, match="No space left on device; free some space there"):
        retire(three, "copy", 3, purge=True)
    assert three.aliases("copy") == {"stable": 1}
    assert three.versions("copy") == [1, 2, 3]
    monkeypatch.undo()
    retire(three, "copy", 3, purge=True)
    assert (three.versions("copy"), three.retired("copy")) == ([1, 2], [3])


def test_the_last_alias_may_go_and_no_publication_brings_it_back(
    three: Repository, draft_of: Callable[..., Bundle]
) -> None:
    assert remove_alias(three, "copy", "canary") == {"stable": 1}
    assert remove_alias(three, "copy", "stable") == {}
    assert three.has_no_alias_left("copy")
    draft = draft_of()
    publish(three, draft, record=draft.record, state=draft.state)
    assert three.aliases("copy") == {}
    set_alias(three, "copy", "stable", 2)
    assert (three.aliases("copy"), three.has_no_alias_left("copy")) == ({"stable": 2}, False)


def test_a_missing_version_is_refused(three: Repository) -> None:
    with pytest.raises(BundleNotFound, match="has no version 9"):
        retire(three, "copy", 9)
    with pytest.raises(BundleNotFound, match="no alias of that name"):
        remove_alias(three, "copy", "nightly")


@pytest.mark.parametrize("text", ["retired = 3", "retired = [0]", 'retired = ["3"]', "retired = [true]", "{"])
def test_a_list_of_retired_versions_that_cannot_be_read_stops_everything(three: Repository, text: str) -> None:
    (three.root / "copy" / "retired.toml").write_text(text)
    with pytest.raises(ManifestInvalid, match=r"retired\.toml"):
        three.versions("copy")

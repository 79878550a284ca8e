import contextlib
import dataclasses
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event

import pytest

from service.bundle.repository import Bundle, Repository
from service.bundle.writer import create_draft, draft_files, publish, retire, set_alias
from service.errors import BundleDamaged, BundleError, BundleNotFound, DraftExists, ManifestInvalid, ServiceError

NAME = "breast-cancer"
PUBLISHERS = 6


def publish_as_it_is(repository: Repository, draft: Bundle) -> int:
    return publish(repository, draft, record=draft.record, state=draft.state)


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_published_version_holds_the_draft_s_files_and_sums(
    repository: Repository, draft_of: Callable[..., Bundle], published: Bundle
) -> None:
    version = publish_as_it_is(repository, draft_of())
    bundle = repository.bundle("copy", version)
    assert entries(bundle.path) == entries(published.path)
    assert bundle.digest == published.digest
    assert bundle.manifest == published.manifest
    assert bundle.record == published.record


def test_the_draft_is_gone_once_the_version_is_there(repository: Repository, draft_of: Callable[..., Bundle]) -> None:
    publish_as_it_is(repository, draft_of())
    assert entries(repository.root / "copy") == ["1", "aliases.toml"]


def test_a_version_without_a_record_is_uncalibrated(repository: Repository, draft_of: Callable[..., Bundle]) -> None:
    version = publish(repository, draft_of(), record=None, state={})
    bundle = repository.bundle("copy", version)
    assert bundle.record is None
    assert entries(bundle.path) == ["SHA256SUMS", "manifest.toml", "model.onnx"]


def test_the_first_publication_is_stable_and_later_ones_do_not_move_it(
    repository: Repository, draft_of: Callable[..., Bundle]
) -> None:
    versions = [publish_as_it_is(repository, draft_of()) for _ in range(3)]
    assert versions == [1, 2, 3]
    assert repository.aliases("copy") == {"stable": 1}


def test_an_alias_that_people_named_is_not_joined_by_stable(
    repository: Repository, draft_of: Callable[..., Bundle]
) -> None:
    publish_as_it_is(repository, draft_of())
    (repository.root / "copy" / "aliases.toml").write_text("canary = 1\n")
    publish_as_it_is(repository, draft_of())
    assert repository.aliases("copy") == {"canary": 1}


def test_a_later_version_leaves_an_earlier_one_as_it_was(
    repository: Repository, draft_of: Callable[..., Bundle]
) -> None:
    publish_as_it_is(repository, draft_of())
    before = {
        file: (repository.root / "copy" / "1" / file).read_bytes() for file in entries(repository.root / "copy" / "1")
    }
    draft = draft_of()
    (draft.path / "manifest.toml").write_text((draft.path / "manifest.toml").read_text() + "\n# edited\n")
    publish_as_it_is(repository, draft)
    assert {file: (repository.root / "copy" / "1" / file).read_bytes() for file in before} == before


def test_a_number_is_never_used_twice(repository: Repository, draft_of: Callable[..., Bundle]) -> None:
    for _ in range(2):
        publish_as_it_is(repository, draft_of())
    set_alias(repository, "copy", "stable", 2)
    shutil.rmtree(repository.root / "copy" / "1")
    assert publish_as_it_is(repository, draft_of()) == 3


def spoil_with_a_symlink(repository: Repository, draft: Bundle) -> None:
    (draft.path / "weights.bin").symlink_to(repository.root)


def spoil_with_a_folder(repository: Repository, draft: Bundle) -> None:
    del repository
    (draft.path / "notes").mkdir()


def spoil_the_aliases(repository: Repository, draft: Bundle) -> None:
    (repository.folder(draft.name) / "aliases.toml").write_text("stable = 99\n")


def lose_the_draft(repository: Repository, draft: Bundle) -> None:
    del repository
    shutil.move(draft.path, draft.path.with_name("elsewhere"))


SPOILED = (spoil_with_a_symlink, spoil_with_a_folder, spoil_the_aliases, lose_the_draft)


@pytest.mark.parametrize("spoil", SPOILED)
def test_a_publication_that_fails_leaves_nothing_behind(
    spoil: Callable[[Repository, Bundle], None], repository: Repository, draft_of: Callable[..., Bundle]
) -> None:
    draft = draft_of()
    spoil(repository, draft)
    before = entries(repository.root / "copy")
    with pytest.raises((ServiceError, FileNotFoundError)):
        publish_as_it_is(repository, draft)
    assert entries(repository.root / "copy") == before


def test_concurrent_publishers_get_versions_of_their_own(
    repository: Repository, draft_of: Callable[..., Bundle]
) -> None:
    drafts = [draft_of(folder=f"draft-{i}") for i in range(PUBLISHERS)]
    start = Barrier(PUBLISHERS)

    def run(draft: Bundle) -> int:
        start.wait()
        return publish_as_it_is(repository, draft)

    with ThreadPoolExecutor(PUBLISHERS) as pool:
        versions = list(pool.map(run, drafts))
    assert sorted(versions) == list(range(1, PUBLISHERS + 1))
    assert repository.versions("copy") == sorted(versions)
    assert len({repository.bundle("copy", version).digest for version in versions}) == 1


def test_a_reader_never_sees_half_a_version(repository: Repository, draft_of: Callable[..., Bundle]) -> None:
    drafts = [draft_of(folder=f"draft-{i}") for i in range(PUBLISHERS)]
    done = Event()

    def read() -> int:
        seen = 0
        while not done.is_set() or seen == 0:
            seen = max([seen, *(repository.bundle("copy", v).version or 0 for v in repository.versions("copy"))])
        return seen

    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(read)
        with contextlib.ExitStack() as finally_:
            finally_.callback(done.set)
            for draft in drafts:
                publish_as_it_is(repository, draft)
        assert reader.result(timeout=30) >= 1


def test_publishers_of_one_draft_never_publish_half_of_it(
    repository: Repository, draft_of: Callable[..., Bundle], published: Bundle
) -> None:
    for _ in range(10):
        draft, start = draft_of(), Barrier(2)

        def run(draft: Bundle = draft, start: Barrier = start) -> None:
            start.wait()
            with contextlib.suppress(FileNotFoundError, BundleNotFound):
                publish_as_it_is(repository, draft)

        with ThreadPoolExecutor(2) as pool:
            for future in [pool.submit(run) for _ in range(2)]:
                future.result()
    versions = repository.versions("copy")
    assert len(versions) >= 10
    assert {repository.bundle("copy", version).digest for version in versions} == {published.digest}


def test_an_alias_deploys_and_rolls_back(repository: Repository, draft_of: Callable[..., Bundle]) -> None:
    for _ in range(2):
        publish_as_it_is(repository, draft_of())
    set_alias(repository, "copy", "stable", 2)
    assert repository.aliases("copy") == {"stable": 2}
    set_alias(repository, "copy", "canary", 2)
    set_alias(repository, "copy", "stable", 1)
    assert repository.aliases("copy") == {"canary": 2, "stable": 1}


def test_an_alias_never_names_a_version_that_does_not_exist(repository: Repository) -> None:
    before = (repository.root / NAME / "aliases.toml").read_bytes()
    with pytest.raises(BundleNotFound, match=r"has no version 2 \(published: 1\)"):
        set_alias(repository, NAME, "stable", 2)
    assert (repository.root / NAME / "aliases.toml").read_bytes() == before


@pytest.mark.parametrize("label", ["", "1", "42", "a b", "../x", "a/b", ".x", "a" * 65])
def test_an_alias_cannot_be_mistaken_for_a_version_or_a_path(label: str, repository: Repository) -> None:
    with pytest.raises(ManifestInvalid, match="an alias has at most 64 letters"):
        set_alias(repository, NAME, label, 1)


def test_an_alias_leaves_no_scratch_files(repository: Repository) -> None:
    before = entries(repository.root / NAME)
    assert {"1", "aliases.toml"} <= set(before)
    set_alias(repository, NAME, "canary", 1)
    assert entries(repository.root / NAME) == before


def test_a_draft_that_exists_is_not_overwritten(repository: Repository) -> None:
    target = create_draft(repository, "new", {"manifest.toml": "mine"})
    with pytest.raises(DraftExists, match="may hold edits"):
        create_draft(repository, "new", {"manifest.toml": "theirs"})
    assert (target / "manifest.toml").read_text() == "mine"


def test_force_replaces_the_whole_draft(repository: Repository) -> None:
    create_draft(repository, "new", {"manifest.toml": "old", "notes": "old"})
    target = create_draft(repository, "new", {"manifest.toml": "new"}, force=True)
    assert entries(target) == ["manifest.toml"]
    assert entries(target.parent) == ["draft"]


def test_a_draft_that_cannot_be_laid_out_leaves_the_old_one(repository: Repository, tmp_path: Path) -> None:
    target = create_draft(repository, "new", {"manifest.toml": "old"})
    with pytest.raises(FileNotFoundError):
        create_draft(repository, "new", {"model.onnx": tmp_path / "nowhere"}, force=True)
    assert entries(target.parent) == ["draft"]
    assert (target / "manifest.toml").read_text() == "old"


def test_a_draft_of_a_version_is_everything_but_its_sums(published: Bundle) -> None:
    assert list(draft_files(published)) == ["calibration.json", "manifest.toml", "model.onnx", "state.npz"]


def test_a_draft_round_trip_publishes_the_same_digest(repository: Repository, published: Bundle) -> None:
    create_draft(repository, NAME, draft_files(published))
    version = publish_as_it_is(repository, repository.draft(NAME))
    assert repository.bundle(NAME, version).digest == published.digest


def test_a_version_s_pickled_state_is_refused_and_never_unpickled(
    repository: Repository, draft_of: Callable[..., Bundle], pickled_archive: bytes, marker: Path
) -> None:
    draft = draft_of()
    (draft.path / "state.npz").write_bytes(pickled_archive)
    with pytest.raises(BundleDamaged, match=r"state\.npz is not an archive of plain arrays"):
        repository.draft("copy")
    assert not marker.exists()


def test_a_place_that_cannot_take_a_version_is_an_error_not_a_loop(
    repository: Repository, draft_of: Callable[..., Bundle]
) -> None:
    draft = draft_of()
    (repository.root / "copy" / "1").touch()  # a file where the next version belongs
    with pytest.raises(BundleError, match="could not publish copy"):
        publish_as_it_is(repository, dataclasses.replace(draft))
    assert entries(repository.root / "copy") == ["1", "draft"]


class Failing:
    """Stands in for a call of the operating system that fails for some paths or descriptors, from its nth use on."""

    def __init__(self, real: Callable[..., object], code: int, fails: Callable[[object], bool], first: int = 1) -> None:
        self.real, self.code, self.fails, self.first = real, code, fails, first
        self.failures = 0

    def __call__(self, subject: object, *rest: object, **keywords: object) -> object:
        if self.fails(subject):
            self.first -= 1
            if self.first <= 0:
                self.failures += 1
                raise OSError(self.code, os.strerror(self.code), subject if isinstance(subject, Path) else None)
        return self.real(subject, *rest, **keywords)


def fail(monkeypatch: pytest.MonkeyPatch, place: object, name: str, code: int, **chosen: object) -> Failing:
    failing = Failing(getattr(place, name), code, **{"fails": lambda _: True, **chosen})  # type: ignore[arg-type]
    monkeypatch.setattr(place, name, lambda *a, **k: failing(*a, **k))  # noqa: PLW0108  # a function is bound as a method
    return failing


def is_folder(subject: object) -> bool:
    return stat.S_ISDIR(os.fstat(subject).st_mode if isinstance(subject, int) else Path(str(subject)).stat().st_mode)


def is_file(subject: object) -> bool:
    return not is_folder(subject)


def everything(root: Path) -> dict[str, bytes | None]:
    found = ((str(path.relative_to(root)), path) for path in sorted(root.rglob("*")))
    return {name: path.read_bytes() if path.is_file() else None for name, path in found}


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.ENOSYS])
def test_a_file_system_without_fsync_of_folders_takes_versions_and_aliases(
    code: int, repository: Repository, draft_of: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = fail(monkeypatch, os, "fsync", code, fails=is_folder)
    version = publish_as_it_is(repository, draft_of())
    set_alias(repository, "copy", "canary", version)
    assert repository.aliases("copy") == {"canary": 1, "stable": 1}
    assert failing.failures > 0


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EIO, errno.ENOSPC])
def test_a_file_that_does_not_reach_the_disk_is_no_publication_and_nothing_is_left(
    code: int, repository: Repository, draft_of: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = draft_of()
    before = everything(repository.root)
    fail(monkeypatch, os, "fsync", code, fails=is_file)
    with pytest.raises(BundleError, match=os.strerror(code)):
        publish_as_it_is(repository, draft)
    assert everything(repository.root) == before


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_folder_that_does_not_reach_the_disk_is_no_success(
    code: int, repository: Repository, draft_of: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(monkeypatch, os, "fsync", code, fails=is_folder)
    with pytest.raises(BundleError, match=os.strerror(code)):
        publish_as_it_is(repository, draft_of())


@pytest.mark.parametrize("code", [errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EMFILE])
def test_a_file_system_that_cannot_rename_folders_is_named_at_the_first_attempt(
    code: int, repository: Repository, draft_of: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = draft_of()
    before = everything(repository.root)
    failing = fail(monkeypatch, Path, "replace", code, fails=is_folder)
    with pytest.raises(BundleError, match="models/copy: its file system cannot rename a file or folder"):
        publish_as_it_is(repository, draft)
    assert failing.failures == 1
    assert everything(repository.root) == before


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "models/copy.* cannot be written: No space left on device; free some space there"),
        (errno.EDQUOT, "models/copy.* cannot be written: Disk quota exceeded; free some space there"),
        (errno.EROFS, "models/copy.* cannot be written: Read-only file system; it is read-only; publish where"),
        (errno.EACCES, "models/copy.* cannot be written: Permission denied; run the command as a user"),
    ],
)
@pytest.mark.parametrize(
    ("place", "name", "first"),
    [
        (tempfile, "mkdtemp", 1),
        (shutil, "copyfile", 2),
        (Path, "write_text", 1),
        (Path, "write_bytes", 1),
        (os, "fsync", 2),
        (Path, "replace", 1),
        (tempfile, "mkstemp", 1),
        (Path, "replace", 2),
    ],
)
def test_a_disk_that_takes_no_more_is_one_line_with_what_to_do_and_the_repository_is_as_before(  # noqa: PLR0917
    place: object,
    name: str,
    first: int,
    code: int,
    advice: str,
    repository: Repository,
    draft_of: Callable[..., Bundle],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draft = draft_of()
    before = everything(repository.root)
    with monkeypatch.context() as patch:
        if name in {"mkdtemp", "mkstemp"}:

            def refuse(**_: object) -> None:
                raise OSError(code, os.strerror(code))

            patch.setattr(place, name, refuse)
        else:
            fail(patch, place, name, code, first=first)
        with pytest.raises(BundleError, match=advice) as caught:
            publish_as_it_is(repository, draft)
    assert "\n" not in str(caught.value)
    assert everything(repository.root) == before


@pytest.mark.parametrize(("place", "name"), [(os, "fsync"), (Path, "replace"), (Path, "chmod")])
def test_an_alias_that_cannot_be_written_is_one_line_and_the_old_one_stays(
    place: object, name: str, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything(repository.root)
    fail(monkeypatch, place, name, errno.ENOSPC)
    with pytest.raises(BundleError, match=r"aliases\.toml cannot be written: No space left on device; free some space"):
        set_alias(repository, NAME, "canary", 1)
    assert everything(repository.root) == before


def test_weights_that_cannot_be_deleted_are_one_line(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    fail(monkeypatch, Path, "unlink", errno.EROFS)
    with pytest.raises(BundleError, match=f"{NAME}/1 cannot be written: Read-only file system"):
        retire(repository, NAME, 1, purge=True)


@pytest.mark.parametrize("first", [1, 2])
def test_a_draft_that_cannot_take_an_old_one_s_place_leaves_the_old_one(
    first: int, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = create_draft(repository, "new", {"manifest.toml": "old"})
    with monkeypatch.context() as patch:
        fail(patch, Path, "replace", errno.ENOSPC, first=first)
        with pytest.raises(BundleError, match="No space left on device"):
            create_draft(repository, "new", {"manifest.toml": "new"}, force=True)
    assert everything(repository.root / "new") == {"draft": None, "draft/manifest.toml": b"old"}
    assert target.is_dir()


def test_the_first_publication_keeps_git_from_changing_line_endings(
    repository: Repository, draft_of: Callable[..., Bundle]
) -> None:
    (repository.root / ".gitattributes").unlink(missing_ok=True)
    publish_as_it_is(repository, draft_of())
    assert (repository.root / ".gitattributes").read_text() == "* -text\n"


def test_an_attribute_file_that_is_there_stays(repository: Repository, draft_of: Callable[..., Bundle]) -> None:
    (repository.root / ".gitattributes").write_text("*.onnx filter=lfs\n")
    publish_as_it_is(repository, draft_of())
    assert (repository.root / ".gitattributes").read_text() == "*.onnx filter=lfs\n"


def test_a_later_publication_does_not_bring_back_what_people_removed(
    repository: Repository, draft_of: Callable[..., Bundle]
) -> None:
    publish_as_it_is(repository, draft_of())
    (repository.root / ".gitattributes").unlink()
    publish_as_it_is(repository, draft_of())
    assert not (repository.root / ".gitattributes").exists()


def test_what_programs_leave_in_a_draft_is_not_published(
    repository: Repository, draft_of: Callable[..., Bundle], published: Bundle
) -> None:
    draft = draft_of()
    (draft.path / ".DS_Store").touch()
    (draft.path / "@eaDir").mkdir()
    version = publish_as_it_is(repository, draft)
    assert repository.bundle("copy", version).digest == published.digest

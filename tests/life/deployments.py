"""What is done to a repository while a service runs: new versions, aliases that move, damage of every kind."""

import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from tests.bench.servers import ROOT

NAME: Final = "breast-cancer"
SUMS: Final = "SHA256SUMS"
TITLE: Final = re.compile(r"^title = .*$", re.MULTILINE)
BRACKETS: Final = 100_000

Damage = Callable[[Path], None]
"""Damages the folder of a version."""


class Deployments:
    """Versions of the shipped model in a repository, and its one alias.

    Parameters
    ----------
    models : Path
        An empty folder.
    checkout : Path
        Whose code publishes.
    variants : int
        Versions that answer differently.

    Attributes
    ----------
    variants : dict of int to int
        Version -> the first version that answers as it does.
    """

    def __init__(self, models: Path, checkout: Path = ROOT, *, variants: int = 4) -> None:
        script = Path(__file__).with_name("versions.py")
        environment = {**os.environ, "PYTHONPATH": str(checkout)}
        command = [sys.executable, str(script), str(checkout), str(models), str(variants)]
        subprocess.run(command, env=environment, check=True)
        self._folder = models / NAME
        versions = sorted(int(entry.name) for entry in self._folder.iterdir() if entry.name.isdigit())
        self.first: Final = versions[-variants:]  # the first of them is `stable`
        self.variants = {version: version for version in self.first}

    def folder(self, version: int) -> Path:
        """Of a version."""
        return self._folder / str(version)

    def digest(self, version: int) -> str:
        """As answers name it, computed here from the file of sums."""
        return f"sha256:{hashlib.sha256((self.folder(version) / SUMS).read_bytes()).hexdigest()}"

    def publish(self, variant: int) -> int:
        """A new version with a digest of its own that answers as another one does."""
        version = max(self.variants) + 1
        self.variants[version] = variant
        self._stage(version, variant).rename(self._folder / str(version))
        return version

    def publish_damaged(self, variant: int, kind: str) -> int:
        """A new version that must not be served."""
        version = max(self.variants) + 1
        self.variants[version] = variant
        staged = self._stage(version, variant)
        DAMAGES[kind](staged)
        staged.rename(self._folder / str(version))
        return version

    def alias(self, version: int) -> None:
        """Let `stable` name a version."""
        self.write_aliases(f"stable = {version}\n")

    def write_aliases(self, text: str) -> None:
        """Replace the file of aliases, whatever it then says."""
        staged = self._folder / ".aliases-new"
        staged.write_text(text, "utf-8")
        staged.rename(self._folder / "aliases.toml")

    def _stage(self, version: int, variant: int) -> Path:
        staged = self._folder / f".deploying-{version}"
        shutil.copytree(self._folder / str(variant), staged)
        manifest = staged / "manifest.toml"
        manifest.write_text(TITLE.sub(f'title = "version {version}"', manifest.read_text("utf-8"), count=1), "utf-8")
        reseal(staged)
        return staged


def reseal(folder: Path) -> None:
    """Renew the sums of a version, as someone does who edits it."""
    lines = (folder / SUMS).read_text("utf-8").splitlines()
    names = [line.split("  ", 1)[1] for line in lines]
    sums = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (folder / SUMS).write_text("".join(sums), "utf-8")


def flipped_bit(folder: Path) -> None:
    """A bit of the graph is another one; the sums are as before."""
    content = bytearray((folder / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.onnx").write_bytes(content)


def cut_graph(folder: Path) -> None:
    """Half a graph, with its right sum."""
    content = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(content[: len(content) // 2])
    reseal(folder)


def deep_manifest(folder: Path) -> None:
    """A manifest of nothing but brackets, with its right sum."""
    (folder / "manifest.toml").write_text(f"schema = {'[' * BRACKETS}", "utf-8")
    reseal(folder)


def cut_record(folder: Path) -> None:
    """Half a record of the calibration, with its right sum."""
    text = (folder / "calibration.json").read_text("utf-8")
    (folder / "calibration.json").write_text(text[: len(text) // 2], "utf-8")
    reseal(folder)


def narrow_state(folder: Path) -> None:
    """Every array of the state lacks its last column, with its right sum."""
    with np.load(folder / "state.npz") as read:
        arrays = {name: read[name][..., :-1] if read[name].ndim else read[name] for name in read.files}
    written = io.BytesIO()
    np.savez(written, **arrays)
    (folder / "state.npz").write_bytes(written.getvalue())
    reseal(folder)


def missing_graph(folder: Path) -> None:
    """No graph."""
    (folder / "model.onnx").unlink()


def missing_sums(folder: Path) -> None:
    """No sums."""
    (folder / SUMS).unlink()


DAMAGES: Final[dict[str, Damage]] = {
    "a flipped bit": flipped_bit,
    "half a graph": cut_graph,
    "a deep manifest": deep_manifest,
    "half a record": cut_record,
    "narrow arrays": narrow_state,
    "no graph": missing_graph,
    "no sums": missing_sums,
}

ALIAS_TEXTS: Final = {
    "aliases that are no TOML": "stable = = 1\n",
    "deep aliases": f"stable = {'[' * BRACKETS}",
    "an alias of nothing": "stable = 999999\n",
}

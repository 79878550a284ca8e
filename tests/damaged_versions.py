"""Damages of a published version that its sums do not show: a person who edits it can renew them."""

import hashlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np


def reseal(version: Path) -> None:
    """Renew the sums of a version."""
    files = sorted(file for file in version.iterdir() if file.name != "SHA256SUMS")
    lines = (f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files)
    (version / "SHA256SUMS").write_text("".join(lines))


def narrow_means(version: Path) -> None:
    """Class means of fewer columns than the model has."""
    state = dict(np.load(version / "state.npz"))
    state["mahalanobis.means"] = state["mahalanobis.means"][:, :7]
    np.savez(version / "state.npz", **state)


def endless_header(version: Path) -> None:
    """An array of 2^40 numbers, by its header."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 40,)})
    with zipfile.ZipFile(version / "state.npz", "a") as archive:
        archive.writestr("extra.npy", header.getvalue())


def deep_manifest(version: Path) -> None:
    """100,000 brackets in the manifest."""
    manifest = version / "manifest.toml"
    manifest.write_text(f"deep = {'[' * 100_000}\n{manifest.read_text()}")


DAMAGES: Final[dict[str, Callable[[Path], None]]] = {
    "means of the wrong width": narrow_means,
    "a header of 2^40 numbers": endless_header,
    "100,000 brackets in the manifest": deep_manifest,
}

"""Published versions and drafts to break."""

import dataclasses
import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from service.bundle.repository import Bundle, Repository


class Bomb:
    """An object whose unpickling leaves a file behind."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.marker,)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file that exists once something was unpickled."""
    return tmp_path / "unpickled"


@pytest.fixture
def pickled_archive(marker: Path) -> bytes:
    """An .npz that runs code when its objects are unpickled."""
    buffer = io.BytesIO()
    np.savez(buffer, scores=np.array([Bomb(marker)], dtype=object))
    return buffer.getvalue()


@pytest.fixture
def published(repository: Repository) -> Bundle:
    """Version 1 of the shipped model, in a writable place."""
    return repository.bundle("breast-cancer", 1)


@pytest.fixture
def draft_of(repository: Repository, tmp_path: Path) -> Callable[..., Bundle]:
    """Makes a draft of a model in a folder of its own: the shipped version's files under another name."""

    def make(name: str = "copy", *, folder: str = "draft") -> Bundle:
        source = repository.bundle("breast-cancer", 1)
        (repository.root / name).mkdir(exist_ok=True)
        path = repository.root / name / "draft" if folder == "draft" else tmp_path / folder
        shutil.copytree(source.path, path, ignore=shutil.ignore_patterns("SHA256SUMS"))
        return dataclasses.replace(source, name=name, version=None, path=path, digest=None)

    return make

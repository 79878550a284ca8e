"""A repository in a folder, as a source: a mounted share, a volume, or what another command has copied.

Tested in `tests/pull/test_source_kinds.py`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from service.bundle.files import opened
from service.bundle.repository import Repository
from service.errors import BundleDamaged
from service.pull.pull_errors import PullFailed, SourceMissing
from service.pull.source import CHUNK, Content


class FolderSource:
    """A folder.

    Parameters
    ----------
    address : str
    plain_http : bool
        Of no meaning here.
    """

    def __init__(self, address: str, *, plain_http: bool = False) -> None:
        del plain_http
        self._root = Path(address)
        if not self._root.is_dir():
            raise PullFailed(
                f"{self._root} is no folder; a SOURCE is a folder, or begins with https://, oci:// or s3://"
            )

    @property
    def title(self) -> str:
        """As `Source.title`."""
        return str(self._root)

    def close(self) -> None:
        """As `Source.close`: it keeps none."""

    def names(self) -> list[str]:
        """As `Source.names`."""
        repository = Repository(self._root)
        return [name for name in repository.names() if repository.versions(name)]

    def sizes(self, folder: str) -> Mapping[str, int]:
        """As `Source.sizes`."""
        try:
            return {path.name: path.lstat().st_size for path in (self._root / folder).iterdir()}
        except OSError:
            return {}

    @contextmanager
    def read(self, path: str, offset: int = 0) -> Iterator[Content]:
        """As `Source.read`; a version's own files are never links."""
        file = self._root / path
        if not file.exists():
            raise SourceMissing(f"{file} is missing")
        try:
            with opened(file, follow=file.parent.parent == self._root) as reader:
                size = reader.seek(0, 2)
                reader.seek(min(offset, size))
                yield Content(reader.tell(), size, iter(partial(reader.read, CHUNK), b""))
        except BundleDamaged as error:
            raise PullFailed(str(error)) from None

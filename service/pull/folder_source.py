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
        follow = file.parent.parent == self._root
        with _translated(), opened(file, follow=follow) as reader:
            size = reader.seek(0, 2)
        begin = min(offset, size)
        yield Content(begin, size, _chunks(file, begin, follow=follow))


def _chunks(file: Path, begin: int, *, follow: bool) -> Iterator[bytes]:
    """By an iterator of its own, so that an error of what writes them is not taken for one of this file."""
    with _translated(), opened(file, follow=follow) as reader:
        reader.seek(begin)
        yield from iter(partial(reader.read, CHUNK), b"")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except BundleDamaged as error:
        raise PullFailed(str(error)) from None

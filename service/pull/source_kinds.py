"""The kinds of places that versions are pulled from, by how their addresses begin."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final

from service.pull.pull_errors import PullFailed
from service.pull.source import Source

FOLDER: Final = "service.pull.folder_source:FolderSource"


@contextmanager
def open_source(address: str, *, plain_http: bool = False) -> Iterator[Source]:
    """The source of an address, whose connections end with the context.

    Parameters
    ----------
    address : str
        A folder, or a URL of one of the kinds in `SOURCES`.
    plain_http : bool
        Whether connections to other machines may go without TLS.

    Raises
    ------
    PullFailed
        If there is no such kind, or the address is not of its form.
    """
    scheme, separator, _ = address.partition("://")
    if separator and scheme not in SOURCES:
        known = ", ".join(f"{name}://" for name in SOURCES)
        raise PullFailed(f"a SOURCE is a folder, or begins with one of {known}")
    module, _, name = (SOURCES[scheme] if separator else FOLDER).partition(":")
    kind: Any = getattr(import_module(module), name)
    source: Source = kind(address, plain_http=plain_http)
    try:
        yield source
    finally:
        source.close()


SOURCES: Final = {
    "https": "service.pull.web_source:WebSource",
    "http": "service.pull.web_source:WebSource",
    "oci": "service.pull.registry_source:RegistrySource",
    "s3": "service.pull.bucket_source:BucketSource",
}
"""Scheme -> what reads it, imported on use: not every installation has every library."""

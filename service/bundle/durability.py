"""What is written stays written, also after a power failure. Tested in tests/bundle/test_writer.py."""

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Let a file, or the entries of a folder, reach the disk.

    Raises
    ------
    OSError
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

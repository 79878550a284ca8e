"""`state.npz`: arrays by name, read without ever unpickling anything.

Tested in `tests/bundle/test_scores.py` and `tests/bundle/test_record.py`.
"""

import io
import zipfile
import zlib
from typing import IO

import numpy as np
import numpy.typing as npt
from numpy.lib.npyio import NpzFile

from service.errors import BundleDamaged

State = dict[str, npt.NDArray[np.generic]]

STATE_FILE = "state.npz"


def dump_state(state: State) -> bytes:
    """Bytes of `state.npz`, the same for the same arrays."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **state)
    return buffer.getvalue()


def load_state(data: bytes, *, where: str) -> State:
    """Arrays of `state.npz`; nothing in it is ever unpickled."""
    try:
        return read_archive(io.BytesIO(data))
    except ValueError as error:
        raise BundleDamaged(f"{where} is not an archive of plain arrays: {error}") from None


def read_archive(file: IO[bytes]) -> State:
    """Arrays of an .npz file by name; nothing in it is ever unpickled.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    try:
        with NpzFile(file, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(str(error)) from None
    for key, value in arrays.items():
        if not isinstance(value, np.ndarray):  # what is no .npy file inside comes back as bytes
            raise ValueError(f"{key!r} is no array")  # noqa: TRY004  # the file is at fault, not a caller
    return arrays

"""Arrays in the IDX format, as MNIST and the data sets of its kind come.

Tested in tests/training/test_idx_files.py.
"""

import gzip
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from service.training.example_sets import Examples
from service.training.failures import TrainingFailed

BYTES: Final = 0x08
"""Type code of unsigned bytes, the only one that images and labels use."""


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """The array of an IDX file of unsigned bytes, of as many axes as the file says.

    Parameters
    ----------
    path : Path
        Compressed with gzip where its name ends in `.gz`.

    Raises
    ------
    TrainingFailed
        If it is no such file, or is cut short.

    References
    ----------
    LeCun, Cortes & Burges, *The MNIST database of handwritten digits*: "the IDX file format".
    """
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if content[:3] != bytes((0, 0, BYTES)):
        raise TrainingFailed(f"{path.name} is no IDX file of unsigned bytes")
    start = 4 + 4 * content[3]
    shape = np.frombuffer(content[4:start], ">u4").astype(int)
    if len(content) - start != np.prod(shape):
        raise TrainingFailed(f"{path.name} does not hold as many bytes as its head says")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def labelled_images(folder: Path, part: str) -> Examples:
    """Images and labels of one part of a data set that is laid out as MNIST; pixels in [0, 1], shape (N, H, W).

    Parameters
    ----------
    folder : Path
        Of its files, compressed or not.
    part : str
        ``train`` or ``t10k``, as the files are called.

    Raises
    ------
    TrainingFailed
        If a file is missing, or is no such file.
    """
    images, labels = (_array(folder, f"{part}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1"))
    return Examples(images / np.float32(255), labels.astype(np.int64))


def _array(folder: Path, name: str) -> npt.NDArray[np.uint8]:
    if path := next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None):
        return read_idx(path)
    raise TrainingFailed(f"there is no {name} in {folder}, compressed or not")

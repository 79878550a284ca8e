import gzip

import numpy as np
import pytest

from service.training.failures import TrainingFailed
from service.training.idx_files import labelled_images, read_idx

IMAGES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4) * 10


def written(array):
    """An array of bytes as the format has it: two zeros, the type, the number of axes, their sizes, the bytes."""
    return bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


@pytest.mark.parametrize("name", ["images", "images.gz"])
def test_an_array_comes_back_as_it_was_written(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(written(IMAGES)) if path.suffix else written(IMAGES))
    np.testing.assert_array_equal(read_idx(path), IMAGES)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"PK\x03\x04", "no IDX file"),
        (b"", "no IDX file"),
        (written(IMAGES)[:-1], "as many bytes"),
        (written(IMAGES) + b"\0", "as many bytes"),
        (written(IMAGES).replace(b"\x08", b"\x0d", 1), "no IDX file"),  # floats
    ],
)
def test_another_file_or_half_of_one_is_refused(tmp_path, content, reason):
    (tmp_path / "images").write_bytes(content)
    with pytest.raises(TrainingFailed, match=reason):
        read_idx(tmp_path / "images")


@pytest.mark.parametrize("compressed", [False, True])
def test_images_have_pixels_from_zero_to_one_and_their_labels(tmp_path, compressed):
    labels = np.array([7, 1], dtype=np.uint8)
    for kind, array in {"images-idx3": IMAGES, "labels-idx1": labels}.items():
        content = gzip.compress(written(array)) if compressed else written(array)
        (tmp_path / f"t10k-{kind}-ubyte{'.gz' if compressed else ''}").write_bytes(content)
    rows = labelled_images(tmp_path, "t10k")
    assert rows.inputs.dtype == np.float32
    np.testing.assert_allclose(rows.inputs, IMAGES / 255, rtol=1e-6)
    assert rows.labels.tolist() == [7, 1]


def test_a_missing_part_is_named_with_its_folder(tmp_path):
    with pytest.raises(TrainingFailed, match="train-images-idx3-ubyte"):
        labelled_images(tmp_path, "train")

"""An import that does not answer what the toolchain answered is refused, by its worst row."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from service.errors import DataError, GraphError
from tests.graph.mutants import seeds
from tests.importer.test_analysis import Learn, learn
from tests.small_graphs import Build, graph, node, value, weights

__all__ = ["learn"]
W = np.random.default_rng(0).normal(size=(2, 3))
X = np.random.default_rng(1).normal(size=(50, 2))
THREE = graph(
    node("MatMul", "x w", "z"), node("Softmax", "z"), constants=(weights("w", W),), outputs=(value("s", [None, 3]),)
)


def softmax(z: Any) -> Any:
    powers = np.exp(z - z.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


@pytest.fixture
def reference(tmp_path: Path) -> Any:
    """Writes reference rows."""

    def write(**arrays: Any) -> Path:
        np.savez(tmp_path / "ref.npz", **arrays)
        return tmp_path / "ref.npz"

    return write


@pytest.mark.parametrize("name", ["X", "x"])
def test_the_toolchain_s_own_probabilities_agree(name: str, learn: Learn, reference: Any) -> None:
    _, concluded = learn(THREE, expect=reference(**{name: X, "probabilities": softmax(X @ W)}))
    assert concluded["expected"].value == "agrees"
    assert "50 reference rows are at most" in concluded["expected"].evidence


def test_the_worst_row_and_class_are_named(learn: Learn, reference: Any) -> None:
    expected = softmax(X @ W)
    expected[7] = expected[7, [1, 0, 2]]
    with pytest.raises(GraphError, match=r"1 of 50 rows .* the worst is row 7 .* off for class '[01]'; was it"):
        learn(THREE, expect=reference(X=X, probabilities=expected))
    _, concluded = learn(THREE, expect=reference(X=X, probabilities=expected), tolerance=1.0)
    assert concluded["expected"].value == "agrees"


def test_classes_in_the_reverse_order_are_recognised(learn: Learn, reference: Any) -> None:
    with pytest.raises(GraphError, match="in the reverse order they agree"):
        learn(THREE, expect=reference(X=X, probabilities=softmax(X @ W)[:, ::-1]))


def test_probabilities_taken_for_logits_are_recognised(learn: Learn, reference: Any) -> None:
    with pytest.raises(GraphError, match="give --output-kind probabilities"):
        learn(THREE, output_kind="logits", expect=reference(X=X, probabilities=softmax(X @ W)))


@pytest.mark.parametrize("shape", [(-1,), (-1, 1), (-1, 2)])
@pytest.mark.parametrize("activation", ["Sigmoid", "Identity"])
def test_one_column_is_the_second_class(activation: str, shape: tuple[int, ...], learn: Learn, reference: Any) -> None:
    build: Build = graph(
        node("MatMul", "x w", "z"),
        node(activation, "z"),
        constants=(weights("w", 9 * W[:, :1]),),
        outputs=(value("s", [None, 1]),),
    )
    second = 1 / (1 + np.exp(-X @ (9 * W[:, :1])))
    expected = np.concatenate([1 - second, second], axis=1) if shape == (-1, 2) else second.reshape(shape)
    _, concluded = learn(build, classes=("no", "yes"), expect=reference(X=X, probabilities=expected))
    assert concluded["expected"].value == "agrees"


def test_labels_and_fixed_batches_are_compared_too(learn: Learn, reference: Any) -> None:
    build = graph(
        node("MatMul", "x w", "z"),
        node("Sigmoid", "z"),
        constants=(weights("w", W),),
        inputs=(value("x", [4, 2]),),
        outputs=(value("s", [4, 3]),),
    )
    expected = 1 / (1 + np.exp(-X @ W))
    _, concluded = learn(build, expect=reference(x=X, probabilities=expected))
    assert (concluded["task"].value, concluded["expected"].value) == ("multilabel", "agrees")


def test_columns_of_text_are_read_by_name(learn: Learn, reference: Any) -> None:
    def build(path: Path) -> None:
        path.write_bytes(seeds()["mixed"].SerializeToString())

    age, sex = np.array([[40.0], [60.0]]), np.array([["f"], ["m"]])
    v = np.concatenate([(age - 50) * 0.1, sex == "f", sex == "m"], axis=1)
    expected = softmax(v @ (0.1 * np.arange(6).reshape(3, 2)))
    _, concluded = learn(build, expect=reference(age=age, sex=sex[:, 0], probabilities=expected))
    assert concluded["expected"].value == "agrees"


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"X": X}, "needs an array 'probabilities' of numbers, the toolchain's own .it holds X."),
        ({"X": X[:, :1], "probabilities": softmax(X @ W)}, r"'x' has shape \[50, 1\], \[rows, 2\] is needed"),
        ({"X": X[:, :, None], "probabilities": softmax(X @ W)}, r"'x' has shape \[50, 2, 1\], \[rows, 2\] is needed"),
        ({"X": X * 1e300, "probabilities": softmax(X @ W)}, "'x' holds numbers that FLOAT does not have"),
        ({"X": X * 1j, "probabilities": softmax(X @ W)}, "'x' must hold numbers"),
        ({"probabilities": softmax(X @ W)}, "lacks 'x'; it needs 'X'"),
        ({"X": X[:9], "probabilities": softmax(X @ W)}, "has 9 rows and 50 rows of 'probabilities'"),
        ({"X": X, "probabilities": softmax(X @ W)[:, :2]}, r"has shape \[50, 2\], \[50, 3\] is needed"),
        ({"X": X, "probabilities": softmax(X @ W) * np.nan}, "must be finite"),
        ({"X": X.astype(str), "probabilities": softmax(X @ W)}, "'x' must hold numbers"),
        ({"X": X[0, 0], "probabilities": softmax(X @ W)}, "'x' must hold numbers|have different"),
    ],
)
def test_a_reference_that_does_not_fit_says_why(
    arrays: dict[str, Any], reason: str, learn: Learn, reference: Any
) -> None:
    with pytest.raises(DataError, match=f"^--expect: .*{reason}"):
        learn(THREE, expect=reference(**arrays))


@pytest.mark.parametrize("codes", [[0.0, 4.5], [0.0, 2.0**63], [np.nan, 1.0]])
def test_fractions_are_no_whole_numbers(codes: list[float], learn: Learn, reference: Any) -> None:
    build = graph(
        node("Gather", "e x", "z", axis=0),
        node("Squeeze", "z one", "q"),
        node("Softmax", "q"),
        constants=(weights("e", W.T), onnx.numpy_helper.from_array(np.array([1]), "one")),
        inputs=(value("x", [None, 1], onnx.TensorProto.INT64),),
        outputs=(value("s", [None, 2]),),
    )
    with pytest.raises(DataError, match="'x' holds numbers that INT64 does not have, such as fractions"):
        learn(build, expect=reference(X=np.array(codes), probabilities=np.full((2, 2), 0.5)))
    with pytest.raises(GraphError, match=r"^--expect: the graph fails on the reference rows"):
        learn(build, expect=reference(X=np.array([0, 99]), probabilities=np.full((2, 2), 0.5)))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"a,b\n"])
def test_a_file_that_is_no_npz_says_so(content: bytes, learn: Learn, tmp_path: Path) -> None:
    path = tmp_path / "ref.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"is no \.npz file"):
        learn(THREE, expect=path)

import numpy as np
import numpy.typing as npt
import pytest

from service.bundle.sections import Graph
from service.core.numerics import Array, log_softmax
from service.errors import ManifestInvalid, ModelOutputInvalid
from service.runtime.logits import RANGE_TOLERANCE, SUM_TOLERANCE, to_features, to_logits

LOGITS = np.random.default_rng(0).normal(size=(20, 2)) * 3
PROBABILITIES = np.exp(log_softmax(LOGITS))


def graph(kind: str, k: int = 2, floor: float = 1e-7) -> Graph:
    classes = [f"class {i}" for i in range(k)]
    return Graph.model_validate({"output": "s", "output_kind": kind, "classes": classes, "probability_floor": floor})


def declared(kind: str, logits: Array) -> Array:
    """What a graph of some kind puts out for these logits."""
    return {"logits": logits, "log_probabilities": log_softmax(logits), "probabilities": np.exp(log_softmax(logits))}[
        kind
    ]


KINDS = ("logits", "log_probabilities", "probabilities")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [2, 3, 10])
def test_every_kind_gives_the_same_posterior(kind: str, k: int) -> None:
    logits = np.random.default_rng(k).normal(size=(30, k))
    posterior = log_softmax(to_logits(declared(kind, logits), graph(kind, k)))
    np.testing.assert_allclose(posterior, log_softmax(logits), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rank", [1, 2])
def test_one_column_speaks_of_the_second_class(kind: str, rank: int) -> None:
    column = declared(kind, LOGITS)[:, 1:] if kind != "logits" else LOGITS[:, 1:] - LOGITS[:, :1]
    result = to_logits(column[:, 0] if rank == 1 else column, graph(kind))
    np.testing.assert_allclose(log_softmax(result), log_softmax(LOGITS), rtol=0, atol=1e-9)


def test_a_single_logit_becomes_zero_and_itself() -> None:
    assert to_logits(np.array([[-3.5]]), graph("logits")).tolist() == [[0.0, -3.5]]


def test_logits_are_left_alone() -> None:
    np.testing.assert_array_equal(to_logits(LOGITS, graph("logits")), LOGITS)


@pytest.mark.parametrize("kind", ["probabilities", "log_probabilities"])
def test_exact_zeros_are_lifted_to_the_floor(kind: str) -> None:
    raw = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    with np.errstate(divide="ignore"):
        values = raw if kind == "probabilities" else np.maximum(np.log(raw), -1e4)
    result = np.exp(log_softmax(to_logits(values, graph(kind, floor=1e-4))))
    expected = np.maximum(raw, 1e-4) / np.maximum(raw, 1e-4).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(result, expected, rtol=1e-12)


def test_a_probability_a_rounding_error_outside_its_range_is_taken() -> None:
    slack = 0.5 * RANGE_TOLERANCE
    result = to_logits(np.array([[1.0 + slack, -slack]]), graph("probabilities"))
    assert np.isfinite(result).all()


def test_single_precision_output_becomes_double() -> None:
    assert to_logits(LOGITS.astype(np.float32), graph("logits")).dtype == np.float64


IMPROPER = {
    "a negative one": ("probabilities", [1.1, -0.1]),
    "a sum above one": ("probabilities", [0.6, 0.5]),
    "a sum below one": ("probabilities", [0.4, 0.5]),
    "logits": ("probabilities", [3.0, -2.0]),
    "one column above one": ("probabilities", [1.5]),
    "one column below zero": ("probabilities", [-0.5]),
    "logarithms that sum to two": ("log_probabilities", [0.0, 0.0]),
    "positive logarithms": ("log_probabilities", [800.0, 0.0]),
    "one positive logarithm": ("log_probabilities", [0.5]),
}


@pytest.mark.parametrize(("kind", "row"), IMPROPER.values(), ids=IMPROPER.keys())
def test_what_is_declared_as_probabilities_and_is_not_names_its_rows(kind: str, row: list[float]) -> None:
    good = declared(kind, LOGITS)[:3, -len(row) :]
    with pytest.raises(ModelOutputInvalid) as error:
        to_logits(np.vstack([good, [row], good, [row]]), graph(kind))
    assert [(f.path, f.code) for f in error.value.faults] == [
        (("instances", 3), "not-probabilities"),
        (("instances", 7), "not-probabilities"),
    ]


def test_sums_may_be_as_sloppy_as_half_precision() -> None:
    slack = 0.9 * SUM_TOLERANCE
    assert to_logits(np.array([[0.5, 0.5 + slack], [0.5, 0.5 - slack]]), graph("probabilities")).shape == (2, 2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_output_that_is_not_finite_names_its_rows(kind: str, value: float) -> None:
    raw = declared(kind, LOGITS).copy()
    raw[4, 1] = value
    with pytest.raises(ModelOutputInvalid, match="not a finite number") as error:
        to_logits(raw, graph(kind))
    assert [(f.path, f.code) for f in error.value.faults] == [(("instances", 4), "not-finite")]


SHAPES: dict[str, tuple[int, npt.NDArray[np.float64]]] = {
    "three columns for two classes": (2, np.zeros((5, 3))),
    "one column for three classes": (3, np.zeros((5, 1))),
    "rank 1 for three classes": (3, np.zeros(5)),
    "rank 3": (2, np.zeros((5, 1, 2))),
    "a scalar": (2, np.zeros(())),
}


@pytest.mark.parametrize(("k", "raw"), SHAPES.values(), ids=SHAPES.keys())
def test_an_output_of_another_shape_contradicts_the_manifest(k: int, raw: npt.NDArray[np.float64]) -> None:
    with pytest.raises(ManifestInvalid, match=rf"'s' has shape .*; {k} classes are declared"):
        to_logits(raw, graph("logits", k))


def test_features_that_are_not_finite_name_their_rows() -> None:
    raw = np.array([[0.0, 1.0], [np.nan, 0.0], [np.inf, 0.0]], dtype=np.float32)
    with pytest.raises(ModelOutputInvalid, match=r"'hidden' is not a finite number \(rows: 2\)") as refusal:
        to_features(raw, "hidden")
    assert [fault.path for fault in refusal.value.faults] == [("instances", 1), ("instances", 2)]


def test_one_number_per_row_is_no_feature_tensor() -> None:
    with pytest.raises(ManifestInvalid, match=r"'hidden' has shape \(4,\)"):
        to_features(np.zeros(4), "hidden")


def task_graph(task: str, kind: str, k: int, axis: int = -1) -> Graph:
    classes = tuple(f"class {i}" for i in range(k))
    return Graph.model_validate(
        {"output": "s", "output_kind": kind, "task": task, "classes": classes, "class_axis": axis}
    )


def test_labels_keep_their_log_odds_whichever_kind_declares_them() -> None:
    z = np.random.default_rng(0).normal(size=(50, 3)) * 4
    np.testing.assert_array_equal(to_logits(z, task_graph("multilabel", "sigmoid_logits", 3)), z)
    p = 1.0 / (1.0 + np.exp(-z))
    np.testing.assert_allclose(to_logits(p, task_graph("multilabel", "sigmoid_probabilities", 3)), z, rtol=1e-9)


def test_a_sigmoid_that_has_saturated_is_as_sure_as_the_floor_lets_it_be() -> None:
    raw = np.array([[0.0, 1.0]])
    limit = np.log(1e-7)
    found = to_logits(raw, task_graph("multilabel", "sigmoid_probabilities", 2))
    np.testing.assert_allclose(found, [[limit, -limit]], rtol=1e-12)


@pytest.mark.parametrize("value", [1.5, -0.5])
def test_what_is_declared_as_sigmoids_and_is_not_names_its_rows(value: float) -> None:
    raw = np.full((4, 2), 0.9)  # labels need not sum to one
    raw[2, 1] = value
    with pytest.raises(ModelOutputInvalid) as error:
        to_logits(raw, task_graph("multilabel", "sigmoid_probabilities", 2))
    assert [(f.path, f.code) for f in error.value.faults] == [(("instances", 2), "not-probabilities")]


@pytest.mark.parametrize(("shape", "axis"), [((2, 6, 3), -1), ((2, 3, 6), 1), ((2, 3, 2, 3), 1), ((2, 2, 3, 3), 3)])
def test_classes_are_found_along_their_axis_and_all_others_are_positions(shape: tuple[int, ...], axis: int) -> None:
    raw = np.random.default_rng(0).normal(size=shape)
    found = to_logits(raw, task_graph("sequence", "logits", 3, axis))
    assert found.shape == (2, 6, 3)
    for i, row in enumerate(found):
        np.testing.assert_array_equal(row, np.moveaxis(raw[i], axis - 1 if axis > 0 else -1, -1).reshape(6, 3))


def test_one_score_a_position_is_that_of_the_second_of_two_classes() -> None:
    raw = np.random.default_rng(0).normal(size=(2, 1, 2, 2))
    found = to_logits(raw, task_graph("sequence", "logits", 2, 1))
    np.testing.assert_array_equal(found, np.stack([np.zeros((2, 4)), raw.reshape(2, 4)], axis=2))


@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_in_the_padding_is_never_looked_at(kind: str) -> None:
    raw = np.log(np.full((2, 3, 2), 0.5)) if kind == "log_probabilities" else np.full((2, 3, 2), 0.5)
    raw[1, 2] = np.nan
    found = to_logits(raw, task_graph("sequence", kind, 2), lengths=np.array([3, 2]))
    assert np.isfinite(found).all()
    assert found[1, 2].tolist() == [0.0, 0.0]
    with pytest.raises(ModelOutputInvalid) as error:
        to_logits(raw, task_graph("sequence", kind, 2))
    assert [fault.path for fault in error.value.faults] == [("instances", 1)]


TASK_SHAPES: dict[str, tuple[Graph, tuple[int, ...]]] = {
    "labels of rank 1": (task_graph("multilabel", "sigmoid_logits", 2), (5,)),
    "labels too many": (task_graph("multilabel", "sigmoid_logits", 2), (5, 3)),
    "one label of two": (task_graph("multilabel", "sigmoid_logits", 2), (5, 1)),
    "a sequence of rank 2": (task_graph("sequence", "logits", 2), (5, 2)),
    "classes along another axis": (task_graph("sequence", "logits", 3, 1), (5, 4, 3)),
    "an axis that is not there": (task_graph("sequence", "logits", 3, 3), (5, 4, 3)),
}


@pytest.mark.parametrize(("declared_graph", "shape"), TASK_SHAPES.values(), ids=TASK_SHAPES.keys())
def test_an_output_that_is_none_of_the_task_s_contradicts_the_manifest(
    declared_graph: Graph, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ManifestInvalid, match=r"'s' has shape .* is needed"):
        to_logits(np.zeros(shape), declared_graph)


def test_a_row_longer_than_its_scores_is_refused() -> None:
    with pytest.raises(ManifestInvalid, match="a row has 4 positions, and each needs its scores"):
        to_logits(np.zeros((1, 3, 2)), task_graph("sequence", "logits", 2), lengths=np.array([4]))

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from service.bundle.manifest import Manifest
from service.errors import InvalidInstances, ManifestInvalid
from service.runtime.inputs import Inputs, bind_inputs
from service.runtime.session import Session

TWO = '[[inputs]]\nname = "x"\nfeatures = ["age", "pulse"]\n'
MIXED = (
    '[[inputs]]\nname = "f"\nfeatures = ["f0", "f1"]\n[[inputs]]\nname = "d"\n'
    '[[inputs]]\nname = "n"\n[[inputs]]\nname = "m"\n'
)
GOOD = [0.5, -0.5, 1e300, 3.0, -4.0]

Bind = Callable[..., Inputs]


@pytest.fixture
def bind(linear_graph: Callable[..., Path], manifest: Callable[..., Manifest]) -> Bind:
    """Binds two float32 columns, `age` and `pulse`, with what is declared of them."""

    def make(declared: str = "") -> Inputs:
        graph = linear_graph([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])
        return bind_inputs(manifest(TWO + declared), Session(graph))

    return make


@pytest.fixture
def mixed(mixed_graph: Path, manifest: Callable[..., Manifest]) -> Inputs:
    return bind_inputs(manifest(MIXED), Session(mixed_graph))


def refusal(inputs: Inputs, rows: list[list[float]]) -> InvalidInstances:
    with pytest.raises(InvalidInstances) as error:
        inputs.admit(np.array(rows))
    return error.value


def test_rows_become_the_types_the_graph_takes(mixed: Inputs) -> None:
    rows = np.array([GOOD, GOOD])
    features, feeds = mixed.admit(rows)
    assert {name: (str(feed.dtype), feed.shape) for name, feed in feeds.items()} == {
        "f": ("float32", (2, 2)),
        "d": ("float64", (2, 1)),
        "n": ("int64", (2, 1)),
        "m": ("int32", (2, 1)),
    }
    np.testing.assert_array_equal(features, rows)
    assert features.dtype == np.float64


def test_every_input_gets_its_own_columns_whatever_the_graph_s_order(
    mixed_graph: Path, manifest: Callable[..., Manifest]
) -> None:
    turned = (
        '[[inputs]]\nname = "m"\n[[inputs]]\nname = "f"\nfeatures = ["f0", "f1"]\n'
        '[[inputs]]\nname = "n"\n[[inputs]]\nname = "d"\n'
    )
    inputs = bind_inputs(manifest(turned), Session(mixed_graph))
    assert inputs.columns == ("m", "f0", "f1", "n", "d")
    _, feeds = inputs.admit(np.array([[1.0, 2.0, 3.0, 4.0, 5.0]]))
    assert {name: feed.tolist() for name, feed in feeds.items()} == {
        "m": [[1]],
        "f": [[2.0, 3.0]],
        "n": [[4]],
        "d": [[5.0]],
    }


def test_feeds_are_contiguous(mixed: Inputs) -> None:
    _, feeds = mixed.admit(np.array([GOOD] * 3))
    assert all(feed.flags.c_contiguous for feed in feeds.values())


def test_a_missing_value_is_refused_by_default_and_by_name(bind: Bind) -> None:
    error = refusal(bind(), [[1.0, 2.0], [1.0, np.nan]])
    assert [(f.path, f.code) for f in error.faults] == [(("instances", 1, "pulse"), "missing-value")]
    assert str(error) == "row 1, 'pulse': must be a number, it is missing"


def test_a_missing_value_reaches_the_graph_as_nan_where_that_is_declared(bind: Bind) -> None:
    features, feeds = bind('[features.pulse]\nmissing = "nan"\n').admit(np.array([[1.0, np.nan]]))
    assert np.isnan(features).tolist() == [[False, True]]
    assert np.isnan(feeds["x"]).tolist() == [[False, True]]


def test_a_missing_value_is_replaced_where_a_constant_is_declared(bind: Bind) -> None:
    rows = np.array([[1.0, np.nan], [2.0, 3.0]])
    features, feeds = bind("[features.pulse]\nmissing = { impute = 72.5 }\n").admit(rows)
    assert features.tolist() == [[1.0, 72.5], [2.0, 3.0]]
    assert feeds["x"].tolist() == [[1.0, 72.5], [2.0, 3.0]]
    assert np.isnan(rows[0, 1]), "the caller's rows are left alone"


def test_a_substitute_for_one_feature_excuses_no_other(bind: Bind) -> None:
    error = refusal(bind("[features.pulse]\nmissing = { impute = 72.5 }\n"), [[np.nan, np.nan]])
    assert [f.path[-1] for f in error.faults] == ["age"]


@pytest.mark.parametrize("value", [-0.1, 130.1, -np.inf, np.inf])
def test_a_value_that_is_not_allowed_is_refused_without_being_repeated(value: float, bind: Bind) -> None:
    error = refusal(bind("[features.age]\nallowed = [0, 130]\n"), [[value, 1.0]])
    assert (error.faults[0].code, error.faults[0].detail) == ("not-allowed", "must lie between 0 and 130")
    assert error.faults[0].path == ("instances", 0, "age")
    assert "130.1" not in str(error)


@pytest.mark.parametrize("value", [0.0, 130.0])
def test_the_ends_of_an_allowed_range_are_allowed(value: float, bind: Bind) -> None:
    assert bind("[features.age]\nallowed = [0, 130]\n").admit(np.array([[value, 1.0]]))


def test_a_value_beyond_its_plausible_range_is_admitted(bind: Bind) -> None:
    assert bind("[features.age]\nplausible = [0, 130]\n").admit(np.array([[500.0, 1.0]]))


@pytest.mark.parametrize("value", [1e39, -1e39, np.inf, -np.inf])
def test_a_number_that_float32_cannot_hold_is_refused(value: float, bind: Bind) -> None:
    error = refusal(bind(), [[1.0, value]])
    assert [(f.path, f.code, f.detail) for f in error.faults] == [
        (("instances", 0, "pulse"), "number-out-of-range", "does not fit float32")
    ]


def test_the_largest_float32_is_admitted(bind: Bind) -> None:
    largest = float(np.finfo(np.float32).max)
    _, feeds = bind().admit(np.array([[largest, -largest]]))
    assert np.isfinite(feeds["x"]).all()


@pytest.mark.parametrize(
    ("column", "value", "code"),
    [
        ("n", 1.5, "wrong-type"),
        ("m", -0.25, "wrong-type"),
        ("n", 2.0**63, "number-out-of-range"),
        ("n", -(2.0**64), "number-out-of-range"),
        ("m", 2.0**31, "number-out-of-range"),
        ("m", -(2.0**31) - 1, "number-out-of-range"),
        ("n", np.inf, "number-out-of-range"),
    ],
)
def test_a_whole_number_input_takes_nothing_else(column: str, value: float, code: str, mixed: Inputs) -> None:
    row = list(GOOD)
    row[mixed.columns.index(column)] = value
    assert [(f.path, f.code) for f in refusal(mixed, [row]).faults] == [(("instances", 0, column), code)]


@pytest.mark.parametrize(("column", "value"), [("n", 2.0**53 - 1), ("m", 2.0**31 - 1), ("m", -(2.0**31))])
def test_the_ends_of_an_integer_type_are_admitted(column: str, value: float, mixed: Inputs) -> None:
    row = list(GOOD)
    row[mixed.columns.index(column)] = value
    _, feeds = mixed.admit(np.array([row]))
    assert feeds[column].item() == int(value)


def test_every_fault_is_reported_and_counted(bind: Bind) -> None:
    error = refusal(bind("[features.age]\nallowed = [0, 130]\n"), [[np.nan, 1e40], [-5.0, 1.0]])
    assert [(f.path[1:], f.code) for f in error.faults] == [
        ((0, "age"), "missing-value"),
        ((1, "age"), "not-allowed"),
        ((0, "pulse"), "number-out-of-range"),
    ]
    assert str(error).endswith("(and 2 more)")


BINDINGS = {
    "an input the graph lacks": ('[[inputs]]\nname = "y"\n', "declares y; the graph takes x"),
    "an input too many": (f'{TWO}[[inputs]]\nname = "y"\n', "declares x, y; the graph takes x"),
    "too few columns": ('[[inputs]]\nname = "x"\nfeatures = ["a"]\n', "the manifest names 1 columns"),
    "too many columns": ('[[inputs]]\nname = "x"\nfeatures = ["a", "b", "c"]\n', "the manifest names 3 columns"),
}


@pytest.mark.parametrize(("inputs", "fragment"), BINDINGS.values(), ids=BINDINGS.keys())
def test_a_manifest_that_contradicts_the_graph_is_refused(
    inputs: str, fragment: str, linear_graph: Callable[..., Path], manifest: Callable[..., Manifest]
) -> None:
    session = Session(linear_graph([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]))
    with pytest.raises(ManifestInvalid, match=fragment):
        bind_inputs(manifest(inputs), session)


@pytest.mark.parametrize(
    ("kind", "shape", "fragment"),
    [
        (TensorProto.BFLOAT16, [None, 2], r"'x' is tensor\(bfloat16\); rows fill"),
        (TensorProto.FLOAT, [None, 2, 2], r"'x' has shape \['rows', 2, 2\]"),
        (TensorProto.FLOAT, [None], r"'x' has shape \['rows'\]"),
    ],
)
def test_a_graph_that_rows_of_numbers_cannot_fill_is_refused(
    kind: int,
    shape: list[int | None],
    fragment: str,
    graph_of: Callable[..., Path],
    manifest: Callable[..., Manifest],
) -> None:
    graph = graph_of([helper.make_node("Identity", ["x"], ["scores"])], {"x": (kind, shape)}, {"scores": (kind, shape)})
    with pytest.raises(ManifestInvalid, match=fragment):
        bind_inputs(manifest(TWO), Session(graph))


def test_columns_of_a_graph_without_a_width_are_the_manifest_s(
    graph_of: Callable[..., Path], manifest: Callable[..., Manifest]
) -> None:
    free = (TensorProto.FLOAT, [None, None])
    graph = graph_of([helper.make_node("Identity", ["x"], ["scores"])], {"x": free}, {"scores": free})
    _, feeds = bind_inputs(manifest(TWO), Session(graph)).admit(np.array([[1.0, 2.0]]))
    assert feeds["x"].shape == (1, 2)

"""Networks that hold their own preprocessing."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

torch: Any = pytest.importorskip("torch")

from service.training.example_sets import Examples, Values
from service.training.export import export
from service.training.networks import Standardised, mlp, standardised_width
from tests.training.problems import blobs


def rows() -> Values:
    """Three columns: complete, one that is constant, one with a long tail and missing values."""
    rng = np.random.default_rng(0)
    found = np.stack([rng.normal(5.0, 2.0, 200), np.full(200, 3.0), rng.lognormal(1.0, 2.0, 200)], axis=1)
    found[::10, 2] = np.nan
    return found.astype(np.float32)


def standardised(inputs: Values, *, logged: tuple[int, ...] = ()) -> Values:
    network = Standardised(rows(), torch.nn.Identity(), logged=logged)
    return np.asarray(network(torch.as_tensor(inputs)))


def test_columns_have_mean_zero_and_deviation_one() -> None:
    columns = standardised(rows())[:, 0]
    assert columns.mean() == pytest.approx(0.0, abs=1e-5)
    assert columns.std() == pytest.approx(1.0, abs=1e-5)


def test_a_constant_column_becomes_zero() -> None:
    assert not standardised(rows())[:, 1].any()


def test_a_missing_value_stands_at_the_mean_and_is_flagged() -> None:
    columns = standardised(rows())
    assert not columns[::10, 2].any()
    assert np.array_equal(columns[:, 3], np.isnan(rows()[:, 2]))


def test_a_value_that_never_missed_in_training_is_not_flagged() -> None:
    inputs = np.full((1, 3), np.nan, dtype=np.float32)
    assert standardised(inputs).tolist() == [[0.0, 0.0, 0.0, 1.0]]


def test_complete_rows_have_no_flags() -> None:
    assert standardised_width(rows()[:, :2]) == 2
    assert standardised_width(rows()) == 4


def test_a_column_with_a_long_tail_is_standardised_on_its_logarithm() -> None:
    present = ~np.isnan(rows()[:, 2])
    logs = np.log1p(rows()[present, 2])
    expected = (logs - logs.mean()) / logs.std()
    assert standardised(rows(), logged=(2,))[present, 2] == pytest.approx(expected, abs=1e-5)


def test_a_negative_value_of_a_column_with_a_long_tail_counts_as_zero() -> None:
    below, at = (np.array([[5.0, 3.0, value]], dtype=np.float32) for value in (-7.0, 0.0))
    assert np.array_equal(standardised(below, logged=(2,)), standardised(at, logged=(2,)))


def test_initial_weights_depend_on_the_seed_alone() -> None:
    examples = Examples(rows(), np.arange(200) % 2)
    first, again, other = (mlp(examples, 2, seed=seed)(torch.as_tensor(rows())).detach().numpy() for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


def test_the_exported_graph_treats_missing_values_and_long_tails_alike(tmp_path: Path) -> None:
    examples = Examples(rows(), np.arange(200) % 2)
    network = mlp(examples, 2, hidden=(8,), logged=(2,)).eval()
    export(network, tmp_path / "model.onnx", examples.inputs)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (found,) = session.run(None, {"x": rows()})
    assert found == pytest.approx(network(torch.as_tensor(rows())).detach().numpy(), abs=1e-5)


def test_a_column_of_missing_values_alone_stays_as_it_is() -> None:
    nothing = np.array([[1.0, np.nan], [3.0, np.nan]], dtype=np.float32)
    network = Standardised(nothing, torch.nn.Identity())
    assert network(torch.tensor([[2.0, 5.0]])).tolist() == [[0.0, 5.0, 0.0]]


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_a_constant_column_is_zero_and_another_value_of_it_stays_small(value: float) -> None:
    constant = np.full((7, 1), value, dtype=np.float32)
    standard = Standardised(constant, torch.nn.Identity())(torch.tensor([[value], [value + 1.0]])).numpy()
    assert standard == pytest.approx(np.array([[0.0], [1.0]]), abs=1e-6)


def test_mean_and_deviation_are_no_parameters_and_travel_with_the_network() -> None:
    network = mlp(blobs(), 3)
    assert {"mean", "scale"} <= network.state_dict().keys()
    assert not any(name in ("mean", "scale") for name, _ in network.named_parameters())


def test_a_seed_gives_one_network_and_leaves_other_draws_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = (mlp(blobs(), 3, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    inputs = torch.from_numpy(blobs().inputs)
    torch.testing.assert_close(first(inputs), again(inputs), rtol=0, atol=0)
    assert not torch.equal(first(inputs), other(inputs))


def test_widths_and_dropout_are_as_declared() -> None:
    network = mlp(blobs(), 3, hidden=(5, 7), dropout=0.5)
    widths = [layer.out_features for layer in network.modules() if isinstance(layer, torch.nn.Linear)]
    assert widths == [5, 7, 3]
    assert sum(isinstance(layer, torch.nn.Dropout) for layer in network.modules()) == 2

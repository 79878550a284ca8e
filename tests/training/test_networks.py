from typing import Any

import numpy as np
import pytest

torch: Any = pytest.importorskip("torch")

from service.training.networks import Standardised, mlp
from tests.training.problems import blobs


def test_columns_reach_the_network_with_mean_zero_and_deviation_one():
    rows = np.random.default_rng(0).normal(50.0, 9.0, size=(200, 3)).astype(np.float32)
    standard = Standardised(rows, torch.nn.Identity())(torch.from_numpy(rows)).numpy()
    np.testing.assert_allclose(standard.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(standard.std(axis=0), 1.0, atol=1e-5)


def test_a_missing_value_stands_at_the_mean_of_its_column():
    rows = np.array([[1.0, np.nan], [3.0, np.nan], [np.nan, np.nan]], dtype=np.float32)
    standard = Standardised(rows, torch.nn.Identity())(torch.from_numpy(rows)).numpy()
    np.testing.assert_allclose(standard, [[-1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_a_constant_column_is_zero_and_another_value_of_it_stays_small(value):
    rows = np.full((7, 1), value, dtype=np.float32)
    standard = Standardised(rows, torch.nn.Identity())(torch.tensor([[value], [value + 1.0]])).numpy()
    np.testing.assert_allclose(standard, [[0.0], [1.0]], atol=1e-6)


def test_mean_and_deviation_are_no_parameters_and_travel_with_the_network():
    network = mlp(blobs(), 3)
    assert {"mean", "scale"} <= network.state_dict().keys()
    assert not any(name in ("mean", "scale") for name, _ in network.named_parameters())


def test_a_seed_gives_one_network_and_leaves_other_draws_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = (mlp(blobs(), 3, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    rows = torch.from_numpy(blobs().inputs)
    torch.testing.assert_close(first(rows), again(rows), rtol=0, atol=0)
    assert not torch.equal(first(rows), other(rows))


def test_widths_and_dropout_are_as_declared():
    network = mlp(blobs(), 3, hidden=(5, 7), dropout=0.5)
    widths = [layer.out_features for layer in network.modules() if isinstance(layer, torch.nn.Linear)]
    assert widths == [5, 7, 3]
    assert sum(isinstance(layer, torch.nn.Dropout) for layer in network.modules()) == 2

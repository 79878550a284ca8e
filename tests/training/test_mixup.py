from typing import Any

import numpy as np
import pytest

torch: Any = pytest.importorskip("torch")

from service.training.failures import TrainingFailed
from service.training.mixup import mixed


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_row_is_its_share_of_itself_and_the_rest_of_its_partner():
    inputs = torch.randn(50, 3, 2, generator=seeded())
    rows, pairs, shares = mixed(inputs, 0.4, seeded())
    expected = shares[:, None, None] * inputs + (1.0 - shares)[:, None, None] * inputs[pairs]
    torch.testing.assert_close(rows, expected)


def test_every_row_is_a_partner_once():
    _, pairs, _ = mixed(torch.zeros(200, 1), 1.0, seeded())
    assert sorted(pairs.tolist()) == list(range(200))


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_have_the_moments_of_the_beta_distribution(alpha):
    _, _, shares = mixed(torch.zeros(50_000, 1), alpha, seeded())
    variance = 1.0 / (4.0 * (2.0 * alpha + 1.0))
    assert shares.mean() == pytest.approx(0.5, abs=4.0 * np.sqrt(variance / 50_000))
    assert shares.var() == pytest.approx(variance, rel=0.03)
    assert 0.0 <= shares.min() <= shares.max() <= 1.0


def test_the_generator_alone_decides():
    inputs = torch.randn(20, 2, generator=seeded())
    torch.manual_seed(1)
    first = mixed(inputs, 0.2, seeded())[0]
    torch.manual_seed(2)
    torch.testing.assert_close(mixed(inputs, 0.2, seeded())[0], first, rtol=0, atol=0)
    assert not torch.equal(mixed(inputs, 0.2, seeded(1))[0], first)


def test_whole_numbers_are_refused():
    with pytest.raises(TrainingFailed, match="whole numbers"):
        mixed(torch.arange(4), 0.2, seeded())

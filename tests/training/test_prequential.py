"""Prequential code length: what a coder that learns as it goes pays for the labels."""

from collections.abc import Mapping

import numpy as np
import pytest

from service.core.assessment.coding import cumulative_prior_code_length, prior_bits
from service.core.numerics import Array
from service.training.example_sets import Examples, Values
from service.training.failures import TrainingFailed
from service.training.prequential import Fit, Predict, prequential_code_length


def coin(rows: int, *, seed: int = 0, groups: Values | None = None) -> Examples:
    """Labels that their one input determines up to noise: P(1 | x) = 0.9 where x > 0, else 0.1."""
    rng = np.random.default_rng(seed)
    inputs = rng.choice([-1.0, 1.0], (rows, 1)).astype(np.float32)
    return Examples(inputs, (rng.random(rows) < np.where(inputs[:, 0] > 0, 0.9, 0.1)).astype(np.int64), groups)


def counted(rows: Examples, *, prior: float = 0.5) -> Predict:
    """Frequencies of the classes on each side of zero, with ``prior`` rows added to every class."""

    def predict(inputs: Values) -> Array:
        sides = [np.bincount(rows.labels[(rows.inputs[:, 0] > 0) == side], minlength=2) + prior for side in (0, 1)]
        return np.log([sides[int(x > 0)] / sides[int(x > 0)].sum() for x in inputs[:, 0]])

    return predict


def by_sides(rows: Examples) -> Mapping[str, Predict]:
    return {"sides": counted(rows)}


def constant(shares: tuple[float, ...]) -> Fit:
    return lambda _: {"constant": lambda inputs: np.log(np.tile(shares, (len(inputs), 1)))}


def test_a_constant_coder_pays_its_own_code_after_the_first_block() -> None:
    found = prequential_code_length(constant((0.25, 0.75)), coin(1000), classes=2, first=100)["constant"]
    own = np.where(coin(1000).labels == 1, -np.log2(0.75), 2.0)
    assert (found.blocks == 0).sum() == 100
    assert np.allclose(found.bits[found.blocks > 0], own[found.blocks > 0])


def test_the_first_block_costs_what_a_coder_without_inputs_pays() -> None:
    rows = Examples(np.zeros((200, 1), dtype=np.float32), np.tile([0, 1], 100).astype(np.int64))
    found = prequential_code_length(constant((0.5, 0.5)), rows, classes=2, first=50, seed=3)["constant"]
    labels = rows.labels[found.blocks == 0]
    assert found.bits[found.blocks == 0].sum() == pytest.approx(cumulative_prior_code_length(labels, classes=2)[-1])


def test_blocks_double_what_is_known_and_end_with_the_last_row() -> None:
    found = prequential_code_length(by_sides, coin(1000), classes=2, first=60)["sides"]
    assert np.bincount(found.blocks).cumsum().tolist() == [60, 120, 240, 480, 960, 1000]


def test_no_block_is_coded_with_what_was_learned_from_its_own_rows() -> None:
    seen: list[int] = []

    def fit(rows: Examples) -> Mapping[str, Predict]:
        seen.append(len(rows))
        return by_sides(rows)

    found = prequential_code_length(fit, coin(700), classes=2, first=50)["sides"]
    assert seen == np.bincount(found.blocks).cumsum()[:-1].tolist()


def test_rows_of_a_group_stay_in_one_block() -> None:
    groups = np.repeat(np.arange(140), 5)
    found = prequential_code_length(by_sides, coin(700, groups=groups), classes=2, first=11)["sides"]
    assert all(len(np.unique(found.blocks[groups == group])) == 1 for group in groups)


def test_the_first_block_grows_until_every_class_has_occurred_often_enough() -> None:
    labels = np.zeros(400, dtype=np.int64)
    labels[::40] = 1
    rows = Examples(np.zeros((400, 1), dtype=np.float32), labels)
    plain, grown = (
        prequential_code_length(constant((0.9, 0.1)), rows, classes=2, first=10, least=least)["constant"].blocks
        for least in (0, 5)
    )
    joined = plain.max() - grown.max()
    assert labels[grown == 0].sum() >= 5 > labels[plain < joined].sum()


def test_rows_of_one_class_are_refused() -> None:
    rows = Examples(np.zeros((100, 1), dtype=np.float32), np.zeros(100, dtype=np.int64))
    with pytest.raises(TrainingFailed, match="every class"):
        prequential_code_length(by_sides, rows, classes=2)


@pytest.mark.parametrize("seed", range(3))
def test_a_coder_that_learns_the_truth_approaches_its_entropy(seed: int) -> None:
    found = prequential_code_length(by_sides, coin(8000, seed=seed), classes=2, seed=seed)["sides"]
    entropy = prior_bits(np.arange(10) // 9)
    assert found.bits_by_block[-1] == pytest.approx(entropy, abs=0.03)
    assert found.bits_per_label > found.bits_by_block[-1] - 0.02


def test_a_model_with_more_to_learn_has_the_longer_code_although_both_end_equal() -> None:
    def fit(rows: Examples) -> Mapping[str, Predict]:
        return {"quick": counted(rows), "slow": counted(rows, prior=40.0)}

    found = prequential_code_length(fit, coin(8000), classes=2)
    assert found["slow"].bits_by_block[-1] == pytest.approx(found["quick"].bits_by_block[-1], abs=0.01)
    assert found["slow"].bits.sum() > found["quick"].bits.sum() + 100


def test_raw_outputs_of_an_improper_loss_cost_more_than_the_posterior_behind_them() -> None:
    def fit(rows: Examples) -> Mapping[str, Predict]:
        predict = counted(rows)
        return {"inverse": predict, "raw": lambda inputs: np.log(0.6 * np.exp(predict(inputs)) + 0.2)}

    found = prequential_code_length(fit, coin(4000), classes=2)
    assert found["raw"].bits_per_label > found["inverse"].bits_per_label + 0.05


def test_the_order_depends_on_the_seed_alone() -> None:
    first, again, other = (
        prequential_code_length(by_sides, coin(500), classes=2, seed=seed)["sides"].bits for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)

"""Promises of every calibrator. A newcomer adds one fitted example."""

import dataclasses
import json
from typing import Final

import numpy as np
import pytest

from service.core.calibration import CALIBRATORS, Calibrator
from service.core.calibration.identity import Identity
from service.core.calibration.temperature import Temperature

EXAMPLES: Final[dict[str, Calibrator]] = {"identity": Identity(), "temperature": Temperature(1.7)}

LOGITS = 4.0 * np.random.default_rng(0).normal(size=(50, 3))

everyone = pytest.mark.parametrize("name", CALIBRATORS)


def test_every_calibrator_has_an_example_here() -> None:
    assert EXAMPLES.keys() == CALIBRATORS.keys()
    assert {name: type(example) for name, example in EXAMPLES.items()} == dict(CALIBRATORS)


@everyone
def test_probabilities_sum_to_one(name: str) -> None:
    log_p = EXAMPLES[name].apply(LOGITS)
    assert log_p.shape == LOGITS.shape
    assert np.abs(np.exp(log_p).sum(axis=1) - 1.0).max() <= 1e-12


@everyone
def test_a_row_is_calibrated_alike_alone_and_in_a_batch(name: str) -> None:
    alone = np.concatenate([EXAMPLES[name].apply(row[None]) for row in LOGITS])
    np.testing.assert_allclose(EXAMPLES[name].apply(LOGITS), alone, rtol=1e-12, atol=1e-14)


@everyone
def test_a_constant_added_to_a_row_changes_nothing(name: str) -> None:
    np.testing.assert_allclose(EXAMPLES[name].apply(LOGITS + 7.0), EXAMPLES[name].apply(LOGITS), rtol=0, atol=1e-12)


@everyone
def test_the_largest_float32_logits_give_numbers(name: str) -> None:
    log_p = EXAMPLES[name].apply(np.array([[3.4e38, -3.4e38, 0.0], [-3.4e38, -3.4e38, -3.4e38]]))
    assert not np.isnan(log_p).any()
    assert (np.isfinite(log_p).any(axis=1)).all()


@everyone
def test_without_free_intercepts_the_favourite_stays(name: str) -> None:
    if EXAMPLES[name].free_intercepts:
        pytest.skip("may move a class on purpose")
    np.testing.assert_array_equal(EXAMPLES[name].apply(LOGITS).argmax(axis=1), LOGITS.argmax(axis=1))


@everyone
def test_its_fields_survive_json(name: str) -> None:
    example = EXAMPLES[name]
    assert dataclasses.is_dataclass(example)
    stored = json.loads(json.dumps(dataclasses.asdict(example)))
    restored = CALIBRATORS[name](**stored)
    np.testing.assert_array_equal(restored.apply(LOGITS), EXAMPLES[name].apply(LOGITS))


@everyone
def test_it_cannot_be_changed_after_the_fit(name: str) -> None:
    assert vars(CALIBRATORS[name])["__dataclass_params__"].frozen

import numpy as np
import pytest

from service.core.assessment.coding import code_lengths
from service.core.assessment.prequential import FIRST, block_ends, doubling_blocks, prequential_code_lengths
from service.core.calibration import CALIBRATORS
from service.core.numerics import Array, Indices, log_softmax

MULTICLASS = tuple(name for name, method in CALIBRATORS.items() if method.needs == "any")


def draw(
    n: int, k: int, *, temperature: float = 1.0, bias: Array | float = 0.0, seed: int = 0
) -> tuple[Array, Indices]:
    """Logits, and labels drawn from their log-softmax after a known temperature and bias."""
    rng = np.random.default_rng(seed)
    logits = 2.0 * rng.normal(size=(n, k))
    cumulative = np.exp(log_softmax(logits / temperature + bias)).cumsum(axis=1)
    labels = (cumulative < rng.random((n, 1))).sum(axis=1)
    return logits, np.minimum(labels, k - 1)


def bits(names: tuple[str, ...], logits: Array, labels: Indices) -> dict[str, float]:
    blocks = doubling_blocks(len(labels))
    return {
        name: float(prequential_code_lengths(CALIBRATORS[name], logits, labels, blocks=blocks).mean()) for name in names
    }


def shortest(found: dict[str, float]) -> str:
    return min(found, key=found.__getitem__)


@pytest.mark.parametrize("seed", range(3))
def test_rows_of_a_known_temperature_are_coded_shortest_by_a_temperature(seed: int) -> None:
    found = bits(MULTICLASS, *draw(1000, 3, temperature=2.0, seed=seed))
    assert shortest(found) == "temperature"
    assert found["identity"] - found["temperature"] > 0.1


@pytest.mark.parametrize("seed", range(3))
def test_rows_with_a_bias_are_coded_shortest_by_a_temperature_with_biases(seed: int) -> None:
    logits, labels = draw(2000, 3, temperature=1.5, bias=np.array([1.0, 0.0, -1.0]), seed=seed)
    found = bits(("identity", "temperature", "bcts", "matrix", "isotonic", "histogram"), logits, labels)
    assert shortest(found) == "bcts"


@pytest.mark.parametrize("seed", range(3))
def test_calibrated_rows_are_coded_shortest_without_a_calibrator(seed: int) -> None:
    assert shortest(bits(MULTICLASS, *draw(500, 3, seed=seed))) == "identity"


@pytest.mark.parametrize("seed", range(3))
def test_few_rows_do_not_pay_for_a_matrix(seed: int) -> None:
    found = bits(("temperature", "matrix"), *draw(100, 6, temperature=2.0, seed=seed))
    assert found["temperature"] < found["matrix"]


def test_many_rows_of_a_true_matrix_pay_for_it() -> None:
    logits, labels = draw(6000, 3, seed=1)
    mixed = logits @ np.array([[0.8, 0.3, 0.0], [0.0, 0.7, -0.3], [0.2, 0.0, 1.2]])
    found = bits(("identity", "temperature", "bcts", "matrix"), mixed, labels)
    assert shortest(found) == "matrix"


@pytest.mark.parametrize("name", CALIBRATORS)
def test_no_label_changes_the_code_of_its_own_block_of_earlier_ones_or_of_the_fit_it_has(name: str) -> None:
    logits, labels = draw(128, 2, temperature=1.5)
    blocks = doubling_blocks(128)
    last = blocks == blocks.max()
    changed = np.where(last, 1 - labels, labels)
    coded, other = (
        prequential_code_lengths(CALIBRATORS[name], logits, own, blocks=blocks) for own in (labels, changed)
    )
    np.testing.assert_array_equal(coded[~last], other[~last])
    np.testing.assert_allclose(np.exp2(-coded[last]) + np.exp2(-other[last]), 1.0)


@pytest.mark.parametrize("name", CALIBRATORS)
def test_the_first_block_has_the_classifier_s_own_probabilities(name: str) -> None:
    logits, labels = draw(64, 2, temperature=1.5)
    blocks = doubling_blocks(64)
    coded = prequential_code_lengths(CALIBRATORS[name], logits, labels, blocks=blocks)
    own = code_lengths(log_softmax(logits), labels)
    np.testing.assert_array_equal(coded[blocks == 0], own[blocks == 0])


@pytest.mark.parametrize("name", CALIBRATORS)
def test_rows_of_one_class_have_nothing_to_learn_from(name: str) -> None:
    logits = draw(64, 2)[0]
    labels = np.zeros(64, dtype=np.intp)
    coded = prequential_code_lengths(CALIBRATORS[name], logits, labels, blocks=doubling_blocks(64))
    np.testing.assert_array_equal(coded, code_lengths(log_softmax(logits), labels))


@pytest.mark.parametrize("name", CALIBRATORS)
def test_every_length_is_finite_after_separable_rows(name: str) -> None:
    logits = draw(200, 2)[0]
    labels = logits.argmax(axis=1)
    blocks = doubling_blocks(200)
    labels[blocks == blocks.max()] ^= 1
    assert np.isfinite(prequential_code_lengths(CALIBRATORS[name], logits, labels, blocks=blocks)).all()


def test_blocks_double_what_is_known() -> None:
    assert block_ends(FIRST) == (FIRST,)
    assert block_ends(FIRST + 1) == (FIRST, FIRST + 1)
    assert np.bincount(doubling_blocks(1000)).tolist() == [16, 16, 32, 64, 128, 256, 488]


def test_a_group_is_one_element_of_a_block() -> None:
    groups = np.repeat(np.arange(50), np.arange(50) % 4 + 1) * 7
    blocks = doubling_blocks(len(groups), groups=groups)
    block_of = {int(group): set(blocks[groups == group].tolist()) for group in np.unique(groups)}
    assert all(len(found) == 1 for found in block_of.values())
    assert np.bincount([found.pop() for found in block_of.values()]).tolist() == [16, 16, 18]


def test_the_order_follows_the_seed_alone() -> None:
    np.testing.assert_array_equal(doubling_blocks(100, seed=3), doubling_blocks(100, seed=3))
    assert (doubling_blocks(100, seed=3) != doubling_blocks(100, seed=4)).any()


def test_groups_are_what_fits_count() -> None:
    logits, labels = draw(60, 2, temperature=0.01)  # separable, so that smoothing and ridges are all there is
    twice = np.repeat(np.arange(60), 2)
    blocks, copied = doubling_blocks(60), doubling_blocks(120, groups=twice)
    for method in CALIBRATORS.values():
        once = prequential_code_lengths(method, logits, labels, blocks=blocks)
        doubled = prequential_code_lengths(method, logits[twice], labels[twice], blocks=copied, groups=twice)
        np.testing.assert_allclose(doubled, once[twice], rtol=1e-4, atol=1e-6)

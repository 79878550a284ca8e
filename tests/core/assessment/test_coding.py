import numpy as np
import pytest
import scipy.special
import scipy.stats

from service.core.assessment.coding import (
    bits_by_part,
    bits_per_label,
    code_lengths,
    compression_score,
    cumulative_prior_code_length,
    perplexity,
    prior_bits,
)
from service.core.assessment.metrics import log_loss
from service.core.numerics import Array, Indices, log_softmax


def rows(n: int = 500, k: int = 4) -> tuple[Array, Indices]:
    rng = np.random.default_rng(0)
    log_probs = log_softmax(2.0 * rng.normal(size=(n, k)))
    return log_probs, (np.exp(log_probs).cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)


@pytest.mark.parametrize("k", [2, 8, 1000])
def test_a_model_that_knows_nothing_pays_log_k_bits(k):
    log_probs, labels = np.full((5, k), -np.log(k)), np.arange(5) % k
    assert bits_per_label(log_probs, labels) == pytest.approx(np.log2(k), rel=1e-15)
    assert perplexity(log_probs, labels) == pytest.approx(k, rel=1e-13)


def test_a_model_that_knows_everything_pays_nothing():
    labels = np.array([0, 1, 2])
    log_probs = np.where(np.eye(3) == 1.0, 0.0, -np.inf)
    assert bits_per_label(log_probs, labels) == 0.0
    assert perplexity(log_probs, labels) == 1.0
    assert compression_score(log_probs, labels) == 1.0


def test_bits_are_the_log_loss_in_another_unit():
    log_probs, labels = rows()
    assert bits_per_label(log_probs, labels) * np.log(2.0) == pytest.approx(log_loss(log_probs, labels), rel=1e-14)
    assert perplexity(log_probs, labels) == pytest.approx(np.exp(log_loss(log_probs, labels)), rel=1e-13)


def test_the_code_lengths_of_a_row_satisfy_krafts_inequality():
    log_probs, _ = rows()
    lengths = np.stack([code_lengths(log_probs, np.full(len(log_probs), k)) for k in range(4)], axis=1)
    assert (np.exp2(-lengths).sum(axis=1) <= 1.0 + 1e-12).all()


def test_the_entropy_of_the_frequencies_meets_its_golden_value_and_scipys():
    labels = np.repeat([0, 1, 2], [7, 2, 1])
    assert prior_bits(labels) == pytest.approx(1.1567796494470395, rel=1e-12)
    assert prior_bits(labels) == pytest.approx(scipy.stats.entropy([0.7, 0.2, 0.1], base=2), rel=1e-12)
    assert prior_bits(2 * labels) == prior_bits(labels)  # a class that never occurs costs nothing


def test_the_frequencies_themselves_compress_nothing_and_worse_models_less():
    labels = np.repeat([0, 1, 2], [7, 2, 1])
    log_probs = np.tile(np.log([0.7, 0.2, 0.1]), (10, 1))
    assert compression_score(log_probs, labels) == pytest.approx(0.0, abs=1e-15)
    assert compression_score(log_probs[:, ::-1], labels) < 0.0


def test_where_all_labels_are_one_class_there_is_nothing_to_compress():
    log_probs, _ = rows(5)
    assert np.isnan(compression_score(log_probs, np.zeros(5, dtype=np.intp)))


def test_an_impossible_label_costs_infinitely_many_bits():
    log_probs = np.array([[0.0, -np.inf], [0.0, -np.inf]])
    assert bits_per_label(log_probs, np.array([0, 1])) == np.inf
    assert perplexity(log_probs, np.array([0, 1])) == np.inf
    assert perplexity(np.array([[0.0, -3e38]]), np.array([1])) == np.inf


def test_the_learning_coder_agrees_with_a_count_kept_by_hand():
    _, labels = rows(60)
    counts, total, expected = np.full(4, 0.5), 0.0, []
    for label in labels:
        total -= np.log2(counts[label] / counts.sum())
        counts[label] += 1.0
        expected.append(total)
    np.testing.assert_allclose(cumulative_prior_code_length(labels, classes=4), expected, rtol=1e-13)


def test_the_learning_coder_pays_the_entropy_and_the_price_of_its_parameters():
    _, labels = rows(20_000)
    overhead = cumulative_prior_code_length(labels, classes=4)[-1] - len(labels) * prior_bits(labels)
    assert overhead == pytest.approx(1.5 * np.log2(len(labels)), abs=4.0)


def test_the_order_of_the_rows_bends_the_line_and_not_its_end():
    _, labels = rows()
    np.testing.assert_allclose(
        cumulative_prior_code_length(labels[::-1], classes=4)[-1], cumulative_prior_code_length(labels, classes=4)[-1]
    )


def test_the_parts_of_the_code_length_make_up_the_whole_and_show_where_it_grows() -> None:
    log_probs, labels = rows(1003)
    log_probs[900:] = log_probs[900:, [1, 2, 3, 0]]
    parts, sizes = bits_by_part(log_probs, labels), [101] * 3 + [100] * 7
    assert sizes @ parts == pytest.approx(code_lengths(log_probs, labels).sum(), rel=1e-12)
    assert parts[-1] > 2.0 * parts[:-1].max()


def test_fewer_rows_than_parts_are_parts_of_their_own():
    log_probs, labels = rows(3)
    np.testing.assert_allclose(bits_by_part(log_probs, labels), code_lengths(log_probs, labels))

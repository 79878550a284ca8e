import numpy as np
import scipy.stats

from service.core.assessment.metrics import separation_score
from service.core.numerics import log_softmax
from service.core.ood.kl_matching import KlMatching
from service.core.ood.nll import Nll


def test_it_is_the_divergence_from_the_nearest_mean_answer() -> None:
    rng = np.random.default_rng(0)
    train, new = 2.0 * rng.normal(size=(200, 4)), 2.0 * rng.normal(size=(30, 4))
    p, q = np.exp(log_softmax(train)), np.exp(log_softmax(new))
    templates = [p[train.argmax(axis=1) == k].mean(axis=0) for k in range(4)]
    oracle = [min(scipy.stats.entropy(row, template) for template in templates) for row in q]
    fitted = KlMatching.fit(train, np.zeros(200, dtype=np.intp))
    np.testing.assert_allclose(fitted.score(new), oracle, rtol=1e-10)


def test_a_typical_answer_scores_zero() -> None:
    train = np.array([[3.0, 1.0, 0.0], [0.0, 1.0, 2.0]])
    np.testing.assert_allclose(KlMatching.fit(train, np.array([0, 0])).score(train + 7.0), 0.0, atol=1e-15)


def test_a_class_never_predicted_has_no_template() -> None:
    fitted = KlMatching.fit(np.array([[3.0, 1.0, 0.0], [2.0, 1.0, 0.0]]), np.array([1, 2]))
    assert fitted.log_templates.shape == (1, 3)


def test_labels_are_not_used() -> None:
    train = np.random.default_rng(1).normal(size=(50, 3))
    one, other = KlMatching.fit(train, np.zeros(50, dtype=np.intp)), KlMatching.fit(train, np.arange(50) % 3)
    np.testing.assert_array_equal(one.log_templates, other.log_templates)


def test_it_sees_confidence_that_is_unusual_where_nll_sees_only_confidence() -> None:
    rng = np.random.default_rng(2)
    usual = 0.3 * rng.normal(size=(1000, 3)) + 2.0 * np.eye(3)[rng.integers(0, 3, size=1000)]
    certain = usual + 10.0 * (usual == usual.max(axis=1, keepdims=True))
    fitted = KlMatching.fit(usual, usual.argmax(axis=1))
    assert separation_score(fitted.score(usual), fitted.score(certain)) > 0.95
    assert separation_score(Nll().score(usual), Nll().score(certain)) < 0.05


def test_templates_and_rows_with_probabilities_of_zero_are_finite() -> None:
    fitted = KlMatching.fit(1e5 * np.eye(3), np.arange(3))
    assert np.isfinite(fitted.score(np.concatenate([1e5 * np.eye(3), np.zeros((1, 3))]))).all()

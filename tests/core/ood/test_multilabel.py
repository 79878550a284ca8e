import numpy as np
import pytest
import scipy.special

from service.core.assessment.metrics import separation_score
from service.core.numerics import Array, log_softmax
from service.core.ood import SCORES
from service.core.ood.multilabel import JointEnergy, MaxLabel
from service.core.ood.nll import Nll

on_sigmoids = pytest.mark.parametrize("name", [n for n, score in SCORES.items() if score.needs == "sigmoid_logits"])


def rows(n: int, m: int = 5) -> Array:
    return 4.0 * np.random.default_rng(0).normal(size=(n, m))


def test_joint_energy_is_the_log_probability_that_every_label_is_absent() -> None:
    z = rows(200)
    expected = scipy.special.log_expit(-z).sum(axis=1)
    np.testing.assert_allclose(JointEnergy().score(z), expected, rtol=1e-13)


def test_max_label_ranks_as_the_least_probable_absence() -> None:
    z = rows(200)
    absence = scipy.special.expit(-z).min(axis=1)
    np.testing.assert_array_equal(np.argsort(MaxLabel().score(z)), np.argsort(absence))


@on_sigmoids
def test_more_evidence_for_any_label_never_raises_the_score(name: str) -> None:
    z = rows(50)
    for j in range(z.shape[1]):
        more = z + 2.0 * np.eye(z.shape[1])[j]
        assert (SCORES[name]().score(more) <= SCORES[name]().score(z)).all()


@on_sigmoids
def test_a_row_without_evidence_for_any_label_stands_out_though_a_softmax_finds_it_certain(name: str) -> None:
    rng = np.random.default_rng(1)
    known = np.where(rng.random((500, 5)) < 0.5, 3.0, -3.0) + rng.normal(size=(500, 5))
    known[np.arange(500), rng.integers(0, 5, 500)] = 4.0
    unknown = -6.0 + rng.normal(size=(500, 5))
    unknown[:, 0] += 5.0
    assert separation_score(SCORES[name]().score(known), SCORES[name]().score(unknown)) > 0.98
    assert separation_score(Nll().score(known), Nll().score(unknown)) < 0.2


def test_only_joint_energy_adds_up_what_several_labels_show() -> None:
    one, many = np.array([[3.0, -9.0, -9.0]]), np.array([[3.0, 3.0, 3.0]])
    assert JointEnergy().score(many)[0] < 2.0 * JointEnergy().score(one)[0]
    assert MaxLabel().score(many)[0] == MaxLabel().score(one)[0]


@on_sigmoids
def test_they_read_the_level_that_a_softmax_forgets(name: str) -> None:
    z = rows(50)
    score = SCORES[name]()
    np.testing.assert_allclose(Nll().score(z), Nll().score(z + 5.0), rtol=1e-9, atol=1e-12)
    assert (score.score(z) - score.score(log_softmax(z + 5.0))).std() > 0.1

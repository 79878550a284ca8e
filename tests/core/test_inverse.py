import dataclasses
import json
from functools import cache

import numpy as np
import pytest
import scipy.optimize
import scipy.special
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from service.core.calibration.bcts import Bcts
from service.core.calibration.temperature import fit_temperature
from service.core.inverse import (
    INVERSES,
    ClassWeights,
    Focal,
    Inverse,
    LabelSmoothing,
    PositiveWeight,
    SigmoidFocal,
    Unchanged,
)
from service.core.losses import LOSSES
from service.core.numerics import Array, log_softmax

GOLDEN_FOCAL = [  # the posterior of the first of two classes, and what a focal model with gamma 2 says instead
    (0.55, 0.5187366),
    (0.7, 0.57847999),
    (0.8, 0.62661483),
    (0.9, 0.69421281),
    (0.95, 0.74978877),
    (0.99, 0.84637563),
]
PARAMETERS: dict[str, list[dict[str, object]]] = {  # of the loss and of its inverse alike
    "cross_entropy": [{}],
    "weighted": [{"class_weights": (5.0, 1.0, 1.0, 0.5, 2.0, 1.0, 1.0, 3.0, 1.0, 1.0)}],
    "focal": [{"gamma": 2.0}, {"gamma": 0.5}, {"gamma": 3.0, "alpha": tuple(np.linspace(0.5, 2.0, 10).tolist())}],
    "label_smoothing": [{"epsilon": 0.05}, {"epsilon": 0.1}, {"epsilon": 0.2}],
    "binary_cross_entropy": [{"positive_weight": 4.0}],
    "multilabel_cross_entropy": [{"positive_weight": (4.0, 0.5, 1.0)}],
    "sigmoid_focal": [{"gamma": 2.0}, {"gamma": 2.0, "alpha": 0.25}],
}
CASES = [(name, parameters) for name, listed in PARAMETERS.items() for parameters in listed]
BENT = [(name, parameters) for name, parameters in CASES if LOSSES[name].task == "multiclass" and parameters]

logit_arrays = arrays(
    np.float64, array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=6), elements=st.floats(-900.0, 900.0)
)
gammas = st.floats(0.0, 8.0)


def inverse(name: str, parameters: dict[str, object]) -> Inverse:
    return INVERSES[name](**parameters)


# ------------------------------------------------------------------------------------------------------- registry


def test_every_inverse_is_that_of_a_loss_and_names_its_parameters():
    assert INVERSES.keys() < LOSSES.keys()
    assert PARAMETERS.keys() == INVERSES.keys()


@pytest.mark.parametrize(("name", "parameters"), CASES)
def test_an_inverse_survives_being_written_as_json(name, parameters):
    mine = inverse(name, parameters)
    again = INVERSES[name](**json.loads(json.dumps(dataclasses.asdict(mine))))  # type: ignore[call-overload]
    values = log_softmax(np.random.default_rng(0).normal(size=(5, 3 if LOSSES[name].task == "multilabel" else 10)))
    np.testing.assert_array_equal(again.apply(values), mine.apply(values))


@pytest.mark.parametrize(("name", "parameters"), CASES)
def test_an_inverse_takes_the_parameters_its_loss_takes(name, parameters):
    fields = {field.name for field in dataclasses.fields(INVERSES[name])}  # type: ignore[arg-type]
    assert parameters.keys() <= LOSSES[name].parameters.keys()
    assert parameters.keys() <= fields


# --------------------------------------------------------------------------------- synthetic truth, over the registry


@cache
def truth() -> Array:
    """Posteriors of 300 rows over ten classes: softmax of logits three standard deviations wide."""
    return log_softmax(3.0 * np.random.default_rng(0).normal(size=(300, 10)))


@cache
def trained(name: str, index: int) -> Array:
    """What a model without limits says once its expected loss on `truth` can fall no further."""
    eta, (_, parameters) = np.exp(truth()), BENT[index]
    arguments = {key: np.asarray(value) for key, value in parameters.items()}
    floor = 0.1 * float(arguments.get("epsilon", 1e-5))
    start, unit = np.log(eta + floor), 1.0 / np.sqrt(eta + floor)  # rare classes bend the loss little: now all alike

    def risk(x: Array) -> tuple[float, Array]:
        z, total, slope = start + unit * x.reshape(eta.shape), 0.0, np.zeros_like(eta)
        for k in range(eta.shape[1]):
            loss, gradient = LOSSES[name](z, np.full(len(eta), k), **arguments)
            total += float(eta[:, k] @ loss)
            slope += eta[:, k, None] * gradient
        return total, (unit * slope).ravel()

    options = {"maxiter": 600, "ftol": 1e-15, "gtol": 1e-8}
    found = scipy.optimize.minimize(risk, np.zeros(eta.size), jac=True, method="L-BFGS-B", options=options)
    return log_softmax(start + unit * found.x.reshape(eta.shape))


def true_nll(log_probs: Array) -> float:
    """Expected log loss under `truth`: no labels are drawn, so nothing is noise."""
    return float(-np.mean(np.einsum("nk,nk->n", np.exp(truth()), log_probs)))


def best_temperature(log_probs: Array) -> tuple[float, float]:
    rows, labels = np.repeat(log_probs, 10, axis=0), np.tile(np.arange(10), len(log_probs))
    calibrator = fit_temperature(rows, labels, weights=np.exp(truth()).ravel()).calibrator
    return calibrator.temperature, true_nll(calibrator.apply(log_probs))


@pytest.mark.parametrize("index", range(len(BENT)))
def test_the_inverse_recovers_the_truth_from_a_loss_optimum_and_temperature_does_not(index):
    name, parameters = BENT[index]
    predicted = trained(name, index)
    recovered = inverse(name, parameters).apply(predicted)
    _, tempered = best_temperature(predicted)
    assert abs(true_nll(recovered) - true_nll(truth())) < 1e-4
    assert np.abs(np.exp(recovered) - np.exp(truth())).max() < 1e-3
    assert true_nll(predicted) >= tempered
    easy = parameters in ({"gamma": 0.5}, {"epsilon": 0.05})  # bent so little that temperature comes close
    assert tempered - true_nll(recovered) > (0.002 if easy else 0.01)


@pytest.mark.parametrize("index", range(len(BENT)))
def test_correcting_twice_makes_it_worse_again(index):
    name, parameters = BENT[index]
    mine = inverse(name, parameters)
    once = mine.apply(trained(name, index))
    assert true_nll(mine.apply(once)) > true_nll(once) + 0.001


@pytest.mark.parametrize(
    ("name", "parameters", "low", "high", "gain"),
    [
        ("focal", {"gamma": 2.0}, 0.70, 0.74, 0.015),
        ("label_smoothing", {"epsilon": 0.05}, 0.86, 0.91, 0.008),
        ("label_smoothing", {"epsilon": 0.1}, 0.79, 0.84, 0.01),
        ("label_smoothing", {"epsilon": 0.2}, 0.69, 0.74, 0.01),
    ],
)
def test_the_best_temperature_of_an_underconfident_loss_is_below_one_and_not_enough(name, parameters, low, high, gain):
    index = BENT.index((name, parameters))
    temperature, tempered = best_temperature(trained(name, index))
    assert low <= temperature <= high
    assert tempered - true_nll(inverse(name, parameters).apply(trained(name, index))) > gain


# ---------------------------------------------------------------------------------------------------------- focal


@pytest.mark.parametrize(("eta", "q"), GOLDEN_FOCAL)
def test_the_focal_map_of_two_classes_meets_the_golden_values(eta, q):
    found = focal_optimum(np.array([eta, 1.0 - eta]), 2.0, np.ones(2))
    assert found[0] == pytest.approx(q, abs=6e-9)
    for back in (Focal(gamma=2.0).apply(np.log([found]))[0], sigmoid_posterior(found[0], SigmoidFocal(gamma=2.0))):
        np.testing.assert_allclose(np.exp(back), [eta, 1.0 - eta], rtol=0, atol=1e-8)


@pytest.mark.parametrize("k", [2, 3, 10])
@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 3.0, 5.0])
@pytest.mark.parametrize("balanced", [False, True])
def test_the_numerical_optimum_of_the_focal_risk_is_inverted(k, gamma, balanced):
    rng = np.random.default_rng(10 * k + int(gamma))
    alpha = rng.uniform(0.25, 2.0, size=k) if balanced else np.ones(k)
    for _ in range(3):
        eta = rng.dirichlet(np.ones(k))
        q = focal_optimum(eta, gamma, alpha)
        mine = Focal(gamma=gamma, alpha=tuple(alpha.tolist()) if balanced else None)
        np.testing.assert_allclose(np.exp(mine.apply(np.log(q[None]))[0]), eta, rtol=0, atol=1e-8)


def focal_optimum(eta: Array, gamma: float, alpha: Array) -> Array:
    """Minimum over the simplex, by its Lagrangian: each q solves -eta alpha FL'(q) = mu, and mu makes them sum to one.

    FL' is the complex-step derivative of the loss as the paper writes it: none of our formulas takes part.
    """

    def pull(q: float, k: int) -> float:
        z = complex(q, 1e-30)
        return float(eta[k] * alpha[k] * ((1.0 - z) ** gamma * np.log(z)).imag / 1e-30)

    def solve(log_mu: float) -> Array:
        mu = np.exp(log_mu)
        return np.array(
            [
                scipy.optimize.brentq(lambda q, k=k: pull(q, k) - mu, 1e-15, 1.0 - 1e-15, xtol=1e-16, rtol=1e-15)
                for k in range(len(eta))
            ]
        )

    ends = [
        np.log(max(pull(1.0 - 1e-15, k) for k in range(len(eta)))),
        np.log(min(pull(1e-15, k) for k in range(len(eta)))),
    ]
    log_mu = scipy.optimize.brentq(lambda m: solve(m).sum() - 1.0, ends[0] + 1e-9, ends[1] - 1e-9, xtol=1e-14)
    return solve(log_mu)


def sigmoid_posterior(q: float, mine: SigmoidFocal) -> Array:
    log_odds = mine.apply(np.array([scipy.special.logit(q)]))
    return np.array([scipy.special.log_expit(log_odds[0]), scipy.special.log_expit(-log_odds[0])])


@given(logit_arrays, gammas)
def test_focal_keeps_the_most_probable_class_and_stays_normalised(z, gamma):
    before = log_softmax(z)
    after = Focal(gamma=gamma).apply(before)
    rows = np.arange(len(z))
    assert (after[rows, before.argmax(axis=1)] == after.max(axis=1)).all()
    assert np.isfinite(after).all()
    np.testing.assert_allclose(np.exp(after).sum(axis=1), 1.0, rtol=0, atol=1e-12)


@given(logit_arrays, st.floats(0.1, 8.0))
def test_focal_never_makes_a_row_less_certain_whose_favourite_has_half(z, gamma):
    before = log_softmax(z)
    after = Focal(gamma=gamma).apply(before)
    half = before.max(axis=1) >= -np.log(2.0)
    assert (after[half].max(axis=1) >= before[half].max(axis=1) - 1e-14).all()


def test_focal_makes_a_row_less_certain_whose_favourite_is_one_of_many():
    before = np.log([[0.24, 0.22, 0.22, 0.22, *[0.01] * 10]])  # phi rises before it falls: Charoenphakdee, section 4
    assert Focal(gamma=1.0).apply(before).max() < before.max()


@given(logit_arrays)
def test_gamma_zero_changes_nothing(z):
    before = log_softmax(z)
    np.testing.assert_allclose(Focal(gamma=0.0).apply(before), before, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_a_more_certain_model_means_a_more_certain_posterior_up_to_both_ends(gamma):
    z = np.concatenate([np.linspace(-745.0, -41.0, 60), np.linspace(-40.0, 40.0, 4001), np.linspace(41.0, 745.0, 60)])
    log_p = Focal(gamma=gamma).apply(log_softmax(np.stack([np.zeros_like(z), z], axis=1)))
    assert (np.diff(log_p[:, 1]) >= 0.0).all()
    assert (np.diff(log_p[:, 0]) <= 0.0).all()
    assert (np.diff(log_p[:, 1] - log_p[:, 0]) > 0.0).all()


def test_far_out_the_focal_odds_grow_by_the_factor_of_the_limit():
    z, gamma = np.array([50.0, 700.0, 1e4, 3e38]), 2.0
    log_p = Focal(gamma=gamma).apply(log_softmax(np.stack([np.zeros_like(z), z], axis=1)))
    np.testing.assert_allclose(log_p[:, 1] - log_p[:, 0], (1.0 + gamma) * z - np.log(1.0 + gamma), rtol=1e-13)


def test_a_class_ruled_out_stays_ruled_out():
    with np.errstate(divide="ignore"):
        certain = np.log([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    np.testing.assert_allclose(np.exp(Focal(gamma=2.0).apply(certain)), [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]], atol=1e-15)


@pytest.mark.parametrize("gamma", [0.5, 2.0, 5.0])
@pytest.mark.parametrize("alpha", [None, 0.25])
def test_sigmoid_focal_is_focal_with_two_classes(gamma, alpha):
    z = np.concatenate([np.linspace(-30.0, 30.0, 601), [-1e4, 1e4, -3e38, 3e38]])
    wide = Focal(gamma=gamma, alpha=None if alpha is None else (1.0 - alpha, alpha))
    expected = wide.apply(log_softmax(np.stack([np.zeros_like(z), z], axis=1)))
    np.testing.assert_allclose(
        SigmoidFocal(gamma=gamma, alpha=alpha).apply(z), expected[:, 1] - expected[:, 0], rtol=1e-12, atol=1e-13
    )


# ------------------------------------------------------------------------------------- smoothing, weights, identity


@pytest.mark.parametrize("k", [2, 3, 10, 1000])
@pytest.mark.parametrize("epsilon", [0.0, 0.01, 0.1, 0.5])
def test_smoothing_there_and_back_is_where_it_began(k, epsilon):
    p = np.random.default_rng(k).dirichlet(np.full(k, 5.0), size=50)
    q = (1.0 - epsilon) * p + epsilon / k
    back = np.exp(LabelSmoothing(epsilon=epsilon).apply(np.log(q)))
    np.testing.assert_allclose(back, p, rtol=0, atol=1e-12)


def test_below_the_share_of_epsilon_the_floor_speaks():
    q = np.array([[0.98, 0.015, 0.005]])  # epsilon / K = 1/30
    p = np.exp(LabelSmoothing(epsilon=0.1, floor=1e-7).apply(np.log(q)))
    top = (0.98 - 0.1 / 3) / 0.9
    np.testing.assert_allclose(p[0], np.array([top, 1e-7, 1e-7]) / (top + 2e-7), rtol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4, 3e38])
@pytest.mark.parametrize(("name", "parameters"), CASES)
def test_every_inverse_is_finite_and_normalised_however_extreme_the_model(name, parameters, scale):
    task, rng = LOSSES[name].task, np.random.default_rng(0)
    z = scale * rng.choice([-1.0, 0.0, 1.0], size=(50, 3 if task == "multilabel" else 10))
    values = inverse(name, parameters).apply(log_softmax(z) if task == "multiclass" else z)
    assert np.isfinite(values).all()
    if task == "multiclass":
        np.testing.assert_allclose(np.exp(values).sum(axis=1), 1.0, rtol=0, atol=1e-12)


@given(logit_arrays)
def test_only_the_ratios_of_class_weights_matter_and_equal_ones_do_nothing(z):
    before = log_softmax(z)
    weights = np.linspace(0.2, 3.0, z.shape[1])
    np.testing.assert_allclose(
        ClassWeights(tuple(weights)).apply(before), ClassWeights(tuple(7.0 * weights)).apply(before), rtol=0, atol=1e-11
    )
    np.testing.assert_allclose(ClassWeights((2.0,) * z.shape[1]).apply(before), before, rtol=1e-12, atol=1e-12)


def test_a_positive_weight_is_taken_out_of_the_odds():
    eta, beta = np.array([0.01, 0.3, 0.99]), 5.0
    q = beta * eta / (beta * eta + 1.0 - eta)
    recovered = scipy.special.expit(PositiveWeight(beta).apply(scipy.special.logit(q)))
    np.testing.assert_allclose(recovered, eta, rtol=1e-12)
    np.testing.assert_allclose(recovered, q / (q + beta * (1.0 - q)), rtol=1e-12)


def test_the_posterior_of_a_proper_loss_is_handed_on_to_the_last_bit():
    values = truth()
    assert Unchanged().apply(values) is values


def test_class_weights_cannot_be_undone_by_a_temperature_and_can_by_their_logarithms():
    """Two normal classes, one in ten positive, balanced weights: the textbook case, integrated instead of drawn."""
    x = np.linspace(-9.0, 9.0, 4001)
    joint = np.stack([0.9 * np.exp(-0.5 * (x + 1.0) ** 2), 0.1 * np.exp(-0.5 * (x - 1.0) ** 2)], axis=1)
    joint /= joint.sum()
    predicted = log_softmax(np.stack([np.zeros_like(x), 2.0 * x], axis=1))  # the optimum of the balanced loss
    rows = np.repeat(predicted, 2, axis=0), np.tile([0, 1], len(x))
    fit, biased = fit_temperature(*rows, weights=joint.ravel()), Bcts.fit(*rows, weights=joint.ravel())
    mine = ClassWeights((1.0 / 0.9, 1.0 / 0.1))
    stages = (predicted, fit.calibrator.apply(predicted), mine.apply(predicted), mine.apply(mine.apply(predicted)))
    raw, tempered, corrected, twice = (float(-(joint * log_probs).sum()) for log_probs in stages)
    truth_here = float(-(joint * np.log(joint / joint.sum(axis=1, keepdims=True))).sum())
    assert fit.calibrator.temperature == pytest.approx(1.0, abs=0.01)
    assert raw - tempered < 0.001
    assert float(-(joint * biased.apply(predicted)).sum()) == pytest.approx(truth_here, abs=0.001)
    assert corrected == pytest.approx(truth_here, abs=1e-9)
    assert corrected == pytest.approx(0.1827, abs=0.001)
    assert raw == pytest.approx(0.3556, abs=0.002)
    assert twice > corrected + 0.05

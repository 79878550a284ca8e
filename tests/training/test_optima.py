"""What a reader of the textbook checks: the optimum of every loss, on synthetic data whose truth is known."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from scipy.special import expit

from service.core.calibration.temperature import fit_temperature
from service.core.inverse import SigmoidFocal
from service.core.numerics import log_softmax
from service.training.objectives import (
    CrossEntropy,
    Distillation,
    Focal,
    LabelSmoothing,
    Mixup,
    MultilabelCrossEntropy,
    MultilabelFocal,
    SequenceCrossEntropy,
    Weighted,
)
from tests.training.free_networks import (
    Bins,
    FirstTwo,
    Fixed,
    Linear,
    PowersOfInputs,
    Table,
    log_probs_of,
    minimised,
    repeated,
)

POSTERIORS = np.array([[0.7, 0.2, 0.1], [0.34, 0.33, 0.33], [0.05, 0.15, 0.8], [0.5, 0.49, 0.01]])
COUNTS = (100 * POSTERIORS).round().astype(int)
GOLDEN_SMOOTHING = [  # classes, entropy of the targets, gap between the logits
    (2, 0.1985152433458725, 2.9444389791664403),
    (10, 0.5002880350577578, 4.51085950651685),
    (1000, 1.0148479977486802, 9.105090961257085),
]


pytestmark = pytest.mark.usefixtures("one_thread")


def entropy(p):
    return -(p * np.log(p)).sum(axis=-1)


# ------------------------------------------------------------------------------------------------------ cross-entropy


def test_the_optimum_of_cross_entropy_is_the_posterior_and_its_loss_the_entropy():
    table = Table(4, 3)
    least = minimised(CrossEntropy(), table, *repeated(COUNTS))
    np.testing.assert_allclose(np.exp(log_probs_of(table)), POSTERIORS, atol=1e-6)
    assert least == pytest.approx(entropy(POSTERIORS).mean(), abs=1e-10)


# ---------------------------------------------------------------------------------------------------- label smoothing


@pytest.mark.parametrize(("classes", "target_entropy", "gap"), GOLDEN_SMOOTHING)
def test_label_smoothing_costs_the_entropy_of_its_targets_at_its_optimum(classes, target_entropy, gap):
    table, labels = Table(3, classes), np.array([0, 1, 1])
    least = minimised(LabelSmoothing(0.1), table, np.arange(3), labels)
    assert least == pytest.approx(target_entropy, abs=1e-9)
    logits = table.logits.detach().numpy()
    others = np.delete(logits[0], 0)
    np.testing.assert_allclose(logits[0, 0] - others, gap, atol=1e-3)


def test_with_noisy_labels_label_smoothing_costs_the_mean_entropy_of_its_optimum_and_is_undone_exactly():
    table, objective = Table(4, 3), LabelSmoothing(0.1)
    least = minimised(objective, table, *repeated(COUNTS))
    smoothed = 0.9 * POSTERIORS + 0.1 / 3
    assert least == pytest.approx(entropy(smoothed).mean(), abs=1e-10)
    np.testing.assert_allclose(np.exp(log_probs_of(table)), smoothed, atol=1e-6)
    np.testing.assert_allclose(np.exp(objective.recovered(log_probs_of(table))), POSTERIORS, atol=1e-6)


# ------------------------------------------------------------------------------------------------------ class weights


def test_weights_of_one_over_the_prevalence_have_the_optimum_of_balanced_data():
    counts = np.array([[810, 10], [80, 40], [10, 50]])  # 900 rows of one class, 100 of the other
    weighted, balanced, plain = Table(3, 2), Table(3, 2), Table(3, 2)
    objective = Weighted((1.0 / 0.9, 1.0 / 0.1))
    minimised(objective, weighted, *repeated(counts))
    minimised(CrossEntropy(), balanced, *repeated(counts * np.array([1, 9])))
    minimised(CrossEntropy(), plain, *repeated(counts))
    np.testing.assert_allclose(log_probs_of(weighted), log_probs_of(balanced), atol=1e-5)
    np.testing.assert_allclose(objective.recovered(log_probs_of(weighted)), log_probs_of(plain), atol=1e-5)


def test_weights_of_one_over_the_prevalence_make_a_line_that_of_balanced_classes():
    rng = np.random.default_rng(0)
    labels = (rng.random(100_000) < 0.1).astype(np.int64)
    inputs = rng.normal(2.0 * labels - 1.0).astype(np.float32)[:, None]  # N(-1, 1) and N(1, 1): slope 2
    lines = {}
    for objective in (CrossEntropy(), Weighted((1.0 / 0.9, 1.0 / 0.1))):
        network = Linear(1, 2)
        minimised(objective, network, inputs, labels)
        weight, bias = (p.detach().numpy() for p in network.layer.parameters())
        lines[type(objective)] = (weight[1, 0] - weight[0, 0], bias[1] - bias[0])
    np.testing.assert_allclose(lines[Weighted], (2.0, 0.0), atol=0.05)
    np.testing.assert_allclose(lines[CrossEntropy], (2.0, -math.log(9.0)), atol=0.05)


# -------------------------------------------------------------------------------------------------------------- focal


@pytest.mark.parametrize("objective", [Focal(1.0), Focal(2.0), Focal(3.0), Focal(2.0, alpha=(1.0, 2.0, 4.0))], ids=str)
def test_the_optimum_of_focal_loss_is_no_posterior_and_its_inverse_is(objective):
    table = Table(4, 3)
    minimised(objective, table, *repeated(COUNTS))
    assert np.abs(np.exp(log_probs_of(table)) - POSTERIORS).max() > 0.05
    np.testing.assert_allclose(np.exp(objective.recovered(log_probs_of(table))), POSTERIORS, atol=1e-5)


# -------------------------------------------------------------------------------------------------------------- mixup


def test_the_optimum_of_mixup_predicts_the_share_of_either_input():
    network, rng = PowersOfInputs(), np.random.default_rng(0)
    labels = rng.integers(0, 3, 3000)
    minimised(Mixup(1.0), network, np.eye(3, dtype=np.float32)[labels], labels, steps=50)
    mixed = torch.tensor([[0.5, 0.5, 0.0], [0.9, 0.0, 0.1], [0.0, 0.3, 0.7]])
    found = torch.softmax(network(mixed), dim=1).detach().numpy()
    np.testing.assert_allclose(found, mixed, atol=0.01)


def test_where_several_pairs_mix_to_one_input_mixup_predicts_their_expected_share():
    points, rng = np.array([0.0, 1.0, 2.0], dtype=np.float32), np.random.default_rng(0)
    which = rng.integers(0, 3, 20_000)
    network = Bins()
    minimised(Mixup(1.0), network, points[which][:, None], (which == 1).astype(np.int64), steps=25)
    found = np.exp(log_probs_of(network.table))[:10, 1]
    middles = np.linspace(0.05, 0.95, 10)  # pairs (0, 1) are as dense there as x is uniform, pairs (0, 2) half as dense
    np.testing.assert_allclose(found, middles / 1.5, atol=0.05)


def test_on_clean_inputs_mixup_is_not_sure_enough_and_no_inverse_is_declared():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 20_000)
    inputs = rng.normal(2.0 * labels - 1.0).astype(np.float32)[:, None]
    network, objective = Linear(1, 2), Mixup(1.0)
    minimised(objective, network, inputs, labels)
    weight = network.layer.weight.detach().numpy()
    assert 1.4 < weight[1, 0] - weight[0, 0] < 1.6  # 2 without mixup
    outputs = network(torch.from_numpy(inputs)).detach().numpy()
    assert 0.7 < fit_temperature(outputs, labels).calibrator.temperature < 0.8
    log_probs = log_softmax(np.array([[1.0, 0.0]]))
    np.testing.assert_array_equal(objective.recovered(log_probs), log_probs)


# ------------------------------------------------------------------------------------------------------- distillation


def centred(logits):
    return logits - logits.mean(axis=1, keepdims=True)


def student_and_teacher():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 2))
    teacher = features @ rng.normal(size=(2, 4)) * 2.0 + rng.normal(size=(40, 4))  # not linear: no student reaches it
    inputs = np.column_stack([features, np.arange(40)]).astype(np.float32)
    return inputs, rng.integers(0, 4, 40), teacher


def gradient_at(objective, logits, inputs, labels):
    """Gradient of the summed loss of a student with these logits in them."""
    table = Fixed(logits)
    table.logits.requires_grad_()
    losses = objective.losses(table, torch.from_numpy(inputs), torch.from_numpy(labels), torch.Generator())
    return torch.autograd.grad(losses.sum(), table.logits)[0].numpy()


def test_at_a_high_temperature_the_gradient_of_distillation_is_the_difference_of_centred_logits():
    inputs, labels, teacher = student_and_teacher()
    student = np.random.default_rng(1).normal(size=teacher.shape)
    limit = (centred(student) - centred(teacher)) / 4
    errors = []
    for tau in (10.0, 100.0, 1000.0):
        found = gradient_at(Distillation(Fixed(teacher), tau=tau, soft_share=1.0), student, inputs, labels)
        errors.append(np.abs(found - limit).max() / np.abs(limit).max())
    assert errors[0] > 0.05
    assert errors[1] < 0.02
    assert errors[2] < 0.002


def test_at_a_high_temperature_distillation_matches_centred_logits_by_least_squares():
    inputs, labels, teacher = student_and_teacher()
    design = np.column_stack([inputs[:, :2], np.ones(40)]).astype(np.float64)
    matched = design @ np.linalg.lstsq(design, centred(teacher), rcond=None)[0]
    apart = {}
    for tau in (1.0, 1000.0):
        network = FirstTwo()
        minimised(Distillation(Fixed(teacher), tau=tau, soft_share=1.0), network, inputs, labels)
        found = network(torch.from_numpy(inputs)).detach().numpy()
        apart[tau] = np.abs(centred(found) - matched).max()
    assert apart[1000.0] < 0.01
    assert apart[1.0] > 0.5


def test_a_student_that_can_be_its_teacher_becomes_it_at_every_temperature():
    teacher = np.random.default_rng(0).normal(size=(5, 3))
    inputs, labels = np.arange(5), np.zeros(5, dtype=np.int64)
    for tau in (1.0, 4.0, 20.0):
        student, own = Table(5, 3), Table(5, 3)
        with torch.no_grad():
            own.logits.copy_(torch.from_numpy(teacher))
        minimised(Distillation(own, tau=tau, soft_share=1.0), student, inputs, labels)
        np.testing.assert_allclose(log_probs_of(student), log_softmax(teacher), atol=1e-4)


# --------------------------------------------------------------------------------------------------- several labels


def coupled(objective):
    """A table fitted to two labels that are present together or not at all, as far as their frequencies allow."""
    marginals = np.array([[0.3, 0.6], [0.9, 0.2], [0.5, 0.5]])
    shared = (np.arange(1000) + 0.5) / 1000
    inputs = np.repeat(np.arange(3), 1000)
    labels = (np.tile(shared, 3)[:, None] < marginals[inputs]).astype(np.int64)
    table = Table(3, 2)
    minimised(objective, table, inputs, labels)
    return table.logits.detach().numpy(), marginals, labels


def test_the_optimum_of_several_sigmoids_is_every_labels_marginal_whatever_the_dependence():
    logits, marginals, labels = coupled(MultilabelCrossEntropy())
    np.testing.assert_allclose(expit(logits), marginals, atol=1e-6)
    together = labels.reshape(3, 1000, 2).all(axis=2).mean(axis=1)
    assert np.abs(expit(logits).prod(axis=1) - together).max() > 0.1  # the product is not the chance of both


@pytest.mark.parametrize("objective", [MultilabelFocal(2.0), MultilabelFocal(1.0, alpha=0.25)], ids=str)
def test_the_optimum_of_several_focal_sigmoids_inverts_to_the_marginals(objective):
    logits, marginals, _ = coupled(objective)
    assert np.abs(expit(logits) - marginals).max() > 0.04
    inverse = SigmoidFocal(objective.gamma, objective.alpha)
    np.testing.assert_allclose(expit(inverse.apply(logits)), marginals, atol=1e-5)


# ---------------------------------------------------------------------------------------------------------- sequences


@pytest.mark.parametrize(
    ("smoothness", "first", "second"),
    [(0.0, 0.9, 0.2), (0.5, 0.852, 0.261), (1.0, 0.807, 0.311), (2.0, 0.743, 0.375), (5.0, 0.658, 0.454)],
)
def test_a_price_on_change_biases_the_marginals_of_two_neighbours_as_tabled(smoothness, first, second):
    counts = np.array([[18, 72], [2, 8]])  # of 100 sequences: classes of the first position by those of the second
    labels = np.repeat(np.argwhere(counts >= 0), counts.ravel(), axis=0)
    table = Table(1, 2, 2)
    minimised(SequenceCrossEntropy(smoothness), table, np.zeros(100, dtype=np.int64), labels)
    found = np.exp(log_probs_of(table))[0, :, 0]
    np.testing.assert_allclose(found, (first, second), atol=6e-4)

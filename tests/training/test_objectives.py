from typing import Any

import numpy as np
import pytest

torch: Any = pytest.importorskip("torch")

from service.bundle.declared_inverse import inverse_record, label_inverse_record
from service.bundle.manifest import Manifest, parse_manifest
from service.core.inverse import INVERSES
from service.core.losses import LOSSES
from service.core.numerics import log_softmax
from service.training import objectives
from service.training.failures import TrainingFailed
from service.training.objectives import (
    CrossEntropy,
    Distillation,
    Focal,
    LabelSmoothing,
    Mixup,
    MultilabelCrossEntropy,
    MultilabelFocal,
    Objective,
    SequenceCrossEntropy,
    Weighted,
    logits_of,
)
from tests.documents import DOCS, first_cells, section, text_of
from tests.training.every_objective import EVERY, OBJECTIVES
from tests.training.manifests import CLASSES, manifest_text


def batch(objective: Any):
    """Logits, which an identity hands on, and labels that fit them."""
    rng = np.random.default_rng(0)
    if objective.task == "sequence":
        labels = rng.integers(0, 3, (6, 5))
        labels[0, 3:], labels[1, 1:] = -1, -1
        return rng.normal(size=(6, 5, 3)), labels
    shape = (6, 3) if objective.task == "multilabel" else (6,)
    return rng.normal(size=(6, 3)), rng.integers(0, 2, shape)


def losses(objective, network, logits, labels):
    generator = torch.Generator().manual_seed(0)
    return objective.losses(network, torch.from_numpy(logits), torch.from_numpy(labels), generator)


def declared_by(objective: Any) -> Manifest:
    """The manifest of a model that an objective declared itself in."""
    return parse_manifest(manifest_text(objective.task, objective.declared(CLASSES)))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_losses_of_rows_are_those_of_core(name):
    objective, loss, parameters = OBJECTIVES[name]
    logits, labels = batch(objective)
    teacher = {"teacher": logits} if loss == "distillation" else {}
    expected, _ = LOSSES[loss](logits, labels, **parameters, **teacher)
    found = losses(objective, torch.nn.Identity(), logits, labels)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def test_mixup_compares_mixed_rows_with_mixed_labels_and_mixes_in_training_alone():
    logits, labels = batch(Mixup())
    network = torch.nn.Identity()
    plain = losses(CrossEntropy(), network, logits, labels).numpy()
    assert np.abs(losses(Mixup(1.0), network, logits, labels).numpy() - plain).max() > 0.01
    np.testing.assert_array_equal(losses(Mixup(1.0), network.eval(), logits, labels).numpy(), plain)


def test_mixing_hardly_at_all_is_cross_entropy():
    logits, labels = batch(Mixup())  # of Beta(a, a) with a tiny a, shares are 0 or 1: every row is one of the rows
    found = losses(Mixup(1e-3), torch.nn.Identity(), logits, labels).numpy()
    plain = losses(CrossEntropy(), torch.nn.Identity(), logits, labels).numpy()
    assert np.abs(found[:, None] - plain[None, :]).min(axis=1).max() < 1e-6


def test_a_teacher_does_not_learn_and_is_in_evaluation_mode():
    teacher = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(3, 3, dtype=torch.float64))
    student = torch.nn.Linear(3, 3, dtype=torch.float64)
    objective, (rows, labels) = Distillation(teacher), batch(CrossEntropy())
    first, second = (losses(objective, student, rows, labels) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    first.sum().backward()
    assert student.weight.grad is not None
    assert teacher[1].weight.grad is None


def test_logits_are_the_first_of_several_outputs():
    class Two(torch.nn.Module):
        def forward(self, inputs):
            return 2.0 * inputs, inputs

    assert logits_of(Two(), torch.ones(1)).item() == 2.0


# ------------------------------------------------------------------------------------------------ what it declares


@pytest.mark.parametrize("name", EVERY)
def test_what_an_objective_declares_is_a_training_section(name):
    objective, loss, parameters = EVERY[name]
    training = declared_by(objective).training
    values = training.model_dump(exclude_none=True, exclude={"loss"})
    numbers = [v for value in values.values() for v in (value.values() if isinstance(value, dict) else [value])]
    expected = [v for value in parameters.values() for v in np.atleast_1d(value)]
    expected = {"labels, focal": [2.0, 0.25, 0.25, 0.25], "mixup": [0.3]}.get(name, expected)
    assert numbers == pytest.approx(expected)
    assert training.loss in (loss, "cross_entropy", "weighted", "focal")


def test_numbers_of_numpy_are_declared_as_plain_ones():
    half: Any = np.float32(0.5)
    weights = (half, 3 * half, 4 * half)
    assert list(map(type, Weighted(weights).declared(CLASSES)["class_weights"].values())) == [float] * 3
    for objective, key in (
        (Focal(half), "gamma"),
        (LabelSmoothing(half), "epsilon"),
        (Mixup(half), "mixup_alpha"),
        (SequenceCrossEntropy(half), "smoothness"),
    ):
        assert type(objective.declared(CLASSES)[key]) is float


@pytest.mark.parametrize("name", EVERY)
def test_the_service_undoes_what_validation_undoes(name):
    objective, _, _ = EVERY[name]
    manifest = declared_by(objective)
    outputs = 2.0 * np.random.default_rng(0).normal(size=(20, 3))
    if objective.task == "multilabel":
        records = [label_inverse_record(manifest, label) for label in CLASSES]
        served = np.stack([undone(*pair) for pair in zip(records, outputs.T, strict=True)], axis=1)
    else:
        outputs = log_softmax(outputs)
        served = undone(inverse_record(manifest), outputs)
    np.testing.assert_allclose(objective.recovered(outputs), served, rtol=1e-12)


def undone(record, outputs):
    """What stage B of the service makes of outputs."""
    return outputs if record is None else INVERSES[record.loss](**record.params).apply(outputs)


@pytest.mark.parametrize("name", ["cross-entropy", "mixup", "distillation", "labels", "sequence", "sequence, smooth"])
def test_without_a_closed_form_nothing_is_undone(name):
    outputs = np.random.default_rng(0).normal(size=(4, 3))
    np.testing.assert_array_equal(EVERY[name][0].recovered(outputs), outputs)


def test_weights_that_are_not_one_per_class_are_refused():
    for objective in (Weighted((1.0, 2.0)), Focal(alpha=(1.0, 2.0)), MultilabelCrossEntropy((1.0, 2.0))):
        with pytest.raises(TrainingFailed, match="2 weights for 3 classes"):
            objective.declared(CLASSES)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Weighted, {"class_weights": (1.0, 0.0)}),
        (Weighted, {"class_weights": (1.0, float("inf"))}),
        (Focal, {"gamma": -1.0}),
        (Focal, {"alpha": (-1.0, 1.0)}),
        (LabelSmoothing, {"epsilon": 1.0}),
        (LabelSmoothing, {"epsilon": -0.1}),
        (Mixup, {"alpha": 0.0}),
        (Distillation, {"teacher": torch.nn.Identity(), "tau": 0.0}),
        (Distillation, {"teacher": torch.nn.Identity(), "soft_share": 1.5}),
        (Distillation, {"teacher": torch.nn.Identity(), "soft_share": -0.5}),
        (MultilabelCrossEntropy, {"positive_weights": (0.0,)}),
        (MultilabelFocal, {"gamma": float("nan")}),
        (MultilabelFocal, {"alpha": 1.0}),
        (SequenceCrossEntropy, {"smoothness": -1.0}),
    ],
)
def test_numbers_that_a_loss_cannot_have_are_refused_before_anything_is_trained(kind, options):
    with pytest.raises(ValueError, match="must be"):
        kind(**options)


def test_every_objective_is_tried_here():
    kinds = [kind for kind in vars(objectives).values() if isinstance(kind, type) and kind is not Objective]
    assert {type(objective) for objective, _, _ in EVERY.values()} == {kind for kind in kinds if "task" in vars(kind)}


def test_the_guide_lists_every_objective():
    assert {type(objective).__name__ for objective, _, _ in EVERY.values()} == {
        name.partition("(")[0] for name in first_cells(section(text_of(DOCS / "guide/training.md"), "Which loss"))
    }

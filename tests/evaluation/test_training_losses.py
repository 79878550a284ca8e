from collections.abc import Callable

import numpy as np
import pytest

from service.bundle.manifest import Manifest
from service.core.losses import LOSSES
from service.errors import InvalidParameters
from service.evaluation.training_losses import NAMES, named_losses

LOG_PROBS = np.log([[0.7, 0.3], [0.2, 0.8], [0.6, 0.4]])
LABELS = np.array([0, 1, 1], dtype=np.intp)
WEIGHTED = '[training]\nloss = "weighted"\nclass_weights = { ann = 1.0, bob = 9.0 }\n'
FOCAL = '[training]\nloss = "focal"\ngamma = 3.0\n'


@pytest.mark.parametrize("name", [name for name in NAMES["multiclass"] if not LOSSES[name].required])
def test_a_loss_that_needs_nothing_is_reported_by_name(name: str, toy_manifest: Callable[..., Manifest]) -> None:
    found = named_losses([name], LOG_PROBS, LABELS, toy_manifest())
    assert found == {name: pytest.approx(LOSSES[name](LOG_PROBS, LABELS)[0].mean())}


def test_cross_entropy_is_the_log_loss(toy_manifest: Callable[..., Manifest]) -> None:
    found = named_losses(["cross_entropy"], LOG_PROBS, LABELS, toy_manifest())
    assert found["cross_entropy"] == pytest.approx(-np.log([0.7, 0.8, 0.4]).mean())


def test_a_loss_takes_the_parameters_it_was_trained_with(toy_manifest: Callable[..., Manifest]) -> None:
    p = np.array([0.7, 0.8, 0.4])
    focal = named_losses(["focal"], LOG_PROBS, LABELS, toy_manifest(2, FOCAL))["focal"]
    assert focal == pytest.approx(-((1 - p) ** 3 * np.log(p)).mean())
    weighted = named_losses(["weighted"], LOG_PROBS, LABELS, toy_manifest(2, WEIGHTED))["weighted"]
    weights = np.array([1.0, 9.0, 9.0])
    assert weighted == pytest.approx((-weights * np.log(p)).mean())


def test_the_loss_of_a_sequence_has_the_smoothness_it_was_trained_with() -> None:
    log_probs, labels = LOG_PROBS[None], LABELS[None]
    table = {"schema": 1, "title": "t", "inputs": [{"name": "x"}], "training": {"smoothness": 2.0}}
    graph = {"output": "z", "output_kind": "logits", "classes": ["a", "b"], "task": "sequence"}
    found = named_losses(
        ["sequence_cross_entropy"], log_probs, labels, Manifest.model_validate(table | {"graph": graph})
    )
    expected = LOSSES["sequence_cross_entropy"](log_probs, labels, smoothness=2.0)[0].mean()
    assert found == {"sequence_cross_entropy": pytest.approx(expected)}


@pytest.mark.parametrize(
    ("name", "code"), [("hinge", "unknown-loss"), ("mixup", "unknown-loss"), ("weighted", "undeclared-loss")]
)
def test_a_loss_that_cannot_be_computed_is_refused_with_its_place(
    name: str, code: str, toy_manifest: Callable[..., Manifest]
) -> None:
    with pytest.raises(InvalidParameters) as refused:
        named_losses(["cross_entropy", name], LOG_PROBS, LABELS, toy_manifest())
    assert [(fault.path, fault.code) for fault in refused.value.faults] == [(("parameters", "losses", 1), code)]

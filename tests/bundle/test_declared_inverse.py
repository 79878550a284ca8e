from collections.abc import Callable
from typing import Any

import pytest

from service.bundle.declared_inverse import InverseUse, inverse_use
from service.bundle.manifest import Manifest, parse_manifest
from service.bundle.record import InverseRecord, LabelRecord, Record

LABELLED = """\
schema = 1
title = "t"
[graph]
output = "z"
output_kind = "sigmoid_logits"
task = "multilabel"
classes = ["a", "b"]
[[inputs]]
name = "x"
[training]
loss = "weighted"
class_weights = { a = 3.0, b = 5.0 }
"""
FOCAL = InverseRecord(loss="focal", params={"gamma": 2.0})


def record_with(inverse: InverseRecord | None, **labels: InverseRecord | None) -> Record:
    """A record with nothing else in it."""
    of_labels: list[dict[str, Any]] = [{"inverse": label} for label in labels.values()]
    own = [LabelRecord.model_construct(None, **values) for values in of_labels]
    values: dict[str, Any] = {"inverse": inverse, "labels": dict(zip(labels, own, strict=True))}
    return Record.model_construct(None, **values)


@pytest.mark.parametrize("loss", ["", 'loss = "mixup"', 'loss = "distillation"\ntau = 4'])
def test_a_loss_without_an_exact_inverse_has_none(loss: str, toy_manifest: Callable[..., Manifest]) -> None:
    assert inverse_use(toy_manifest(2, f"[training]\n{loss}\n"), record_with(None)) is None


@pytest.mark.parametrize(
    ("record", "applied"),
    [
        pytest.param(None, False, id="uncalibrated"),
        pytest.param(record_with(None), False, id="not recorded"),
        pytest.param(record_with(FOCAL), True, id="recorded"),
    ],
)
def test_an_inverse_is_applied_where_the_record_has_it(
    record: Record | None,
    applied: bool,  # noqa: FBT001
    toy_manifest: Callable[..., Manifest],
) -> None:
    manifest = toy_manifest(2, '[training]\nloss = "focal"\ngamma = 2.0\n')
    assert inverse_use(manifest, record) == InverseUse("focal", applied)


def test_of_labels_it_names_those_that_have_it() -> None:
    manifest, weight = parse_manifest(LABELLED), InverseRecord(loss="multilabel_cross_entropy", params={})
    name = weight.loss
    assert inverse_use(manifest, None) == InverseUse(name, applied=False, labels=())
    assert inverse_use(manifest, record_with(None, a=None, b=None)) == InverseUse(name, applied=False, labels=())
    assert inverse_use(manifest, record_with(None, a=None, b=weight)) == InverseUse(name, applied=True, labels=("b",))

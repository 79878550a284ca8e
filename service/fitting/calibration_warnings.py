"""Refusals and warnings of a calibration, in words."""

from typing import Final

from service.bundle.declared_inverse import inverse_record
from service.bundle.manifest import Manifest
from service.bundle.record import CalibratorRecord
from service.core.numerics import Indices
from service.errors import NoSignal

FEW_ROWS: Final = 30
FEW_PER_CLASS: Final = 5
NOTHING_LEARNED: Final = (
    "the labels do not belong to these rows, the classes are in another order, or the model learned nothing"
)
BIAS_NEEDED: Final = (
    "a class is favoured in all rows alike, and no temperature can correct that. Leave --calibrator out, or name one "
    "that has a bias, as bcts"
)
SEPARABLE: Final = "these rows are separable, so no finite parameters are best and certainty would have no bound"


def no_signal(*, needs_bias: bool) -> NoSignal:
    """The refusal of logits without signal; ``needs_bias``: a constant taken off each class gives them one."""
    why = f"without a bias: {BIAS_NEEDED}" if needs_bias else f"explains: {NOTHING_LEARNED}"
    return NoSignal(f"the true class' logit is on average no larger than chance {why}. Nothing was published")


def mixture_words(support: float) -> str:
    """How separable rows are handled."""
    share = f"1/{1.0 / support:.0f}"
    return f"{share} of the uniform distribution is mixed in, the smallest error that so many rows or groups can show"


def of_loss(manifest: Manifest, record: CalibratorRecord, *, inverted: bool) -> dict[str, bool]:
    """Warnings about the training loss, and whether each holds; ``inverted``: its inverse is applied."""
    loss = manifest.training.loss
    temperature = record.params.get("temperature") if record.method == "temperature" else None
    return {
        f"the inverse of the {loss} loss did not help on held-out rows and is not applied": (
            not inverted and inverse_record(manifest) is not None
        ),
        f"the training loss is {loss!r}, which has no exact inverse: calibration only approximates its posterior": (
            loss in {"mixup", "distillation"}
        ),
        "mixup leaves a model under-confident, yet the temperature is above 1: check the rows": (
            loss == "mixup" and isinstance(temperature, float) and temperature > 1.0
        ),
    }


def of_source(*, unknown: bool, missing: bool) -> dict[str, bool]:
    """Warnings about an unknown source prevalence, and whether each holds; ``missing``: a class has no rows."""
    return {
        "the mean calibrated probability disagrees with the class frequencies, so the source prevalence is unknown and "
        "requests for another prevalence will be refused: a temperature cannot move that mean, a bias can "
        "(--calibrator auto or bcts), and so can declaring [training]": unknown and not missing,
        "a class has no rows, so the source prevalence is unknown: requests for another one will be refused": (
            unknown and missing
        ),
    }


def of_rows(classes: tuple[str, ...], counts: Indices, *, units: int, grouped: bool) -> dict[str, bool]:
    """Warnings about few rows, or groups, of all classes and of any; ``counts`` are those of every class."""
    rare = [name for name, count in zip(classes, counts, strict=True) if count < FEW_PER_CLASS]
    kind = "groups" if grouped else "rows"
    return {
        f"only {units} {kind}: what was fitted is uncertain": units < FEW_ROWS,
        f"fewer than {FEW_PER_CLASS} {kind} of {', '.join(rare)}": bool(rare),
    }

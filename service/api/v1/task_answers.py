"""What is believed and decided of labels and of sequences, as it goes over the wire."""

from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np

from service.core.numerics import Indices
from service.core.sequence import SMOOTHERS, flat, lengths_of
from service.prediction.answer import Decided, Prediction

Json = dict[str, Any]
Item = TypeVar("Item")

STRUCTURE_ONLY = "structure only: smoothed so, probabilities are no longer calibrated"


def label_beliefs(prediction: Prediction) -> list[Json]:
    """Labels that are more likely present than not, and the probability of each; none of a set of them."""
    names = prediction.model.classes
    shares = np.exp(prediction.log_probs[..., 1])
    likely = prediction.log_probs[..., 1] >= prediction.log_probs[..., 0]
    return [
        {"labels": [names[m] for m in np.flatnonzero(row)], "probabilities": dict(zip(names, p, strict=True))}
        for row, p in zip(likely, shares.tolist(), strict=True)
    ]


def position_beliefs(prediction: Prediction) -> list[Json]:
    """Class and probabilities of every unpadded position."""
    classes, lengths = prediction.model.classes, lengths_of(prediction.posterior)
    log_probs = flat(prediction.log_probs, lengths)
    said = [dict(zip(classes, p, strict=True)) for p in np.exp(log_probs).tolist()]
    best = [classes[k] for k in log_probs.argmax(axis=1).tolist()]
    return [
        {"label": own, "probabilities": shares}
        for own, shares in zip(_by_row(best, lengths), _by_row(said, lengths), strict=True)
    ]


def place_label(rows: list[Json], part: Decided, decisions: list[Json], prediction: Prediction) -> None:
    """Put one label's decisions where its rows have them."""
    del prediction
    for row, decision in zip(rows, decisions, strict=True):
        row.setdefault("decisions", {})[part.label] = decision


def place_positions(rows: list[Json], part: Decided, decisions: list[Json], prediction: Prediction) -> None:
    """Put the decisions of positions where their sequences have them, with what the whole sequence costs."""
    for row, own in zip(rows, _by_row(decisions, lengths_of(prediction.posterior)), strict=True):
        row["decision"] = own
    if part.plan is not None and part.policy.switch is not None:
        columns = zip(rows, part.plan.switches.tolist(), part.plan.total.tolist(), strict=True)
        for row, switches, total in columns:
            row["path"] = {"switch": part.policy.switch, "switches": switches, "total_risk": total}


def smoother_member(prediction: Prediction) -> Json:
    """What an answer says of the smoother; nothing where rows are no sequences."""
    if prediction.smoother is None:
        return {}
    keeps = SMOOTHERS[prediction.smoother].keeps_calibration
    return {"smoother": {"name": prediction.smoother, "calibrated": keeps, "note": None if keeps else STRUCTURE_ONLY}}


def _by_row(items: list[Item], lengths: Indices) -> Iterator[list[Item]]:
    end = 0
    for length in lengths.tolist():
        start, end = end, end + length
        yield items[start:end]

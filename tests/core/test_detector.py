"""One row, one flag: alone, in a batch, and wherever its score has other last digits."""

from dataclasses import dataclass

import numpy as np
import pytest

from service.core.calibration import Map
from service.core.calibration.temperature import Temperature
from service.core.conformal import reference, threshold
from service.core.detector import Detector, predicted_class, tied_classes
from service.core.mondrian import references_by_class, thresholds_by_class, with_fallback
from service.core.numerics import Array, Flags, log_softmax
from service.core.ood import SCORES, Score
from service.core.pipeline import Chain, postprocess
from service.core.score_ties import ROUNDING

ROWS, CLASSES, FEATURES, ALPHA = 160, 3, 6, 0.1
MOVES = [0.0, 1e-13, -1e-13]


@dataclass
class Data:
    logits: Array
    features: Array
    score: Score

    @property
    def values(self) -> Array:
        return self.features if self.score.needs == "features" else self.logits


def data(name: str, *, classes: int = CLASSES) -> Data:
    """Calibration rows of a score, some of them twice, and features in units far from zero."""
    rng = np.random.default_rng(5)
    units = rng.normal(size=FEATURES) * np.logspace(-2, 6, FEATURES)
    rows = rng.normal(size=(ROWS, FEATURES)) * np.logspace(-3, 3, FEATURES) + units
    logits = 3.0 * rng.normal(size=(ROWS, classes))
    logits[1::10], rows[1::10] = logits[::10], rows[::10]
    labels = rng.integers(0, classes, size=ROWS)
    kind = SCORES[name]
    return Data(logits, rows, kind.fit(rows if kind.needs == "features" else logits, labels, logits=logits))


class Normalised:
    """A calibrator that is no temperature, so that nothing is fused."""

    def apply(self, logits: Array) -> Array:
        return log_softmax(logits)


def chain_of(name: str, found: Data, *, fused: bool = True, move: float = 0.0) -> Chain:
    calibration = reference(found.score.score(found.values))
    detector = Detector(name, found.score, calibration, threshold(calibration, alpha=ALPHA), gated=True)
    if move:
        shift(detector, 1.0 + move)
    wide = np.full(FEATURES, np.inf)
    calibrator: Map = Temperature(1.5) if fused else Normalised()
    return Chain((detector,), -wide, wide, False, calibrator, True)


def shift(detector: Detector, factor: float) -> None:
    """Let every path compute the score with another last digit."""
    swept, score = detector.swept, detector.score
    if swept is not None:
        object.__setattr__(detector, "swept", lambda top, nll: factor * swept(top, nll))
    object.__setattr__(detector, "score", Moved(score, factor))


@dataclass(frozen=True)
class Moved:
    score_: Score
    factor: float

    @property
    def needs(self) -> str:
        return self.score_.needs

    def score(self, values: Array) -> Array:
        return self.factor * self.score_.score(values)


def answers(chain: Chain, found: Data, size: int) -> tuple[Array, Array, Array, Flags]:
    """Scores, p-values, joint p-values and flags of all rows, in batches of a size."""
    slices = [slice(i, i + size) for i in range(0, ROWS, size)]
    parts = [postprocess(chain, found.logits[s], found.features[s], features=found.features[s]) for s in slices]
    members = ((p.scores[:, 0], p.p_values[:, 0], p.p_value, p.flagged) for p in parts)  # type: ignore[index]
    scores, p, joint, flags = (np.concatenate(part) for part in zip(*members, strict=True))
    return scores, p, joint, flags


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "apart"])
@pytest.mark.parametrize("name", SCORES)
def test_every_path_computes_a_score_to_within_its_band(name: str, *, fused: bool) -> None:
    found = data(name)
    plain, chain = found.score.score(found.values), chain_of(name, found, fused=fused)
    for size in (1, 2, 7, ROWS):
        apart = np.abs(answers(chain, found, size)[0] - plain)
        assert (apart <= 0.01 * ROUNDING.widths(plain) + 1e-300).all()


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "apart"])
@pytest.mark.parametrize("name", SCORES)
def test_no_last_digit_of_a_score_moves_a_p_value_or_a_flag(name: str, move: float, *, fused: bool) -> None:
    found = data(name)
    expected = answers(chain_of(name, found, fused=fused), found, ROWS)
    moved = chain_of(name, found, fused=fused, move=move)
    for size in (1, 7, ROWS):
        for one, other in zip(answers(moved, found, size)[1:], expected[1:], strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_row_between_two_classes_is_held_against_the_more_lenient() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(900, 2))
    scores, predicted = rng.exponential(size=900) * (1 + 9 * logits.argmax(axis=1)), logits.argmax(axis=1)
    among, groups = reference(scores), references_by_class(scores, predicted, classes=2)
    usual, own = threshold(among, alpha=ALPHA), thresholds_by_class(groups, alpha=ALPHA)
    by_class = with_fallback(groups, own, among=among, usual=usual)
    detector = Detector("nll", SCORES["nll"](), among, usual, gated=True, by_class=by_class, tie=1e-6)
    between = np.array([[1.0, 1.0 + 1e-9], [1.0 + 1e-9, 1.0], [2.0, 0.0]])
    limits, p = detector.thresholds(between), detector.p_values(np.full(3, 5.0), between)
    assert limits is not None
    assert p is not None
    assert limits.tolist() == [own[1], own[1], own[0]]
    assert p[0] == p[1] > ALPHA >= p[2]
    far = np.linspace(0.0, 40.0, 900)
    limits, p = detector.thresholds(logits), detector.p_values(far, logits)
    assert limits is not None
    assert p is not None
    np.testing.assert_array_equal(far > limits, p <= ALPHA)


def test_without_a_tie_one_class_is_the_predicted_one() -> None:
    logits = np.array([[1.0, 1.0], [0.0, 2.0]])
    np.testing.assert_array_equal(tied_classes(logits, 0.0).argmax(axis=1), predicted_class(logits))
    assert tied_classes(logits, 0.0).sum(axis=1).tolist() == [1, 1]

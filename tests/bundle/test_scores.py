import numpy as np
import pytest

from service.bundle.record import ScoreRecord
from service.bundle.scores import (
    fields_of,
    pack_score,
    restore_by_class,
    restore_reference,
    restore_score,
    state_bytes,
    state_names,
)
from service.bundle.state import State, dump_state, load_state
from service.core import conformal, mondrian
from service.core.numerics import Array
from service.core.ood import SCORES
from service.core.ood.nll import Nll

ROWS = np.random.default_rng(0).normal(size=(50, 3))
LABELS = np.arange(50) % 3
CLASSES = ("a", "b", "c")


@pytest.mark.parametrize("name", SCORES)
def test_a_fitted_score_survives_the_disk_to_the_last_bit(name: str) -> None:
    fitted = SCORES[name].fit(ROWS, LABELS)
    calibration = conformal.reference(fitted.score(ROWS))
    state = load_state(dump_state(pack_score(name, fitted, calibration)), where="state.npz")
    restored, reference = restore_score(name, state), restore_reference(name, state)
    np.testing.assert_array_equal(restored.score(ROWS), fitted.score(ROWS))
    np.testing.assert_array_equal(reference.scores, calibration.scores)
    np.testing.assert_array_equal(reference.ranks, calibration.ranks)
    np.testing.assert_array_equal(reference.caps, calibration.caps)
    assert reference.n == calibration.n


def test_thinned_calibration_scores_keep_their_ranks_on_the_disk() -> None:
    calibration = conformal.reference(np.random.default_rng(2).normal(size=3000), limit=1000)
    score = SCORES["nll"].fit(ROWS, LABELS)
    restored = restore_reference("nll", load_state(dump_state(pack_score("nll", score, calibration)), where="s"))
    assert restored.n == 3000
    new = np.linspace(-3, 3, 50)
    np.testing.assert_array_equal(conformal.p_values(restored, new), conformal.p_values(calibration, new))


def test_only_arrays_of_a_score_are_stored_and_under_its_name() -> None:
    packed = pack_score("mahalanobis", SCORES["mahalanobis"].fit(ROWS, LABELS), conformal.reference(ROWS[:, 0]))
    fields = {f"mahalanobis.{field}" for field in fields_of("mahalanobis")}
    assert set(packed) == fields | {f"mahalanobis:{part}" for part in ("scores", "ranks", "n", "caps")}


def test_the_usual_temperature_is_not_stored_and_any_other_survives_the_disk() -> None:
    reference = conformal.reference(ROWS[:, 0])
    assert not any(key.startswith("nll.") for key in pack_score("nll", Nll(), reference))
    state = load_state(dump_state(pack_score("nll", Nll(np.array(3.2)), reference)), where="state.npz")
    np.testing.assert_array_equal(restore_score("nll", state).score(ROWS), Nll(np.array(3.2)).score(ROWS))


def by_class(scores: Array) -> mondrian.ByClass:
    """Two classes with rows enough, and one without."""
    groups = mondrian.references_by_class(scores, np.repeat([0, 1, 2], [100, 90, 10]), classes=3)
    thresholds = mondrian.thresholds_by_class(groups, alpha=0.05)
    return mondrian.with_fallback(groups, thresholds, among=conformal.reference(scores), usual=1.5)


def test_references_of_every_class_survive_the_disk_and_the_rarest_share_that_of_all_rows() -> None:
    scores = np.random.default_rng(1).normal(size=200)
    fitted = by_class(scores)
    rows_by_class = zip(CLASSES, (100, 90, 10), fitted.thresholds.tolist(), fitted.own, strict=True)
    record = ScoreRecord.model_validate(
        {
            "threshold": 1.5,
            "false_alarm": 0.05,
            "rows": 200,
            "trained_on": "nothing",
            "by_class": {c: {"rows": n, "threshold": t if own else None} for c, n, t, own in rows_by_class},
        }
    )
    state = load_state(dump_state(pack_score("nll", Nll(), conformal.reference(scores), fitted)), where="s")
    assert set(state) == state_names("nll", record) | {"nll:caps", "nll:class_caps"}
    restored = restore_by_class("nll", state, record, CLASSES)
    assert restored is not None
    np.testing.assert_array_equal(restored.thresholds, fitted.thresholds)
    assert restored.own.tolist() == [True, True, False]
    assert [group.n for group in restored.references] == [100, 90, 200]
    for found, expected in zip(restored.references, fitted.references, strict=True):
        new = np.linspace(-3, 3, 60)
        np.testing.assert_array_equal(conformal.p_values(found, new), conformal.p_values(expected, new))


def test_a_threshold_for_all_rows_needs_no_classes() -> None:
    record = ScoreRecord(threshold=1.5, false_alarm=0.05, rows=200, trained_on="nothing")
    assert restore_by_class("nll", {}, record, CLASSES) is None


def test_the_size_of_a_score_counts_its_own_arrays_alone() -> None:
    rows = np.zeros(10)
    state: State = {"knn.bank": rows, "knn:scores": rows, "knnish.bank": rows, "sets.marginal:n": rows}
    assert state_bytes(state, ["knn", "nll"]) == {"knn": 160, "nll": 0}

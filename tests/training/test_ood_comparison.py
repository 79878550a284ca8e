from typing import Any

import numpy as np
import pytest

torch: Any = pytest.importorskip("torch")

from service.core.ood import SCORES
from service.training.image_networks import fully_connected
from service.training.loop import Settings, train
from service.training.objectives import CrossEntropy
from service.training.ood_comparison import MULTICLASS_SCORES, logits_and_features, seen_by, separations
from tests.training.small_images import bars_of_light, lying

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def network():
    rows = bars_of_light()
    start = fully_connected(rows.inputs, 3, features=8)
    return train(start, CrossEntropy(), rows, bars_of_light(60, seed=1), Settings(epochs=8, learning_rate=0.01)).network


def test_every_score_of_a_multiclass_model_is_compared(network):
    found = separations(network, bars_of_light(), bars_of_light(80, seed=2).inputs, lying())
    assert set(found) == set(MULTICLASS_SCORES) == {n for n, s in SCORES.items() if s.needs != "sigmoid_logits"}
    assert all(0.0 <= value <= 1.0 for both in found.values() for value in both.values())


def test_rows_of_the_same_kind_are_not_separated_and_far_ones_are(network):
    train_rows, test = bars_of_light(), bars_of_light(200, seed=3).inputs
    same = separations(network, train_rows, test, bars_of_light(200, seed=4).inputs)
    far = separations(network, train_rows, test, 5.0 + lying(), scores=["mahalanobis"])
    assert {name: both["auroc"] for name, both in same.items() if abs(both["auroc"] - 0.5) > 0.15} == {}
    assert far == {"mahalanobis": {"auroc": 1.0, "fpr95": 0.0}}


def test_rows_out_of_distribution_are_the_positive_class(network):
    train_rows, test = bars_of_light(), bars_of_light(100, seed=3).inputs
    ood = lying(100)
    (both,) = separations(network, train_rows, test, ood, scores=["energy"]).values()
    own, others = (SCORES["energy"]().score(logits_and_features(network, rows)[0]) for rows in (test, ood))
    above = np.sort(others)[int(0.05 * len(others))]  # 95 % of the others are at least as high
    assert both["fpr95"] == pytest.approx((own >= above).mean())
    pairs = np.sign(others[:, None] - own)
    assert both["auroc"] == pytest.approx(0.5 + 0.5 * pairs.mean())


@pytest.mark.parametrize("name", MULTICLASS_SCORES)
def test_scores_look_at_features_where_they_need_them(name):
    logits, features = np.zeros((2, 3)), np.ones((2, 5))
    assert seen_by(name, (logits, features)).shape == ((2, 5) if SCORES[name].needs == "features" else (2, 3))

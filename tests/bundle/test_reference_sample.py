"""Calibration rows of prevalence estimates in `state.npz`."""

import numpy as np
import pytest

from service.bundle.reference_sample import STORED_CELLS, STORED_ROWS, UNKNOWN, pack_sample, restore_sample
from service.bundle.state import State, dump_state, load_state
from service.core.label_shift import Sample
from service.core.numerics import log_softmax


def sample_of(n: int, k: int, *, more: bool = False) -> Sample:
    rng = np.random.default_rng(0)
    labels = np.minimum(rng.geometric(0.3, size=n) - 1, k - 1)
    labels[:k] = np.arange(k)
    weights, groups = (rng.random(n) + 0.5, np.arange(n) // 2) if more else (None, None)
    return Sample(log_softmax(rng.normal(size=(n, k))), labels, np.ones(n, dtype=np.bool_), weights, groups)


def stored(state: State) -> State:
    return load_state(dump_state(state), where="state.npz")


@pytest.mark.parametrize("more", [False, True])
def test_what_is_stored_comes_back_class_by_class(*, more: bool) -> None:
    sample = sample_of(300, 3, more=more)
    gate = np.where(np.arange(300) % 2 == 0, UNKNOWN, np.arange(300) % 7 != 0)
    found = restore_sample(stored(pack_sample(sample, gate)))
    assert found is not None
    everything, gated = found
    assert gated is not None
    np.testing.assert_allclose(everything.confusion, sample.confusion, rtol=1e-6)
    np.testing.assert_allclose(everything.sizes, sample.sizes)
    assert everything.unflagged.all()
    assert len(gated.labels) == 150
    assert gated.unflagged.sum() == (gate == 1).sum()
    assert (everything.groups is None, everything.weights is None) == (not more, not more)


@pytest.mark.parametrize(("n", "k"), [(30_000, 2), (30_000, 40), (12_000, 100)])
def test_too_many_rows_are_thinned_and_rare_classes_kept_whole(n: int, k: int) -> None:
    sample = sample_of(n, k)
    found = restore_sample(pack_sample(sample, np.ones(n, dtype=np.intp)))
    assert found is not None
    kept, counts = np.bincount(found[0].labels, minlength=k), np.bincount(sample.labels, minlength=k)
    limit = min(STORED_ROWS, STORED_CELLS // k)
    assert limit - k <= kept.sum() <= limit
    assert (kept[counts <= kept.max() - 1] == counts[counts <= kept.max() - 1]).all()


def test_a_version_without_them_has_none_and_a_class_that_is_always_flagged_leaves_no_gated_sample() -> None:
    assert restore_sample({}) is None
    sample = sample_of(60, 3)
    found = restore_sample(pack_sample(sample, (sample.labels != 2).astype(np.intp)))
    assert found is not None
    assert found[1] is None

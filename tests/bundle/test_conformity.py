"""Label sets on their way through `state.npz`."""

import numpy as np
import pytest

from service.bundle.conformity import PARTS, Kind, pack_sets, restore_sets
from service.bundle.state import dump_state, load_state
from service.core.label_sets import fit

LOG_PROBS = np.log(np.random.default_rng(0).dirichlet(np.ones(3), size=60))
LABELS = np.arange(60) % 3


@pytest.mark.parametrize("kind", ["class_conditional", "marginal"])
@pytest.mark.parametrize("groups", [None, np.arange(60) // 4], ids=["rows", "groups"])
def test_sets_read_from_a_file_are_those_that_were_fitted(kind: Kind, groups: np.ndarray | None) -> None:
    fitted = fit(LOG_PROBS, LABELS, method="raps", conditional=kind == "class_conditional", groups=groups)
    state = load_state(dump_state(pack_sets(kind, fitted)), where="state.npz")
    restored = restore_sets(kind, state, method="raps")
    assert restored is not None
    assert (restored.method, restored.tie) == ("raps", fitted.tie)
    for ours, theirs in zip(restored.conformities, fitted.conformities, strict=True):
        assert ours.n == theirs.n
        np.testing.assert_array_equal(ours.scores, theirs.scores)
        np.testing.assert_array_equal(ours.ranks, theirs.ranks)
        np.testing.assert_array_equal(ours.caps, theirs.caps)
        np.testing.assert_array_equal(ours.reach, theirs.reach)
    for coverage in (0.1, 0.5, 0.9, 0.99):
        assert restored.thresholds(coverage).tolist() == fitted.thresholds(coverage).tolist()


def test_a_class_without_rows_comes_back_empty() -> None:
    fitted = fit(LOG_PROBS, np.minimum(LABELS, 1), conditional=True)
    restored = restore_sets("class_conditional", pack_sets("class_conditional", fitted), method="lac")
    assert restored is not None
    assert [part.n for part in restored.conformities] == [20, 40, 0]
    assert restored.thresholds(0.5)[2] == np.inf


@pytest.mark.parametrize("part", PARTS)
def test_sets_that_lack_a_part_are_no_sets(part: str) -> None:
    state = pack_sets("marginal", fit(LOG_PROBS, LABELS, conditional=False))
    del state[f"sets.marginal:{part}"]
    assert restore_sets("marginal", state, method="lac") is None
    assert restore_sets("class_conditional", state, method="lac") is None

"""Answers of a fitted version for synthetic rows, which every load must repeat."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.bundle.drafts import open_draft
from service.bundle.manifest import MANIFEST_FILE
from service.bundle.repository import Bundle, Repository
from service.bundle.self_test import PREFIX, TOLERANCE, SelfTest, pack_self_test, restore_self_test
from service.errors import BundleDamaged
from service.fitting.fit import FitRequest, fit
from service.fitting.publish import publish_draft
from service.runtime.model import SELF_TEST_ROWS, load_model


@pytest.fixture
def data(truth: Callable[..., Any], save: Callable[..., Path]) -> Path:
    x, y = truth(300)
    return save(X=x, y=y)


@pytest.fixture
def repository(toy: Callable[..., Repository], data: Path) -> Repository:
    """A repository with version 1 of a model of two features, of which one has a range."""
    repository = toy(2, "[features.f0]\nplausible = [-20, 20]\n")
    fit(repository, "toy", FitRequest(data))
    return repository


@pytest.fixture
def bundle(repository: Repository) -> Bundle:
    return repository.bundle("toy", 1)


def altered(bundle: Bundle, **arrays: Any) -> Bundle:
    return dataclasses.replace(bundle, state=bundle.state | {PREFIX + name: array for name, array in arrays.items()})


def test_a_fitted_version_keeps_a_few_rows_and_what_it_answers_to_them(bundle: Bundle) -> None:
    test, model = restore_self_test(bundle.state), load_model(bundle)
    assert test is not None
    posterior = model.posterior(test.columns)
    np.testing.assert_array_equal(test.logits, posterior.logits)
    np.testing.assert_array_equal(test.log_probs, posterior.log_probs)
    assert len(np.unique(test.logits, axis=0)) == SELF_TEST_ROWS, "rows that are alike would prove less"


def test_its_rows_are_synthetic(bundle: Bundle, data: Path) -> None:
    test = restore_self_test(bundle.state)
    assert test is not None
    with np.load(data) as archive:
        values = set(archive["X"].ravel().tolist())
    assert not values & set(test.columns.ravel().tolist())


@pytest.mark.parametrize("name", ["logits", "log_probs"])
def test_a_version_that_answers_otherwise_is_refused(name: str, bundle: Bundle) -> None:
    stored = np.asarray(bundle.state[PREFIX + name], dtype=np.float64)
    with pytest.raises(BundleDamaged, match=r"fails its self-test, logits off by .* 0\.001 is allowed"):
        load_model(altered(bundle, **{name: stored + 0.05}))


def test_answers_of_another_shape_are_refused(bundle: Bundle) -> None:
    with pytest.raises(BundleDamaged, match="answers of another shape"):
        load_model(altered(bundle, logits=np.zeros((1, 2))))


def test_other_processors_may_round_otherwise(bundle: Bundle) -> None:
    stored = np.asarray(bundle.state[f"{PREFIX}logits"], dtype=np.float64)
    assert load_model(altered(bundle, logits=stored * (1.0 + 0.5 * TOLERANCE))).status == "ok"


def test_a_version_that_is_older_than_the_self_test_loads(bundle: Bundle) -> None:
    state = {name: array for name, array in bundle.state.items() if not name.startswith(PREFIX)}
    assert load_model(dataclasses.replace(bundle, state=state)).status == "ok"


def test_ranges_may_change_without_a_new_calibration(repository: Repository) -> None:
    manifest = open_draft(repository, "toy") / MANIFEST_FILE
    text = manifest.read_text().replace("plausible = [-20, 20]", "plausible = [70, 80]\nallowed = [60, 90]")
    manifest.write_text(text)
    published = publish_draft(repository, "toy")
    assert published.why_uncalibrated is None
    assert load_model(repository.bundle("toy", published.version)).status == "ok"


def test_a_draft_is_not_held_to_answers_that_its_manifest_may_have_changed(repository: Repository) -> None:
    open_draft(repository, "toy")
    draft = repository.draft("toy")
    assert load_model(altered(draft, logits=np.zeros((1, 2)))).status == "ok"


def test_text_and_lengths_come_back_as_they_were() -> None:
    feeds = {"t": np.array([["é"], [""]], dtype=object), "ids": np.array([[1, 2], [3, 0]])}
    test = SelfTest(np.empty((2, 0)), feeds, np.array([2, 1]), np.zeros((2, 2)), np.zeros((2, 2)))
    state = pack_self_test(test)
    assert not any(array.dtype.hasobject for array in state.values())
    found = restore_self_test(state)
    assert found is not None
    assert found.feeds["t"].dtype == np.dtype(object)
    assert found.feeds["t"].tolist() == feeds["t"].tolist()
    assert found.feeds["ids"].tolist() == feeds["ids"].tolist()
    assert found.lengths is not None
    assert found.lengths.tolist() == [2, 1]

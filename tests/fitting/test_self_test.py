"""Answers of a fitted version for synthetic rows, which every load must repeat."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.bundle.drafts import open_draft
from service.bundle.manifest import MANIFEST_FILE
from service.bundle.record import RECORD_FILE
from service.bundle.repository import Bundle, Repository
from service.bundle.self_test import PREFIX, TOLERANCE, SelfTest, pack_self_test, restore_self_test
from service.bundle.stage_test import PARTS, restore_stage_test
from service.bundle.state import State
from service.errors import BundleDamaged
from service.fitting.fit import FitRequest, fit
from service.fitting.publish import publish_draft
from service.runtime.model import SELF_TEST_ROWS, load_model
from tests.fitting.changed import Version


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
    assert len(np.unique(test.logits, axis=0)) == len(test.columns) > SELF_TEST_ROWS, "alike, they would prove less"


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


SITES = """
[features.f0]
plausible = [-20, 20]
[sites.clinic]
prevalence = { ann = 0.25, bob = 0.75 }
[policies.act]
on_ood = "wait"
[policies.act.costs]
wait = { ann = 1, bob = 1 }
go = { ann = 0, bob = 5 }
"""
RULED = f"""
[ood]
scores = ["nll", "mahalanobis"]
gate = ["nll", "range"]
{SITES}"""
Edit = Callable[[Any, dict[str, Any]], None]


@pytest.fixture
def version(toy: Callable[..., Repository], data: Path) -> Version:
    """Version 1 of a model with two scores, a range, a site and a policy."""
    repository = toy(2, RULED)
    return Version(repository, "toy", fit(repository, "toy", FitRequest(data, calibrator="temperature")).version)


def set_temperature(record: Any, _state: dict[str, Any]) -> None:
    record["calibrator"]["params"]["temperature"] *= 1.5


def set_threshold(record: Any, _state: dict[str, Any]) -> None:
    record["scores"]["nll"]["threshold"] = 1e9


def sum_to_three(record: Any, _state: dict[str, Any]) -> None:
    record["source"]["prevalence"] = {"ann": 1.5, "bob": 1.5}


def move_source(record: Any, _state: dict[str, Any]) -> None:
    record["source"]["prevalence"] = {"ann": 0.5, "bob": 0.5}


def no_whitening(_record: Any, state: dict[str, Any]) -> None:
    state["mahalanobis.whitening"] = np.zeros((2, 2))


def other_whitening(_record: Any, state: dict[str, Any]) -> None:
    state["mahalanobis.whitening"] = state["mahalanobis.whitening"] * 1.01


def first_mean_away(_record: Any, state: dict[str, Any]) -> None:
    state["mahalanobis.means"] = state["mahalanobis.means"] + np.array([[1e9, 0.0], [0.0, 0.0]])


def last_mean_away(_record: Any, state: dict[str, Any]) -> None:
    state["mahalanobis.means"] = state["mahalanobis.means"] + np.array([[0.0, 0.0], [0.0, 1e9]])


def other_support(record: Any, _state: dict[str, Any]) -> None:
    record["support"] *= 1.76


def other_condition(record: Any, _state: dict[str, Any]) -> None:
    record["estimation"]["condition"] += 1.0


def no_gate(_record: Any, state: dict[str, Any]) -> None:
    del state["prevalence:gate"]


def no_rows(_record: Any, state: dict[str, Any]) -> None:
    state["nll:n"] = np.array(0)


def wrong_width(_record: Any, state: dict[str, Any]) -> None:
    state["mahalanobis.means"] = np.zeros((2, 5))


def other_width(_record: Any, state: dict[str, Any]) -> None:
    state |= {"mahalanobis.center": np.zeros(5), "mahalanobis.whitening": np.eye(5), "mahalanobis.means": np.eye(5)}


def falling_scores(_record: Any, state: dict[str, Any]) -> None:
    state["nll:scores"] = state["nll:scores"][::-1].copy()


def falling_ranks(_record: Any, state: dict[str, Any]) -> None:
    state["nll:ranks"] = state["nll:ranks"][::-1].copy()


def complex_scores(_record: Any, state: dict[str, Any]) -> None:
    state["nll:scores"] = state["nll:scores"].astype(complex)


def text_scores(_record: Any, state: dict[str, Any]) -> None:
    state["nll:scores"] = state["nll:scores"].astype(str)


def infinite_center(_record: Any, state: dict[str, Any]) -> None:
    state["mahalanobis.center"] = np.full(2, np.inf)


def low_caps(_record: Any, state: dict[str, Any]) -> None:
    state["nll:caps"] = state["nll:caps"] - 1.0


def fewer_caps(_record: Any, state: dict[str, Any]) -> None:
    state["nll:caps"] = state["nll:caps"][:-1]


def many_set_rows(_record: Any, state: dict[str, Any]) -> None:
    state["sets.marginal:stored"] = np.array([10**9])


def foreign_labels(_record: Any, state: dict[str, Any]) -> None:
    state["prevalence:labels"] = state["prevalence:labels"] + 7


RANGES: dict[str, tuple[Edit, str]] = {
    "a source prevalence that sums to three": (sum_to_three, r"source\.prevalence"),
    "support of other rows": (other_support, r"support: must be 1 / \(n \+ 1\)"),
    "a threshold from no rows": (no_rows, r"nll:n must hold whole numbers from 1"),
    "whitening of zeros": (no_whitening, r"mahalanobis\.whitening must have no column of zeros"),
    "means of another width": (wrong_width, r"mahalanobis\.means must have the shape \(any, 2\), not \(2, 5\)"),
    "features of another width": (other_width, r"state\.npz: "),
    "scores that fall": (falling_scores, r"nll:scores must not fall"),
    "ranks that fall": (falling_ranks, r"nll:ranks must rise"),
    "complex scores": (complex_scores, r"nll:scores"),
    "scores of text": (text_scores, r"nll:scores must hold numbers"),
    "an infinite centre": (infinite_center, r"mahalanobis\.center must be finite"),
    "caps below their scores": (low_caps, r"nll:caps must be at least the scores"),
    "fewer caps than scores": (fewer_caps, r"nll:caps must have the shape"),
    "more scores than there are": (many_set_rows, r"sets\.marginal:stored must hold 1 counts"),
    "labels of no class": (foreign_labels, r"prevalence:labels must name each of the 2 classes"),
}
ESTIMATES: dict[str, tuple[Edit, str]] = {
    "another condition": (other_condition, r"estimation\.condition of calibration\.json"),
    "estimates without rows": (no_gate, r"prevalence:gate, log_probs and labels must be there"),
}
ANSWERS: dict[str, tuple[Edit, str]] = {
    "another temperature": (set_temperature, r"log_probs is off by"),
    "a threshold that nothing exceeds": (set_threshold, r"thresholds is off by"),
    "another whitening": (other_whitening, r"scores is off by"),
    "a first class far away": (first_mean_away, r"scores is off by"),
    "a last class far away": (last_mean_away, r"scores is off by"),
    "another source prevalence": (move_source, r"shifted is off by"),
}


def edited(version: Version, edit: Edit) -> tuple[Any, dict[str, Any]]:
    record, state = version.record, dict(version.state)
    edit(record, state)
    return record, state


@pytest.mark.parametrize("case", RANGES | ANSWERS)
def test_a_number_that_was_changed_under_new_sums_is_refused(case: str, version: Version) -> None:
    version.write(*edited(version, (RANGES | ANSWERS)[case][0]))
    with pytest.raises(BundleDamaged) as refusal:
        load_model(version.loaded())
    assert str(version.folder) in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("case", ANSWERS)
def test_the_stages_notice_it_although_the_hash_was_renewed_too(case: str, version: Version) -> None:
    edit, message = ANSWERS[case]
    version.write_bound(*edited(version, edit))
    with pytest.raises(BundleDamaged, match=rf"fails the self-test of its stages, {message}"):
        load_model(version.loaded())


@pytest.mark.parametrize("case", ESTIMATES)
def test_what_estimates_rest_on_is_checked_although_the_hash_was_renewed_too(case: str, version: Version) -> None:
    edit, message = ESTIMATES[case]
    version.write_bound(*edited(version, edit))
    with pytest.raises(BundleDamaged, match=message):
        load_model(version.loaded())


@pytest.mark.parametrize("case", RANGES)
def test_a_number_out_of_range_is_refused_by_name_in_versions_of_any_age(case: str, version: Version) -> None:
    edit, message = RANGES[case]
    version.make_old()
    version.write(*edited(version, edit))
    with pytest.raises(BundleDamaged, match=message) as refusal:
        load_model(version.loaded())
    assert str(version.folder) in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("old", "new", "answer"),
    [
        ("go = { ann = 0, bob = 5 }", "go = { ann = 0, bob = 6 }", r"(risks|action)\.0"),
        ('on_ood = "wait"', 'on_ood = "go"', r"handed_over\.0"),
        ("prevalence = { ann = 0.25, bob = 0.75 }", "prevalence = { ann = 0.5, bob = 0.5 }", "shifted"),
        ("plausible = [-20, 20]", "plausible = [-20, 21]", "(outside|flagged)"),
        ("plausible = [-20, 20]", "plausible = [-20, 20]\nallowed = [-30, 30]", "a name .* or what a feature may hold"),
        ("plausible = [-20, 20]", "plausible = [-20, 20]\nmissing = { impute = 3 }", "a name .* may hold"),
        ("[sites.clinic]", "[sites.other]", "a name of a site"),
        ("go = {", "leave = {", "a name of a site, a policy or an action"),
    ],
    ids=[
        "a cost",
        "an action",
        "a site",
        "a range",
        "a bound",
        "a value for none",
        "a site's name",
        "an action's name",
    ],
)
def test_a_declaration_that_was_changed_after_publication_is_refused(
    old: str, new: str, answer: str, version: Version
) -> None:
    text = (version.folder / MANIFEST_FILE).read_text()
    assert old in text
    version.write(manifest=text.replace(old, new))
    with pytest.raises(BundleDamaged, match=rf"fails the self-test of its stages, {answer}.*manifest\.toml") as refusal:
        load_model(version.loaded())
    assert "\n" not in str(refusal.value)


def test_a_declaration_may_be_published_anew(version: Version) -> None:
    manifest = open_draft(version.repository, "toy") / MANIFEST_FILE
    manifest.write_text(manifest.read_text().replace("bob = 5", "bob = 6").replace("-20, 20", "-3, 3"))
    published = publish_draft(version.repository, "toy")
    assert published.why_uncalibrated is None
    renewed = version.repository.bundle("toy", published.version)
    assert load_model(renewed).policies["act"].cost[1, 1] == 6.0
    learned = [restore_stage_test("learned", bundle.state) for bundle in (version.loaded(), renewed)]
    declared = [restore_stage_test("declared", bundle.state) for bundle in (version.loaded(), renewed)]
    assert learned[0] is not None
    assert learned[1] is not None
    assert learned[0].departure(learned[1].answers, classes=2) is None
    assert declared[0] is not None
    assert declared[1] is not None
    assert declared[0].departure(declared[1].answers, classes=2) is not None


def test_a_draft_whose_calibration_was_changed_is_not_published(version: Version) -> None:
    path = open_draft(version.repository, "toy") / RECORD_FILE
    record = json.loads(path.read_text())
    set_temperature(record, {})
    path.write_text(json.dumps(record))
    with pytest.raises(BundleDamaged, match=r"content_sha256 is not that of this record"):
        publish_draft(version.repository, "toy")
    assert version.repository.versions("toy") == [1]


@pytest.mark.parametrize("name", ["added", "nll:caps"])
def test_an_array_that_was_added_or_removed_is_refused(name: str, version: Version) -> None:
    state = dict(version.state)
    if state.pop(name, None) is None:
        state[name] = np.zeros(1)
    version.write(state=state)
    with pytest.raises(BundleDamaged, match=r"content_sha256 is not that of this record and state\.npz"):
        version.loaded()


def test_a_version_that_lost_its_hash_alone_is_refused(version: Version) -> None:
    record = version.record
    del record["content_sha256"]
    version.write(record)
    with pytest.raises(BundleDamaged, match="content_sha256 is missing"):
        version.loaded()


def test_a_version_that_is_older_than_the_stages_test_loads_and_says_so(
    version: Version, caplog: pytest.LogCaptureFixture
) -> None:
    version.make_old()
    with caplog.at_level("INFO", logger="temperance"):
        assert load_model(version.loaded()).status == "ok"
    assert [r.getMessage() for r in caplog.records if "has no self-test of its stages" in r.getMessage()]


def test_vectors_are_unsaturated_small_and_hold_no_row_of_the_data(version: Version, data: Path) -> None:
    bundle = version.loaded()
    test = restore_stage_test("learned", bundle.state)
    assert test is not None
    p = np.exp(np.asarray(test.answers["log_probs"], dtype=np.float64)).max(axis=1)
    assert (p < 0.98).mean() > 0.9
    assert len(set(np.asarray(test.answers["log_probs"]).argmax(axis=1).tolist())) == 2, "every class in its turn"
    with np.load(data) as archive:
        values = set(archive["X"].ravel().tolist())
    assert not values & set(np.asarray(test.inputs["logits"]).ravel().tolist())
    assert sum(array.nbytes for name, array in bundle.state.items() if name.startswith(PREFIX)) < 40_000


def test_both_sides_of_every_threshold_and_of_a_decision_are_met(version: Version) -> None:
    learned, declared = (restore_stage_test(part, version.state) for part in PARTS)
    assert learned is not None
    assert declared is not None
    flags = np.asarray(learned.answers["flags"])
    assert flags.any(axis=0).all()
    assert not flags.all(axis=0).any()
    p = np.asarray(learned.answers["p_values"])
    assert p.min() == pytest.approx(1.0 / (1 + version.record["scores"]["nll"]["rows"]), rel=1.0)
    assert p.max() == 1.0
    actions = np.asarray(declared.answers["action.0"])
    assert set(actions.tolist()) == {0, 1}
    assert set(np.asarray(declared.answers["flagged"]).tolist()) == {True, False}


def test_noise_of_rounding_passes_the_test_of_stages(version: Version) -> None:
    test = restore_stage_test("learned", version.state)
    assert test is not None
    answers: dict[str, Any] = {name: np.asarray(array) for name, array in test.answers.items()}
    noisy: State = {n: array * (1.0 + 1e-12) if array.dtype == np.float64 else array for n, array in answers.items()}
    assert test.departure(noisy, classes=2) is None
    assert test.departure(answers | {"log_probs": np.asarray(answers["log_probs"], float) * 1.000001}, classes=2)

"""What a request chooses, made sense of against the models themselves."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from service.bundle.repository import Repository
from service.core.pipeline import Policy
from service.errors import (
    BundleDamaged,
    CoverageUnavailable,
    InvalidParameters,
    PolicyRequired,
    PrevalenceUnavailable,
)
from service.prediction.options import FROM_REQUEST, Options, choose_policies, choose_policy, choose_sets, choose_target
from service.runtime.model import Model
from service.runtime.registry import load_registry
from tests.shipped_model import SHIPPED

OWN = Policy(FROM_REQUEST, "request", ("wait", "act"), np.array([[0.0, 10.0], [1.0, 0.0]]), None)


@pytest.fixture(scope="session")
def model() -> Model:
    return load_registry(Repository(SHIPPED)).model("breast-cancer")


def test_a_policy_is_the_requests_own_the_named_one_or_the_default(model: Model, uncalibrated: Model) -> None:
    assert choose_policy(model, OWN) is OWN
    assert choose_policy(model, "biopsy") is choose_policy(model, None) is model.policies["biopsy"]
    with pytest.raises(InvalidParameters, match="there are: biopsy"):
        choose_policy(model, "zq7canary")
    with pytest.raises(PolicyRequired):
        choose_policy(uncalibrated, None)


UNKNOWN: dict[str, Any] = {"a site": {"site": "zq7canary"}, "an empty site": {"site": ""}}


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_site_is_refused_by_listing_the_known_ones(name: str, model: Model) -> None:
    with pytest.raises(InvalidParameters, match="screening") as caught:
        choose_target(model, Options("predict", **UNKNOWN[name]))
    assert "zq7canary" not in caught.value.detail


def test_a_target_needs_a_source(uncalibrated: Model) -> None:
    assert choose_target(uncalibrated, Options("predict")) is None
    with pytest.raises(PrevalenceUnavailable, match="training"):
        choose_target(uncalibrated, Options("predict", prevalence={"a": 0.5, "b": 0.5}))


def test_shares_are_put_in_the_models_order(model: Model) -> None:
    target = choose_target(model, Options("predict", prevalence={"malignant": 0.3, "benign": 0.7}))
    assert target is not None
    assert target.tolist() == [0.7, 0.3]


def test_sets_are_made_within_classes_as_long_as_their_rows_suffice(
    model: Model, with_sets: Callable[..., Model]
) -> None:
    fitted = with_sets(model, rows=[19, 19])
    assert choose_sets(fitted, 0.95, target=None).kind == "class_conditional"
    assert choose_sets(fitted, 0.96, target=None).kind == "marginal"
    assert choose_sets(fitted, 0.95, target=np.array([0.98, 0.02])).kind == "class_conditional"
    assert choose_sets(fitted, 0.96, target=model.source).kind == "marginal"
    with pytest.raises(CoverageUnavailable, match="only 19 calibration rows"):
        choose_sets(fitted, 0.96, target=np.array([0.98, 0.02]))


def test_a_state_without_its_sets_is_a_damaged_bundle(model: Model, with_sets: Callable[..., Model]) -> None:
    with pytest.raises(BundleDamaged, match="label sets"):
        choose_sets(with_sets(model, rows=[19, 19], state=False), 0.9, target=None)


def test_policies_named_row_by_row_share_out_the_rows(model: Model) -> None:
    ((policy, rows),) = choose_policies(model, ("biopsy", "biopsy"))
    assert rows is not None
    assert (policy, rows.tolist()) == (model.policies["biopsy"], [0, 1])
    with pytest.raises(InvalidParameters) as caught:
        choose_policies(model, ("biopsy", "zq7canary", "biopsy"))
    assert caught.value.faults[0].path == ("parameters", "policy", 1)


def test_prevalences_row_by_row_are_a_table_in_the_models_order(model: Model) -> None:
    rows = ({"malignant": 0.3, "benign": 0.7}, {"benign": 0.1, "malignant": 0.9})
    target = choose_target(model, Options("predict", prevalence=rows))
    assert target is not None
    assert target.tolist() == [[0.7, 0.3], [0.1, 0.9]]
    with pytest.raises(InvalidParameters) as caught:
        choose_target(model, Options("predict", site=("screening", "zq7canary")))
    assert caught.value.faults[0].path == ("parameters", "site", 1)


def test_a_rare_class_with_few_rows_leaves_weighted_sets_at_another_prevalence(
    model: Model, with_sets: Callable[..., Model]
) -> None:
    fitted = with_sets(model, rows=[300, 5])
    assert choose_sets(fitted, 0.9, target=None).kind == "marginal"
    weighted = choose_sets(fitted, 0.9, target=np.array([0.9, 0.1]))
    assert weighted.kind == "weighted"
    with pytest.raises(CoverageUnavailable, match="only 5 calibration rows"):
        choose_sets(fitted, 0.9, target=np.array([0.1, 0.9]))
    with pytest.raises(CoverageUnavailable, match="a prevalence each"):
        choose_sets(fitted, 0.9, target=np.array([[0.9, 0.1], [0.8, 0.2]]))

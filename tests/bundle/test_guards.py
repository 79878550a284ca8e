"""One line says what guards a model: what is refused, what is flagged, what is evidence only, what nothing looks at."""

import tomllib
from typing import Any

import pytest

from service.bundle.guards import Kinds, guards, offer
from service.bundle.manifest import Manifest

KINDS = Kinds(("age", "bmi"), ("sex",), ())


def manifest(*, features: dict[str, Any] | None = None, ood: dict[str, Any] | None = None, **graph: Any) -> Manifest:
    """Two numbers and a text."""
    meaning = {"output": "s", "output_kind": "probabilities", "classes": ["no", "yes"], **graph}
    inputs = [{"name": name} for name in ("age", "bmi", "sex")]
    document = {"schema": 1, "title": "m", "graph": meaning, "inputs": inputs, "features": features or {}}
    return Manifest.model_validate(document | ({} if ood is None else {"ood": ood}))


def test_a_default_draft_has_no_guard_on_its_inputs() -> None:
    line = guards(manifest(), KINDS)
    assert "age, bmi, sex: looked at by nothing" in line
    assert "nll: how sure the model is" in line


def test_ranges_outside_the_gate_are_evidence_only() -> None:
    features = {"age": {"plausible": [0.0, 120.0]}, "sex": {"categories": ["f", "m"]}}
    line = guards(manifest(features=features), KINDS)
    assert "age: a plausible range that is evidence only" in line
    assert "sex: refused (422) outside what is allowed" in line
    assert "bmi: looked at by nothing" in line
    gated = guards(manifest(features=features, ood={"gate": ["nll", "range"]}), KINDS)
    assert "age: flagged outside a plausible range" in gated
    assert "evidence only" not in gated


def test_a_score_of_the_inputs_looks_at_the_numbers_alone() -> None:
    ood = {"scores": ["nll", "mahalanobis"], "gate": ["mahalanobis"]}
    line = guards(manifest(ood=ood), KINDS)
    assert "age, bmi: flagged by mahalanobis" in line
    assert "sex: looked at by nothing" in line
    assert "nll" not in line
    assert offer(manifest(ood=ood), KINDS) is None


@pytest.mark.parametrize(
    ("graph", "kinds", "offered"),
    [
        ({}, KINDS, "looks at age, bmi"),
        ({}, Kinds((), ("sex",), ()), "None"),
        ({"task": "sequence"}, KINDS, "None"),
        ({"task": "multilabel", "output_kind": "sigmoid_probabilities"}, KINDS, "looks at age, bmi"),
        ({"task": "multilabel", "output_kind": "sigmoid_logits"}, KINDS, 'scores = ["joint_energy", "mahalanobis"]'),
    ],
)
def test_a_score_of_the_inputs_is_offered_where_there_could_be_one(
    graph: dict[str, Any], kinds: Kinds, offered: str
) -> None:
    assert offered in str(offer(manifest(**graph), kinds))


def test_what_is_offered_is_accepted_by_the_manifest_of_the_task() -> None:
    graphs: list[dict[str, Any]] = [{}, {"task": "multilabel", "output_kind": "sigmoid_probabilities"}]
    for graph in graphs:
        offered = str(offer(manifest(**graph), KINDS))
        scores = tomllib.loads(offered.partition("[ood] ")[2].partition(" looks")[0])["scores"]
        assert manifest(ood={"scores": scores}, **graph).ood.scores == tuple(scores)


def test_many_names_are_counted() -> None:
    line = guards(manifest(), Kinds(tuple(f"x{i}" for i in range(30)), (), ()))
    assert "x0, x1, x2, x3 and 26 more: looked at by nothing" in line

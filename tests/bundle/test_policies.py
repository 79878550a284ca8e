from typing import Any

import numpy as np

from service.bundle.manifest import Manifest
from service.bundle.policies import label_policies_of, policies_of, tables_of

COSTS = {"wait": {"well": 0.0, "ill": 50.0}, "treat": {"well": 1.0, "ill": 1.0}, "call": {"well": 3.0, "ill": 3.0}}
OF_LABELS = {
    "ill": {"costs": {"wait": {"absent": 0.0, "present": 5.0}, "call": {"absent": 1.0, "present": 1.0}}},
    "well": {"costs": {"wait": {"absent": 2.0, "present": 0.0}, "act": {"absent": 1.0, "present": 1.0}}},
}


def manifest(policy: dict[str, Any], *, task: str = "multiclass", kind: str = "logits") -> Manifest:
    graph = {"output": "z", "output_kind": kind, "task": task, "classes": ["well", "ill"]}
    inputs = [{"name": "X", "features": ["a", "b"]}]
    document = {"schema": 1, "title": "m", "graph": graph, "inputs": inputs, "policies": {"triage": policy}}
    return Manifest.model_validate(document)


def test_costs_follow_the_order_of_the_classes_and_actions_that_of_the_manifest() -> None:
    policy = policies_of(manifest({"costs": COSTS, "on_ood": "call"}))["triage"]
    assert policy.actions == ("wait", "treat", "call")
    np.testing.assert_array_equal(policy.cost, [[0.0, 50.0], [1.0, 1.0], [3.0, 3.0]])
    assert (policy.name, policy.source, policy.on_ood) == ("triage", "manifest", 2)


def test_a_policy_that_only_flags_hands_no_row_over() -> None:
    assert policies_of(manifest({"costs": COSTS}))["triage"].on_ood is None


def test_labels_have_costs_of_their_own_by_their_index_and_hand_over_to_actions_that_they_have() -> None:
    declared = manifest({"labels": OF_LABELS, "on_ood": "call"}, task="multilabel", kind="sigmoid_logits")
    found = label_policies_of(declared)["triage"]
    assert policies_of(declared) == {}
    assert {m: (policy.actions, policy.on_ood) for m, policy in found.items()} == {
        1: (("wait", "call"), 1),
        0: (("wait", "act"), None),
    }
    np.testing.assert_array_equal(found[0].cost, [[2.0, 0.0], [1.0, 1.0]])


def test_every_cost_table_is_named_as_messages_name_it() -> None:
    declared = manifest({"labels": OF_LABELS, "on_ood": "call"}, task="multilabel", kind="sigmoid_logits")
    (name, section), *_ = declared.policies.items()
    assert list(tables_of(name, section, ())) == ["policy 'triage', label 'ill'", "policy 'triage', label 'well'"]

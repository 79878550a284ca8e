"""Declared policies as arrays."""

import numpy as np

from service.bundle.manifest import Manifest
from service.bundle.sections import Policy as PolicySection
from service.bundle.tasks import ABSENT, PRESENT
from service.core.pipeline import Policy


def policies_of(manifest: Manifest) -> dict[str, Policy]:
    """Policies of classes or positions, by name."""
    classes = manifest.graph.classes
    return {name: policy_of(name, p, classes) for name, p in manifest.policies.items() if p.costs is not None}


def label_policies_of(manifest: Manifest) -> dict[str, dict[int, Policy]]:
    """Multilabel policies, by name and by the label's index."""
    index = {label: m for m, label in enumerate(manifest.graph.classes)}
    return {
        name: {index[label]: _priced(name, p, c.costs, (ABSENT, PRESENT)) for label, c in p.labels.items()}
        for name, p in manifest.policies.items()
        if p.labels is not None
    }


def tables_of(name: str, section: PolicySection, classes: tuple[str, ...]) -> dict[str, Policy]:
    """Every cost table of a declared policy as a policy, by what messages call it: the policy, or a label of it."""
    if section.labels is None:
        return {f"policy {name!r}": policy_of(name, section, classes)}
    states = (ABSENT, PRESENT)
    return {
        f"policy {name!r}, label {label!r}": _priced(name, section, own.costs, states)
        for label, own in section.labels.items()
    }


def policy_of(name: str, section: PolicySection, classes: tuple[str, ...]) -> Policy:
    """A declared policy as arrays; ``on_ood`` becomes an action's index, or None for ``flag``."""
    return _priced(name, section, section.costs or {}, classes)


def _priced(name: str, section: PolicySection, costs: dict[str, dict[str, float]], states: tuple[str, ...]) -> Policy:
    actions = tuple(costs)
    cost = np.array([[row[state] for state in states] for row in costs.values()], dtype=np.float64)
    # Multilabel: an action that a label does not have cannot take it over; its flag is then only a flag.
    on_ood = actions.index(section.on_ood) if section.on_ood in actions else None
    return Policy(name, "manifest", actions, cost, on_ood, section.switch)

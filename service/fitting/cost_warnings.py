"""Warnings about the costs of a manifest: actions that are never taken, and differences that the tie rule hides."""

from service.bundle.manifest import Manifest
from service.bundle.policies import tables_of
from service.bundle.tasks import ABSENT, PRESENT
from service.core.assessment.utility import dominated_actions
from service.core.decision import drowned


def cost_warnings(manifest: Manifest) -> tuple[str, ...]:
    """All warnings about a manifest's costs, a sentence each."""
    return (*never_taken(manifest), *tied_costs(manifest))


def never_taken(manifest: Manifest) -> list[str]:
    """A sentence for every action that is never taken: another costs no more in any class, and less in some.

    The action that `on_ood` names is left out. Flagged rows get it whatever it costs.
    """
    sentences: dict[tuple[str, int], str] = {}
    for name, section in manifest.policies.items():
        for title, policy in tables_of(name, section, manifest.graph.classes).items():
            for worse, better in dominated_actions(policy.cost):
                if worse != policy.on_ood:
                    beaten, by = policy.actions[worse], policy.actions[better]
                    sentence = f"{title}: action {beaten!r} is never taken: {by!r} costs no more in any class"
                    sentences.setdefault((title, worse), sentence)
    return list(sentences.values())


def tied_costs(manifest: Manifest) -> list[str]:
    """A sentence for every cost table with a class in which the tie rule treats different costs as equal."""
    sentences = []
    for name, section in manifest.policies.items():
        names = manifest.graph.classes if section.labels is None else (ABSENT, PRESENT)
        for title, policy in tables_of(name, section, manifest.graph.classes).items():
            found = drowned(policy.cost)
            for k, one, other in found[:1]:
                pair = f"{policy.actions[one]!r} and {policy.actions[other]!r}"
                more = f" (and in {len(found) - 1} more classes)" if len(found) > 1 else ""
                sentences.append(
                    f"{title}: in class {names[k]!r}{more} the costs of {pair} differ by less than a millionth of the "
                    "largest difference there, so a row that is surely of that class is a tie between them"
                )
    return sentences

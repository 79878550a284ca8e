"""The guards of a model in one line: which checks refuse or flag its rows, and which are evidence only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from service.bundle.manifest import Manifest
from service.core.ood import SCORES

MOST_NAMES: Final = 4


@dataclass(frozen=True, slots=True)
class Kinds:
    """What a model's inputs are: columns of numbers, columns of text, tensors; by name."""

    numbers: tuple[str, ...]
    texts: tuple[str, ...]
    tensors: tuple[str, ...]


def guards(manifest: Manifest, kinds: Kinds) -> str:
    """One line: what is refused, what is flagged, what is evidence only, what nothing looks at.

    Parameters
    ----------
    manifest : Manifest
    kinds : Kinds
    """
    bounded = tuple(entry.name for entry in manifest.inputs if entry.allowed is not None)
    closed = (*_columns(manifest, kinds, "allowed", "categories"), *bounded)
    ranged = _columns(manifest, kinds, "plausible")
    gated = "range" in manifest.ood.gate_members
    seen = _seen_by_scores(manifest, kinds)
    parts = [
        _part("refused (422) outside what is allowed", closed),
        _part("flagged outside a plausible range", ranged if gated else ()),
        _part(f"flagged by {', '.join(_feature_scores(manifest))}", seen),
        _part("a plausible range that is evidence only, as [ood] gate does not list 'range'", () if gated else ranged),
        _part("looked at by nothing", _unseen(kinds, {*closed, *seen, *(ranged if gated else ())}, ranged)),
    ]
    certainty = [name for name in manifest.ood.gate_scores if SCORES[name].needs != "features"]
    if certainty:
        parts.append(f"{', '.join(certainty)}: how sure the model is, not how foreign a row is")
    return "guards: " + "; ".join(part for part in parts if part)


def offer(manifest: Manifest, kinds: Kinds) -> str | None:
    """A sentence that offers a score of the inputs, where no score looks at them and one could."""
    idle = not manifest.ood.has_feature_scores and manifest.why_unfit("mahalanobis") is None
    measured = set(kinds.numbers) - set(_columns(manifest, kinds, "allowed", "categories"))  # the rest may be codes
    if not idle or not measured:
        return None
    scores = ", ".join(f'"{name}"' for name in (*manifest.ood.scores, "mahalanobis"))
    return (
        f"offered: [ood] scores = [{scores}] looks at {_named(kinds.numbers)}; "
        'list "mahalanobis" (and "range") in gate to flag by it'
    )


def _columns(manifest: Manifest, kinds: Kinds, *keys: str) -> tuple[str, ...]:
    declared = {name: feature.model_dump() for name, feature in manifest.features.items()}
    names = (*kinds.numbers, *kinds.texts)
    return tuple(n for n in names if any(declared.get(n, {}).get(key) is not None for key in keys))


def _feature_scores(manifest: Manifest) -> list[str]:
    return [name for name in manifest.ood.gate_scores if SCORES[name].needs == "features"]


def _seen_by_scores(manifest: Manifest, kinds: Kinds) -> tuple[str, ...]:
    if not _feature_scores(manifest):
        return ()
    return (*kinds.numbers, *kinds.texts, *kinds.tensors) if manifest.ood.looks_at_tensor else kinds.numbers


def _unseen(kinds: Kinds, seen: set[str], evidence: Sequence[str]) -> tuple[str, ...]:
    names = (*kinds.numbers, *kinds.texts, *kinds.tensors)
    return tuple(name for name in names if name not in seen and name not in evidence)


def _part(what: str, names: Sequence[str]) -> str:
    return f"{_named(names)}: {what}" if names else ""


def _named(names: Sequence[str]) -> str:
    rest = len(names) - MOST_NAMES
    return ", ".join(names) if rest <= 1 else f"{', '.join(names[:MOST_NAMES])} and {rest} more"

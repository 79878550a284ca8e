"""A draft is published as it is, without new data: its calibration is kept where it still holds."""

import dataclasses
from dataclasses import dataclass

from service.bundle.binding import bound, check_bound
from service.bundle.record import Record
from service.bundle.repository import Bundle, Repository
from service.bundle.stage_test import pack_stage_test, restore_stage_test, without_stage_test
from service.bundle.state import State
from service.bundle.writer import publish
from service.fitting.stage_vectors import declared_test
from service.graph.inspect import check_draft
from service.runtime.model import Model, load_model
from service.runtime.proofs import Proofs
from service.runtime.stage_checks import check_learned


@dataclass(frozen=True, slots=True)
class Published:
    """A version. ``why_uncalibrated`` is None when the draft's calibration holds for it."""

    version: int
    why_uncalibrated: str | None


def publish_draft(repository: Repository, name: str, *, proofs: Proofs | None = None) -> Published:
    """Publish a draft as it is, with its calibration if that still holds for it.

    Parameters
    ----------
    repository : Repository
    name : str
    proofs : Proofs, optional
        By which the draft is loaded in a process of its own before it is in this one.

    Raises
    ------
    BundleNotFound, ManifestInvalid, GraphError
    LoadFailed
        If the draft cannot be loaded within the limits of `proofs`.
    """
    draft = repository.draft(name)
    check_draft(draft)
    if proofs is not None:
        proofs.check_draft(repository, name)
    reason = why_uncalibrated(draft)
    kept = draft if reason is None else dataclasses.replace(draft, record=None, state={})
    record, state = _renewed(load_model(kept))
    return Published(publish(repository, kept, record=record, state=state), reason)


def _renewed(model: Model) -> tuple[Record | None, State]:
    # What was learned must still be answered; ranges, sites and policies may be other ones than before.
    record, state = model.bundle.record, model.bundle.state
    if record is not None:
        check_bound(record, state, where=model.bundle.path)
    learned = restore_stage_test("learned", state)
    if record is None or learned is None:
        return record, state
    check_learned(model.bundle, model.stages, learned)
    declared = pack_stage_test("declared", declared_test(model.stages, learned))
    state = without_stage_test("declared", state) | declared
    return bound(record, state), state


def why_uncalibrated(draft: Bundle) -> str | None:
    """Why a draft's calibration does not hold for it, in words; None when it does."""
    if draft.record is None:
        return "it was never fitted"
    if draft.record.graph_sha256 != draft.graph_sha256:
        return "the graph changed"
    current = draft.manifest.fingerprints()
    changed = [section for section, value in draft.record.sections.items() if current.get(section) != value]
    return f"[{'], ['.join(changed)}] changed" if changed else None

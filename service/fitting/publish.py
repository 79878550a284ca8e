"""A draft is published as it is, without new data: its calibration is kept where it still holds."""

import dataclasses
from dataclasses import dataclass

from service.bundle.repository import Bundle, Repository
from service.bundle.writer import publish
from service.graph.inspect import check_draft
from service.runtime.model import load_model
from service.runtime.proofs import Proofs


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
        proofs.check(repository, [(name, None)])
    reason = why_uncalibrated(draft)
    kept = draft if reason is None else dataclasses.replace(draft, record=None, state={})
    load_model(kept)
    return Published(publish(repository, kept, record=kept.record, state=kept.state), reason)


def why_uncalibrated(draft: Bundle) -> str | None:
    """Why a draft's calibration does not hold for it, in words; None when it does."""
    if draft.record is None:
        return "it was never fitted"
    if draft.record.graph_sha256 != draft.graph_sha256:
        return "the graph changed"
    current = draft.manifest.fingerprints()
    changed = [section for section, value in draft.record.sections.items() if current.get(section) != value]
    return f"[{'], ['.join(changed)}] changed" if changed else None

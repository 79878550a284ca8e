"""A version made from the outcomes of another one: `temperance refit`."""

from dataclasses import dataclass
from typing import Final

import orjson

from service.bundle.repository import Repository
from service.bundle.writer import publish_beside, set_alias
from service.monitoring.labelled_answers import LabelledAnswers
from service.monitoring.proposal import Proposal, propose, states_of
from service.monitoring.renewed_calibration import calibrated
from service.runtime.model import Model
from service.store.engine import Store
from service.store.entries import Event, Write

REFIT: Final = "refit"
CANDIDATE: Final = "candidate"
"""Alias of what a refit publishes; `stable` is moved by people alone."""


@dataclass(frozen=True, slots=True)
class Refitted:
    """What came of a refit.

    Attributes
    ----------
    name : str
    before : int
        The version whose outcomes were learned from.
    proposal : Proposal
    version : int or None
        What was published; None where nothing was.
    rows, events : int
        Rows with an outcome, and how many subjects show the rarest class.
    """

    name: str
    before: int
    proposal: Proposal
    version: int | None
    rows: int
    events: int


def refit(
    repository: Repository, model: Model, answers: LabelledAnswers, *, seed: int = 0, dry_run: bool = False
) -> Refitted:
    """Propose a calibration, and publish it as `candidate` if the change protocol lets it through.

    Parameters
    ----------
    repository : Repository
    model : Model
        The version whose outcomes these are.
    answers : LabelledAnswers
    seed : int
    dry_run : bool
        Publish nothing.

    Raises
    ------
    RefitRefused
        If the version cannot be refitted at all, or the outcomes are too few.
    BundleError
        If the version cannot be written.
    """
    proposal = propose(model, answers, seed=seed)
    version = None
    if proposal.passed and not dry_run:
        record, state = calibrated(model, answers, proposal, seed=seed)
        version = publish_beside(repository, model.bundle, record=record, state=state)
        set_alias(repository, model.name, CANDIDATE, version)
    return Refitted(model.name, int(model.version), proposal, version, len(answers), answers.events(states_of(model)))


def record_refit(store: Store, found: Refitted, answers: LabelledAnswers, *, now: int) -> None:
    """Append what was published to the record.

    Parameters
    ----------
    store : Store
        Opened with a signer.
    found : Refitted
    answers : LabelledAnswers
    now : int
        Microseconds since 1970.

    Raises
    ------
    StoreUnavailable
    """
    detail = {
        "model": found.name,
        "before": found.before,
        "version": found.version,
        "steps": {name: step.step for name, step in found.proposal.steps.items()},
        "rows": found.rows,
        "events": found.events,
        "since": answers.since,
        "until": answers.until,
        "data_digest": answers.digest,
    }
    store.write([Write(events=[Event(now, REFIT, orjson.dumps(detail).decode())])])

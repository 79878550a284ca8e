"""Sessions: rows that follow one another, monitored for leaving the training distribution.

Nothing is kept here: the answer carries the state, and the client sends it back with the next steps.

Tested in tests/api/test_sessions.py.
"""

from dataclasses import dataclass

import numpy as np

from service.core.numerics import Flags
from service.core.pipeline import Posterior
from service.core.trajectory import Monitor, State, alarm_threshold, observe_all
from service.errors import Fault, InvalidParameters, SessionUnavailable
from service.runtime.model import Model

PER_THOUSAND = 1.0
NEW = State()


@dataclass(frozen=True, slots=True)
class Session:
    """Where a trajectory stands.

    Attributes
    ----------
    per_thousand : float
        False alarms per 1000 in-distribution steps, at most, on average over calibration sets.
    state : State
    """

    per_thousand: float = PER_THOUSAND
    state: State = NEW


@dataclass(frozen=True, slots=True)
class Monitored:
    """A session after N more steps.

    Attributes
    ----------
    session : Session
    alarm : ndarray of shape (N,)
        Steps at which an alarm stood: it was raised there or before, and no later step was in distribution.
    """

    session: Session
    alarm: Flags


def monitor_of(model: Model, session: Session) -> Monitor:
    """The alarm for a session.

    Raises
    ------
    SessionUnavailable
        If the version has no p-values to monitor.
    InvalidParameters
        If the state is none that this rate can lead to.
    """
    title, ood = model.bundle.title, model.manifest.ood
    if model.bundle.record is None:
        raise SessionUnavailable(
            f"{title} is uncalibrated, so no step has a p-value; calibrate it with `temperance fit`"
        )
    if not ood.gate_scores:
        raise SessionUnavailable(f"{title} has no score in its gate, so steps have no p-value; name one in [ood] gate")
    threshold = alarm_threshold(session.per_thousand, rows=_smallest_reference(model))
    if session.state.statistic > threshold:
        detail = "is more than a session at this rate can hold; send back what the last answer returned"
        fault = Fault(("parameters", "session", "statistic"), "out-of-range", detail)
        raise InvalidParameters(f"parameters.session.statistic: {detail}", [fault])
    return Monitor(threshold, alpha=ood.false_alarm)


def _smallest_reference(model: Model) -> int | None:
    # Of the smallest set that a p-value in the gate can rest on.
    gated = [detector for detector in model.chain.detectors if detector.gated]
    alone = [detector.calibration.n for detector in gated if detector.by_class is None and detector.calibration]
    by_class = [part.n for detector in gated if detector.by_class for part in detector.by_class.references]
    return min(alone + by_class, default=None)


def monitor_steps(session: Session, posterior: Posterior, *, monitor: Monitor) -> Monitored:
    """Rows in the order of their steps.

    Parameters
    ----------
    session : Session
    posterior : Posterior
    monitor : Monitor
        Of `monitor_of`.
    """
    if posterior.p_value is None or posterior.flagged is None:
        raise ValueError("a session needs p-values")
    states = observe_all(session.state, posterior.p_value, monitor=monitor, flagged=posterior.flagged)
    alarm = np.array([state.standing for state in states])
    return Monitored(Session(session.per_thousand, states[-1] if states else session.state), alarm)


def flagged_or_alarmed(posterior: Posterior, monitored: Monitored | None) -> Flags | None:
    """Rows that a policy's OOD action takes: the flagged ones, and those under an alarm."""
    if monitored is None or posterior.flagged is None:
        return posterior.flagged
    return posterior.flagged | monitored.alarm

"""Why rows are flagged."""

from typing import Any

import numpy as np

from service.prediction.evidence import evidence_of
from service.runtime.registry import Registry
from tests.every_task import SESSION, Case, answer_of, rows_of


def test_a_flagged_row_names_the_scores_and_features_that_flag_it(every_task: Registry) -> None:
    query = Case("letters", "detect").query(every_task)
    rows = rows_of(query.model)
    rows[0, 0] = 40.0  # above its plausible range, and as certain as a row can be
    answer = answer_of(query, rows)
    found = evidence_of(answer)
    assert answer.posterior.flagged is not None
    flagged = set(np.flatnonzero(answer.posterior.flagged).tolist())
    assert {2, 7} <= flagged
    assert set(found) == flagged | {0}
    assert found[2] == [{"score": "nll"}]  # energy is not in the gate
    assert found[0] == [{"rule": "range", "features": ["u"]}]


def test_an_alarm_of_a_session_is_evidence(every_task: Registry) -> None:
    query = Case("letters", "detect", {"session": SESSION}).query(every_task)
    odd: Any = np.zeros((40, 3))
    answer = answer_of(query, odd)
    assert answer.monitored is not None
    alarms = np.flatnonzero(answer.monitored.alarm).tolist()
    assert alarms
    assert all({"rule": "session"} in evidence_of(answer)[row] for row in alarms)


def test_an_uncalibrated_version_has_the_evidence_of_ranges_alone(every_task: Registry) -> None:
    query = Case("raw", "detect").query(every_task)
    rows = rows_of(query.model)
    rows[1, 0] = 40.0
    assert evidence_of(answer_of(query, rows)) == {1: [{"rule": "range", "features": ["u"]}]}

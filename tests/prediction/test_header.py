"""What a response states besides its rows."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from service.core.sequence import SMOOTHERS
from service.prediction.header import head_of, head_of_query, headed, header, session_json, timestamp
from service.runtime.registry import Registry
from tests.every_task import CREATED, SESSION, Case, answer_of, rows_of


@pytest.mark.parametrize("case", [Case("letters", "predict", {"site": "north"}), Case("motion", "decide")], ids=str)
def test_the_head_of_a_query_is_that_of_its_answers(every_task: Registry, case: Case) -> None:
    query = case.query(every_task)
    answer = answer_of(query, rows_of(query.model))
    before = head_of_query(query, request_id="r", created=timestamp(CREATED))
    assert header(before) == header(head_of(answer, request_id="r", created=CREATED))


def test_prevalences_are_of_every_class_and_of_every_row_where_they_differ(every_task: Registry) -> None:
    by_row = Case("letters", "predict", {"site": ("north", "south") * 6}).query(every_task)
    stated = header(head_of_query(by_row, request_id="r", created=""))["prevalence"]
    assert stated["target"][:2] == [{"a": 0.8, "b.c": 0.1, "d": 0.1}, {"a": 0.2, "b.c": 0.7, "d": 0.1}]
    assert stated["site"] == ("north", "south") * 6
    labels = Case("complaints", "predict", {"site": "ward"}).query(every_task)
    stated = header(head_of_query(labels, request_id="r", created=""))["prevalence"]
    assert stated["target"] == {"ache": 0.9, "burn": 0.1, "chill": 0.5}
    raw = header(head_of_query(Case("raw", "predict").query(every_task), request_id="r", created=""))
    assert raw["prevalence"] == {"source": None, "target": None, "site": None}
    assert raw["calibration"] == {"method": "identity", "status": "uncalibrated"}


@pytest.mark.parametrize("smoother", ["none", "jsd"])
def test_a_smoother_says_whether_probabilities_stay_calibrated(every_task: Registry, smoother: str) -> None:
    query = Case("motion", "predict", {"smoother": smoother}).query(every_task)
    stated = header(head_of_query(query, request_id="r", created=""))["smoother"]
    assert stated["calibrated"] is SMOOTHERS[smoother].keeps_calibration
    assert (stated["note"] is None) == stated["calibrated"]
    assert "smoother" not in header(
        head_of_query(Case("letters", "predict").query(every_task), request_id="", created="")
    )


def test_some_members_are_found_by_their_paths(every_task: Registry) -> None:
    head = head_of_query(Case("letters", "predict").query(every_task), request_id="r", created="")
    assert headed(head, ["version", "calibration.status"]) == {"version": "1", "calibration.status": "ok"}


def test_a_session_is_returned_as_it_can_be_sent_back(every_task: Registry) -> None:
    assert session_json(every_task.model("letters"), SESSION) == {
        "model": "letters",
        "version": "1",
        "false_alarms_per_1000_steps": 50.0,
        "statistic": 0.1,
        "steps": 3,
        "steps_since_in_distribution": 1,
        "alarm": False,
    }


def test_moments_are_in_utc_to_the_millisecond() -> None:
    assert timestamp(datetime(2026, 1, 1, 12, 0, 0, 123_999, tzinfo=UTC)) == "2026-01-01T12:00:00.123Z"
    assert timestamp(datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))) == "2026-01-01T10:00:00.000Z"

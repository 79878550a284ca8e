"""The whole loop over HTTP with real data, as `docs/guide/monitoring.md` describes it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.life.processes import wait_for
from tests.loop import hospitals
from tests.loop.hospital_model import NAME, command, make, shuffled
from tests.loop.loop import BEFORE_SHARE, REASON, SECONDS, Hospital

pytestmark = pytest.mark.skipif(not hospitals.available(), reason=hospitals.REMEDY)


def test_a_model_of_another_hospital_is_repaired(
    tmp_path: Path, serving: Callable[..., AbstractContextManager[Any]]
) -> None:
    models, patients, data = make(tmp_path), shuffled(hospitals.gbsg(), 1), tmp_path / "data"
    first = int(BEFORE_SHARE * len(patients))
    before, after = patients.some(slice(first)), patients.some(slice(first, None))
    with serving(models, TEMPERANCE_DATA=str(data), TEMPERANCE_MONITOR_SECONDS="0.5") as server:
        hospital = Hospital(server.client, models, data)
        assert hospital.report(before, hospital.decide(before, 0))["accepted"] == len(before)
        assert wait_for(lambda: bool(hospital.performance()["alarms"]), SECONDS) is not None
        assert hospital.performance()["alarms"][0]["test"] == "intercept:event"
        proposed = hospital.run("refit", NAME, "--json")
        assert (proposed["passed"], proposed["steps"]["model"]["step"]) == (True, "intercept")
        hospital.run("alias", NAME, "candidate", "2", "--shadow")
        assert wait_for(lambda: _shadow_runs(hospital, before), SECONDS) is not None
        assert hospital.report(after, hospital.decide(after, first))["accepted"] == len(after)
        assert wait_for(lambda: _rows_of_the_shadow(hospital) == len(after), SECONDS) is not None
        (shadow,) = hospital.performance()["shadows"]["rows"]
        assert shadow["log_loss"]["mean"] < -0.02
        assert shadow["costs"]["chemotherapy"]["mean"] < 0
        hospital.run("alias", NAME, "stable", "candidate", "--reason", REASON)
        assert wait_for(lambda: hospital.aliases() == {"stable": "2"}, SECONDS) is not None
        assert {row["version"] for row in hospital.decide(after, first)} == {"2"}
    assert "Sound" in command("audit", "verify", TEMPERANCE_DATA=str(data))


def _shadow_runs(hospital: Hospital, patients: hospitals.Patients) -> bool:
    hospital.decide(patients.some(slice(1)), 0)  # without an outcome, it enters no comparison
    return "temperance_shadow_requests_total{" in hospital.client.get("/metrics").text


def _rows_of_the_shadow(hospital: Hospital) -> int:
    found = hospital.performance()["shadows"].get("rows", [])
    return found[0]["rows"] if found else 0

"""The whole loop over HTTP with real data. Run as ``python -m tests.loop.loop``.

A model is calibrated at one hospital and used at another. Its answers are recorded, outcomes come back with a delay, an
alarm is raised, `refit` proposes a version, a shadow compares it on the same patients, a promotion repairs log loss and
realised cost.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx

from tests.life.processes import wait_for
from tests.loop.hospital_model import NAME, command
from tests.loop.hospitals import CLASSES, Patients

BEFORE_SHARE: Final = 0.6
"""Of the second hospital's patients: their outcomes are known when the version is refitted."""
BATCH: Final = 40
"""Patients in one request."""
SECONDS: Final = 60.0
SURGERY: Final = datetime(2020, 1, 1, tzinfo=UTC)
REASON: Final = "an alarm: more events than predicted"


@dataclass(frozen=True)
class Hospital:
    """The second hospital: a running service, its models and its record."""

    client: httpx.Client
    models: Path
    data: Path

    def decide(self, patients: Patients, first: int) -> list[dict[str, Any]]:
        """Answers for patients."""
        found: list[dict[str, Any]] = []
        for start in range(0, len(patients), BATCH):
            part = patients.some(slice(start, start + BATCH))
            subjects = [f"patient-{first + start + i}" for i in range(len(part))]
            body = {"instances": part.rows.tolist(), "parameters": {"subjects": subjects}}
            answer = _read(self.client.post(f"/v1/models/{NAME}:decide", json=body))
            found += [{**row, "version": answer["version"]} for row in answer["predictions"]]
        return found

    def report(self, patients: Patients, predictions: list[dict[str, Any]]) -> dict[str, Any]:
        """Send what became of patients, in the order in which it became known."""
        order = patients.days.argsort(kind="stable")
        items = [_outcome(patients, int(i), predictions[i]["prediction_id"]) for i in order]
        return _read(self.client.post("/v1/outcomes", json={"outcomes": items}))

    def performance(self, **query: str) -> dict[str, Any]:
        """What came of the answers."""
        return _read(self.client.get(f"/v1/models/{NAME}/performance", params=query))

    def run(self, *arguments: str) -> dict[str, Any]:
        """The command, on the same models and record; its JSON."""
        place = ("--models", str(self.models)) if arguments[0] in {"refit", "alias"} else ()
        printed = command(*arguments, *place, TEMPERANCE_DATA=str(self.data))
        found: dict[str, Any] = json.loads(printed) if "--json" in arguments else {"text": printed}
        return found

    def await_version(self, version: int, label: str) -> None:
        """Wait until an alias names a version in the running service."""
        wait_for(lambda: self.aliases().get(label) == version, seconds=SECONDS)

    def aliases(self) -> dict[str, Any]:
        """Aliases of the model, as the service knows them."""
        found: dict[str, Any] = _read(self.client.get(f"/v1/models/{NAME}"))["aliases"]
        return found


def _outcome(patients: Patients, place: int, prediction_id: str) -> dict[str, Any]:
    known = SURGERY + timedelta(days=float(patients.days[place]))
    return {
        "prediction_id": prediction_id,
        "outcome": CLASSES[patients.events[place]],
        "observed_at": known.isoformat(),
        "ascertainment": "routine",
    }


def _read(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found

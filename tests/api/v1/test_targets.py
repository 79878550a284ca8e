from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from service.api.addresses import Limits
from service.api.v1.targets import Targets
from service.api.v1.verbs import VERBS
from service.errors import ModelNotFound, VersionNotServed
from service.prediction.predictor import Predictor
from service.runtime.registry import Registry
from service.telemetry import Telemetry

PREDICT, DETECT = VERBS["predict"], VERBS["detect"]


def at(verb: str, **place: str) -> dict[str, Any]:
    return {"path": f"/{sorted(place.items())}:{verb}", "path_params": place}


@pytest.fixture
def targets(shipped: Registry) -> Targets:
    predictor = Predictor(Telemetry(CollectorRegistry()), lambda: datetime(2026, 1, 1, tzinfo=UTC))
    return Targets(shipped, predictor, Limits(lambda: 1 << 20, 100))


def test_all_names_of_a_version_lead_to_the_same_reader_and_queue(targets: Targets, shipped: Registry) -> None:
    places = [{}, {"version": "1"}, {"alias": "stable"}]
    found = [targets.target(PREDICT, at("predict", name="breast-cancer", **place)) for place in places]
    assert {id(one.model) for one in found} == {id(shipped.model("breast-cancer"))}
    assert len({id(one.reader) for one in found}) == len({id(one.intake.queue) for one in found}) == 1


def test_verbs_of_a_model_share_its_queue_and_no_reader(targets: Targets) -> None:
    one, other = (targets.target(verb, at(verb.name, name="breast-cancer")) for verb in (PREDICT, DETECT))
    assert one.intake.queue is other.intake.queue
    assert one.reader is not other.reader


def test_targets_are_looked_up_again_once_the_served_models_change(
    targets: Targets, shipped: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    scope = at("predict", name="breast-cancer")
    first = targets.target(PREDICT, scope)
    assert targets.target(PREDICT, scope) is first
    monkeypatch.setattr(shipped, "generation", shipped.generation + 1)
    assert targets.target(PREDICT, scope).reader is not first.reader


def test_what_is_not_served_is_not_remembered(targets: Targets) -> None:
    for _ in range(2):
        with pytest.raises(ModelNotFound):
            targets.target(PREDICT, at("predict", name="unknown"))
        with pytest.raises(VersionNotServed):
            targets.target(PREDICT, at("predict", name="breast-cancer", version="9"))
    assert not targets._by_path

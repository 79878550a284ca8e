"""`temperance refit` from a store of real answers to a promoted version."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pytest
import uuid_utils
from click.testing import Result

from service.bundle.repository import Repository
from service.core.numerics import Array
from service.core.updating import Update
from service.prediction.answer import Part
from service.prediction.joint_answer import JointAnswer
from service.prediction.options import Options
from service.prediction.query import Query
from service.prediction.records import Origin, RecordPlan
from service.prediction.timings import Timings
from service.record_places import secrets_of
from service.runtime.model import Model, load_model
from service.settings import Settings
from service.store.engine import Store, open_store
from service.store.entries import Outcome, Write
from tests.cli.printed import SHIPPED
from tests.every_task import answer_of

TRUTH = Update(0.5, np.array([1.2, -1.2]))
BATCH, REQUESTS = 200, 6


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    place = tmp_path / "data"
    place.mkdir(mode=0o700)
    monkeypatch.setenv("TEMPERANCE_DATA", str(place))
    return Settings(data=place)


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    signer = secrets_of(settings).current.signer
    opened = open_store(f"sqlite://{settings.data}/audit.db", signer=signer)
    yield opened
    opened.close()


def patients(real: Array, seed: int) -> Array:
    """Measurements between those of real patients, so that no two are alike."""
    x = real
    rng = np.random.default_rng(seed)
    one, other = rng.integers(len(x), size=(2, BATCH))
    share = rng.random((BATCH, 1)) * 0.3
    return np.asarray((1 - share) * x[one] + share * x[other])


def live(store: Store, model: Model, settings: Settings, rows: Array, *, truth: Update, seed: int) -> None:
    """Answer rows as the service does, record the answer, and report outcomes by the truth."""
    query = Query.of(model, Options("decide", decide=True))
    request_id, answered = str(uuid_utils.uuid7()), answer_of(query, rows)
    joint = JointAnswer(query, answered, [Part(request_id, len(rows), None)], [0.0], Timings(0.0, 0.0, 0.0), [rows])
    plan = RecordPlan(query, verb="decide", topics=("identity", "label", "ood", "decision"), software="{}")
    content = plan.contents(joint, secrets_of(settings).current.tokens)[0]
    prediction = content.prediction(Origin(request_id, seed, "key:ward", None, None, 7))
    p = np.exp(truth.apply(answered.posterior.log_probs))
    labels = (np.random.default_rng(seed).random(len(rows)) > p[:, 0]).astype(int)
    names = [orjson.dumps(model.classes[label]).decode() for label in labels]
    outcomes = [Outcome(request_id, i, name, 1, 2, None, "routine", "key:lab") for i, name in enumerate(names)]
    recording = content.recording
    store.write([Write([prediction], [recording.context], recording.documents)])
    store.write([Write(outcomes=outcomes)])


@pytest.fixture
def lived(store: Store, repository: Repository, settings: Settings, data_folder: Path) -> Store:
    """A record of answers whose probabilities are off by `TRUTH`."""
    model = load_model(repository.bundle(SHIPPED, 1))
    real = pl.concat([pl.read_csv(data_folder / f"{part}.csv") for part in ("calibration", "test")])
    x = real.select(model.inputs.columns).to_numpy().astype(np.float64)
    for seed in range(REQUESTS):
        live(store, model, settings, patients(x, seed), truth=TRUTH, seed=seed)
    return store


def test_outcomes_propose_a_candidate_which_is_promoted(
    invoke: Callable[..., Result], repository: Repository, lived: Store
) -> None:
    models = ("--models", repository.root)
    done = invoke("refit", SHIPPED, "--json", *models)
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["from_version"], found["version"], found["rows"]) == (1, 2, BATCH * REQUESTS)
    assert found["passed"]
    assert found["steps"]["model"]["step"] in {"intercept", "slope"}
    assert found["improvement"]["log_loss"]["high"] < 0.0
    assert repository.aliases(SHIPPED) == {"candidate": 2, "stable": 1}
    (event,) = [json.loads(event.detail) for event in lived.events(kind="refit")]
    assert (event["before"], event["version"], event["rows"]) == (1, 2, BATCH * REQUESTS)
    assert invoke("verify", SHIPPED, *models).exit_code == 0
    assert invoke("alias", SHIPPED, "stable", "candidate", "--reason", "gates passed", *models).exit_code == 0
    assert repository.aliases(SHIPPED)["stable"] == 2
    shown = " ".join(invoke("inspect", SHIPPED, *models).stdout.split())
    assert "refitted from version 1" in shown


def test_a_dry_run_prints_the_table_and_publishes_nothing(
    invoke: Callable[..., Result], repository: Repository, lived: Store
) -> None:
    done = invoke("refit", SHIPPED, "--dry-run", "--models", repository.root)
    assert done.exit_code == 0, done.stderr
    assert "after, out of fold" in done.stdout
    assert "A dry run: nothing was published." in done.stdout
    assert repository.versions(SHIPPED) == [1]
    assert list(lived.events(kind="refit")) == []


def test_without_a_record_a_refit_names_what_is_missing(
    fails: Callable[..., str], repository: Repository, settings: Settings
) -> None:
    assert settings.data.exists()
    assert "there is no record" in fails("refit", SHIPPED, "--models", repository.root)


@pytest.mark.usefixtures("store")
def test_a_record_without_outcomes_gives_nothing_to_learn_from(
    fails: Callable[..., str], repository: Repository
) -> None:
    assert "has an outcome" in fails("refit", SHIPPED, "--models", repository.root)

"""The imitation: its two versions in calm and rough episodes, and in a closed loop behind a real server."""

import re
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("gymnasium")

from service.bundle.repository import Repository
from service.core.assessment.metrics import log_loss
from service.core.numerics import Indices
from service.errors import SessionUnavailable
from service.runtime.model import Model, load_model
from service.training.cart_pole import OTHERS, ROUGH, Condition, course, expert, sampled, served_task
from service.training.closed_loop import Answer, Caller, alarms_per_thousand, flagged, run_episode, run_episodes
from service.training.decide_client import Client
from service.training.imitation import Policy, States, compounded_cost, greedy, handing_over
from tests.conftest import Server, serving
from tests.models.recipes import MODELS, metrics, recipe
from tests.torch_threads import on_one_thread

NAME: Final = "cartpole-imitation"
FALLS: Final = (0, 4, 25)
"""Seeds of rough episodes in which `cloned` falls, steering alone."""


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Of every network in the test."""
    with on_one_thread():
        yield


@pytest.fixture(scope="module")
def cloned() -> Model:
    return version("cloned")


@pytest.fixture(scope="module")
def stable() -> Model:
    return version("stable")


def version(label: str) -> Model:
    repository = Repository(MODELS)
    return load_model(repository.bundle(NAME, repository.aliases(NAME)[label]))


def acting(model: Model) -> Policy:
    def act(states: States) -> Indices:
        return np.asarray(model.posterior(states.astype(np.float64)).log_probs.argmax(axis=1))

    return act


def rows_of(name: str) -> list[list[str]]:
    """A table of the card, without its header."""
    lines: list[str] = metrics(NAME)["tables"][name].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of this model alone: its server starts sooner than that of all."""
    root = tmp_path_factory.mktemp("alone")
    shutil.copytree(MODELS / NAME, root / NAME, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    return root


def caller(server: Server, **terms: Any) -> Callable[[], Caller]:
    port = server.client.base_url.port
    assert port is not None
    return partial(Client, port, NAME, **terms)


# --------------------------------------------------------------------------------------------------- over HTTP


def test_where_cloned_falls_alone_it_stands_with_hand_overs(alone: Path) -> None:
    task = served_task(500, ROUGH, hand_over="defer")
    with serving(alone, TEMPERANCE_AUDIT="off") as server:
        steered = run_episodes(caller(server, label="cloned", policy="steer"), task, seeds=FALLS)
        watched = run_episodes(caller(server, label="cloned", policy="hand-over"), task, seeds=FALLS)
    assert steered.failed.sum() >= 2  # other processors round otherwise
    assert steered.handed_over == 0.0
    assert steered.alarm > 0.5
    assert watched.failed.sum() == 0
    assert 0.0 < watched.flagged <= watched.handed_over < 0.8


def test_a_served_episode_is_the_one_that_the_version_gives_in_process(alone: Path, cloned: Model) -> None:
    task, act = served_task(120, Condition(start=0.2), hand_over="defer"), acting(cloned)

    def decide(state: States, session: object) -> Answer:
        rows = np.asarray(state)[None]
        return Answer(task.classes[act(rows)[0]], bool(flagged(cloned, rows)[0]), False, session)

    with serving(alone, TEMPERANCE_AUDIT="off") as server:
        client = caller(server, label="cloned", policy="steer")()
        served = run_episode(client.decide, task, seed=1)
        client.close()
    np.testing.assert_array_equal(served.flagged, run_episode(decide, task, seed=1).flagged)
    assert 0 < served.flagged.sum() < 120


@pytest.mark.long
def test_the_closed_loop_of_the_card_is_repeated(alone: Path) -> None:
    task = served_task(500, ROUGH, hand_over="defer")
    with serving(alone, TEMPERANCE_AUDIT="off") as server:
        for policy, row in zip(("steer", "hand-over"), rows_of("http"), strict=False):
            found = run_episodes(caller(server, label="cloned", policy=policy), task, seeds=range(100))
            fallen = int(row[1].split()[0])
            assert found.failed.sum() == pytest.approx(fallen, abs=3), policy
            assert 100.0 * found.handed_over == pytest.approx(float(row[3].split()[0]), abs=1.0)


# --------------------------------------------------------------------------------------------------- in process


def test_stable_never_falls_in_calm_episodes_and_cloned_leaves_its_course(cloned: Model, stable: Model) -> None:
    lasting, drifting = (course(acting(model), 50, 500, seed=OTHERS["test"]) for model in (stable, cloned))
    assert not lasting.failed.any()
    assert compounded_cost(drifting, expert)[-1] > 2.0 * compounded_cost(lasting, expert)[-1]


def test_hand_overs_keep_cloned_upright_in_rough_episodes(cloned: Model) -> None:
    policies = (acting(cloned), handing_over(acting(cloned), expert, partial(flagged, cloned)))
    alone, watched = (course(policy, 50, 500, seed=7, condition=ROUGH) for policy in policies)
    assert alone.failed.mean() > watched.failed.mean() + 0.1


def test_each_version_has_the_log_loss_of_the_card_on_both_courses(cloned: Model, stable: Model) -> None:
    models = [cloned, cloned, stable, stable]
    policies = [expert, acting(cloned), expert, acting(stable)]
    for model, policy, row in zip(models, policies, rows_of("versions"), strict=True):
        states = sampled(course(policy, 300, 200, seed=OTHERS["test"]))
        loss = log_loss(model.posterior(states.inputs.astype(np.float64)).log_probs, states.labels)
        assert loss == pytest.approx(float(row[4]), abs=0.02)  # a course is as sensitive as its pole


def test_the_false_alarms_of_the_card_are_those_of_the_monitor(cloned: Model) -> None:
    written = re.match(r"\d+", metrics(NAME)["texts"]["false_alarms"])
    assert written is not None
    rate = alarms_per_thousand(cloned, course(expert, 300, 500, seed=OTHERS["test"]))
    assert rate == pytest.approx(float(written[0]), abs=1.5)


@pytest.mark.usefixtures("one_thread")
def test_a_network_that_is_trained_today_acts_like_the_published_one(cloned: Model) -> None:
    module = recipe(NAME)
    today = greedy(module.learned(module.shown(0), 0).outputs)
    states = course(expert, 50, 200, seed=OTHERS["test"]).visited()
    logits = cloned.posterior(states.astype(np.float64)).logits  # a calibration may move the border between classes
    assert np.mean(today(states) == logits.argmax(axis=1)) > 0.99


def test_no_alarm_is_counted_for_an_uncalibrated_version(uncalibrated: Model) -> None:
    with pytest.raises(SessionUnavailable, match="uncalibrated"):
        alarms_per_thousand(uncalibrated, course(expert, 1, 2, seed=0))

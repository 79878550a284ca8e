"""How `cartpole-imitation` was made: an expert that balances a pole is copied twice, from equally many labels.

Version 1, `cloned`, learned from the expert's own states; version 2, `stable`, from states of its own course as well::

    .venv/bin/python models/cartpole-imitation/recipe.py --models DIR
"""

from functools import partial
from pathlib import Path

from service.bundle.repository import Repository
from service.bundle.writer import set_alias
from service.runtime.model import Model
from service.training import cart_pole as pole
from service.training import imitation_tables as tables
from service.training.cards import PROSE_FILE, write_card
from service.training.cart_pole import STEPS, course, expert
from service.training.closed_loop import Outcome, alarms_per_thousand, flagged, run_episodes
from service.training.decide_client import Client, serving
from service.training.example_sets import Examples
from service.training.imitation import States, aggregate, greedy, hand_overs
from service.training.loop import Settings, Trained, train
from service.training.networks import mlp
from service.training.objectives import CrossEntropy
from service.training.publication import Declaration, publish_trained, report_of
from service.training.recipe_command import run_recipe
from service.training.seeds import over_seeds

NAME, TITLE = "cartpole-imitation", "Cart and pole: push left or right, as an expert would"
EPISODES, TEST = 100, pole.OTHERS["test"]
SETTINGS = Settings(epochs=60, batch=32, learning_rate=3e-3, patience=15)
WRONG = {"left": {"left": 0.0, "right": 1.0}, "right": {"left": 1.0, "right": 0.0}}
SECTIONS = {
    "features": {
        "position": {"plausible": [-pole.FARTHEST, pole.FARTHEST]},
        "angle": {"plausible": [-pole.STEEPEST, pole.STEEPEST], "unit": "rad"},
    },
    "ood": {"scores": ["nll", "mahalanobis"], "space": "inputs", "false_alarm": 0.01, "gate": ["mahalanobis"]},
    "policies": {
        "steer": {"default": True, "costs": WRONG},
        "hand-over": {"on_ood": "defer", "costs": {**WRONG, "defer": {"left": 0.45, "right": 0.45}}},
    },
}
DECLARATION = Declaration(NAME, TITLE, pole.ACTIONS, pole.FEATURES, sections=SECTIONS)
CALLERS = {
    "`cloned`, policy `steer`": {"label": "cloned", "policy": "steer"},
    "`cloned`, policy `hand-over`": {"label": "cloned", "policy": "hand-over"},
    "`cloned`, the expert while the session's alarm stands": {"label": "cloned", "policy": "steer", "alarm": "defer"},
}


def load() -> dict[str, Examples]:
    """Rows of version 1: the expert's course alone."""
    return pole.fifths(shown(0)) | pole.others(expert)


def shown(seed: int) -> States:
    """Behaviour cloning: two episodes of the expert, 250 steps each."""
    return course(expert, 2, 250, seed=seed).visited()


def aggregated(seed: int) -> States:
    """DAgger: from the same two starts, in each of ten rounds, 50 states of the learner's own course."""
    return aggregate(
        expert,
        visit=lambda policy, _: course(policy, 2, 250, seed=seed).visited(),
        learn=lambda states, _: greedy(learned(states, seed).outputs),
        labels=500,
        rounds=10,
        seed=seed,
    )


def learned(states: States, seed: int) -> Trained:
    """A network that copies the expert on these states."""
    rows = pole.fifths(states)
    network = mlp(rows["train"], 2, hidden=(32, 32), seed=seed)
    return train(network, CrossEntropy(), rows["train"], rows["validation"], SETTINGS, seed=seed)


def published(trained: Trained, label: str, rows: dict[str, Examples], models: Path) -> Model:
    """A version under an alias, calibrated on other episodes of the course on which it learned."""
    calibration, reference = rows["calibration"], rows["reference"]
    model = publish_trained(trained, DECLARATION, models=models, calibration=calibration, train=reference)
    set_alias(Repository(models), NAME, label, int(model.version))
    return model


def compare(cloned: Model, seed: int) -> dict[str, float]:
    """Errors, costs and falls of both learners; falls of the cloned one with hand-overs."""
    learners = {"cloned": shown(seed), "aggregated": aggregated(seed)}
    policies = {name: greedy(learned(states, seed).outputs) for name, states in learners.items()}
    rough = partial(course, episodes=EPISODES, steps=STEPS, seed=TEST + seed, condition=pole.ROUGH)
    numbers = hand_overs(policies["cloned"], expert, partial(flagged, cloned), rough, seed=seed)
    for name, policy in policies.items():
        found = pole.measured(policy, episodes=EPISODES, seed=TEST + seed)
        numbers |= {f"{name} {key}": value for key, value in found.items()}
    return numbers


def over_http(models: Path) -> dict[str, Outcome]:
    """The same episodes for every caller; a server process of its own chooses each action."""
    task = pole.served_task(STEPS, pole.ROUGH, hand_over="defer")
    with serving(models) as port:
        clients = {name: partial(Client, port, NAME, **terms) for name, terms in CALLERS.items()}
        return {name: run_episodes(client, task, seeds=range(EPISODES)) for name, client in clients.items()}


def make(models: Path, seeds: int = 10) -> None:
    """Train, publish, compare over seeds, steer over HTTP, and write the card."""
    clone, student = learned(shown(0), 0), learned(aggregated(0), 0)
    rows, own, lasting = load(), pole.others(greedy(clone.outputs)), pole.others(greedy(student.outputs))
    cloned, stable = published(clone, "cloned", rows, models), published(student, "stable", lasting, models)
    numbers = over_seeds(range(seeds), partial(compare, cloned))
    versions = {"cloned": (cloned, rows["test"], own["test"]), "stable": (stable, rows["test"], lasting["test"])}
    outcomes = over_http(models)
    false_alarms = alarms_per_thousand(cloned, course(expert, 300, STEPS, seed=TEST))
    metrics = {
        "version": int(stable.version),
        "digest": stable.bundle.digest,
        "test": report_of(stable, rows["test"]).metrics,
        "means": {name: spread.mean for name, spread in numbers.items()},
        "tables": {
            "learners": tables.learner_table(numbers, "cloned", "aggregated"),
            "versions": tables.version_table(versions),
            "hand_overs": tables.hand_over_table(numbers),
            "http": tables.outcome_table(outcomes),
        },
        "texts": {
            "share": f"{100 * numbers['share'].mean:.0f} %",
            "episodes": str(EPISODES),
            "steps": f"{sum(outcome.steps for outcome in outcomes.values()):,}",
            "false_alarms": f"{false_alarms:.0f} in 1000 steps, on 300 calm episodes of the expert",
        },
    }
    figures = {
        "compounded": tables.compounded_chart(numbers, {"cloned": "behaviour cloning", "aggregated": "DAgger"}),
        "reliability": tables.reliability_chart(cloned, rows["test"], own["test"]),
    }
    write_card(models / NAME, metrics, figures, prose=Path(__file__).with_name(PROSE_FILE))


if __name__ == "__main__":
    run_recipe(make, __doc__)

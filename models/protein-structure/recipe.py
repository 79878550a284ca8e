"""How `protein-structure` was made: loop, helix or strand of every residue, trained with a price on change.

``.venv/bin/python models/protein-structure/recipe.py --models DIR`` publishes into DIR, beside its card.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import torch

from service.runtime.model import Model
from service.training.cards import PROSE_FILE, write_card
from service.training.comparison_tables import difference_table, spread_table
from service.training.example_sets import Examples
from service.training.group_splits import split_by_group
from service.training.loop import Settings, Trained, train
from service.training.networks import Tagger
from service.training.objectives import SequenceCrossEntropy
from service.training.pictures import reliability_before_and_after, tracks
from service.training.protein_chains import AMINO_ACIDS, LONGEST, STATES, protein_chains, random_dna
from service.training.publication import Declaration, publish_trained, report_of
from service.training.recipe_command import run_recipe
from service.training.seeds import Spread, over_seeds
from service.training.sequence_measures import (
    lengths_of,
    log_probs_by_serving,
    measures_by_serving,
    most_probable,
    sequence_auroc,
    sequence_split_table,
    switches,
)

NAME: Final = "protein-structure"
TITLE: Final = "Residues of a protein chain: loop, helix or strand, from the sequence alone"
SHARES: Final = {"train": 0.5, "validation": 0.12, "calibration": 0.19, "test": 0.19}  # of similarity groups
SETTINGS: Final = Settings(epochs=20, batch=16, learning_rate=3e-3, weight_decay=1e-3, patience=5)
ALONE: Final = "one residue alone, λ = 0"
TAGGERS: Final = {"λ = 0": 0.0, "λ = 0.3": 0.3, "λ = 1": 1.0, "λ = 3": 3.0, ALONE: 0.0}
WAYS: Final = ("as trained", "calibrated", "hmm")
MEASURES: Final = {
    "log_loss": "log loss",
    "accuracy": "accuracy",
    "overlap": "segment overlap",
    "switches": "changes per residue",
}
SCORES: Final = {"nll": "AUROC of nll", "energy": "AUROC of energy"}
SHOWN = 150  # residues of the chain in the picture
COSTS: Final = {f"mark_{state}": {other: int(other != state) for other in STATES} for state in STATES}
POLICIES: Final = {"annotate": {"switch": 0.5, "costs": {**COSTS, "leave_open": dict.fromkeys(STATES, 0.5)}}}


def load(seed: int = 0) -> dict[str, Examples]:
    """Chains, split by similarity group; seed 0 is that of the published version."""
    return split_by_group(protein_chains(), SHARES, seed=seed)


def train_tagger(splits: Mapping[str, Examples], smoothness: float, seed: int, *, alone: bool = False) -> Trained:
    """A tagger from scratch; the seed draws its first weights, too."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        sizes = len(AMINO_ACIDS), len(STATES)
        network = Tagger(*sizes, window=1, dilations=()) if alone else Tagger(*sizes)
    loss = SequenceCrossEntropy(smoothness)
    return train(network, loss, splits["train"], splits["validation"], SETTINGS, seed=seed)


def experiment(seed: int) -> dict[str, float]:
    """On one split, every λ and a tagger of single residues: what each is worth, by each way to serve it."""
    splits = load(seed)
    test = splits["test"]
    found = {"truth": switches(test.labels, test.labels)}
    for name, smoothness in TAGGERS.items():
        trained = train_tagger(splits, smoothness, seed, alone=name == ALONE)
        measures = measures_by_serving(trained, splits["calibration"], test)
        measures["validation"] = trained.history[trained.best_epoch].validation_log_loss
        measures |= {score: sequence_auroc(score, trained, test, random_dna(test.inputs)) for score in SCORES}
        found |= {f"{name} | {measure}": value for measure, value in measures.items()}
    return found


def publish(models: Path, trained: Trained, splits: Mapping[str, Examples]) -> Model:
    """The version, calibrated on its own split."""
    tensor = {"name": "x", "shape": [LONGEST], "pad": 0, "allowed": [1, len(AMINO_ACIDS)]}
    sections = {"inputs": [tensor], "ood": {"scores": ["nll"]}, "policies": POLICIES}
    declaration = Declaration(NAME, TITLE, STATES, sections=sections)
    return publish_trained(trained, declaration, models=models, calibration=splits["calibration"])


def tables(found: Mapping[str, Spread], chosen: str) -> dict[str, str]:
    """Over the seeds: every λ as calibrated; what the chosen one changed; ways to serve; and what tells DNA apart."""
    losses = {"validation": "validation log loss", "as trained | log_loss": "log loss as trained"}
    calibrated = {f"calibrated | {measure}": title for measure, title in MEASURES.items()}
    overlap = SHARES["test"] / SHARES["train"]
    served = [f"{name} | {way}" for name in ("λ = 0", chosen, ALONE) for way in WAYS]
    smoothed = [(f"{name} | hmm", f"{name} | calibrated") for name in ("λ = 0", chosen, ALONE)]
    return {
        "smoothness": spread_table(found, ["trained with"], list(TAGGERS)[:-1], losses | calibrated),
        "chosen": difference_table(found, [(chosen, "λ = 0")], losses | calibrated, test_over_training=overlap),
        "serving": spread_table(found, ["trained with", "served"], served, MEASURES),
        "smoothing": difference_table(found, smoothed, MEASURES, test_over_training=overlap),
        "dna": spread_table(found, ["trained with"], ["λ = 0", chosen], SCORES),
    }


def pictures(taggers: Mapping[str, Trained], splits: Mapping[str, Examples]) -> dict[str, str]:
    """Reliability of the most probable state, and one chain: its true states, and the predicted ones."""
    test, lengths = splits["test"], lengths_of(splits["test"])
    served = {name: log_probs_by_serving(one, splits["calibration"], test) for name, one in taggers.items()}
    *_, chosen = taggers
    found = {name: log_probs["calibrated"] for name, log_probs in served.items()}
    found[f"{chosen}, hmm"] = served[chosen]["hmm"]
    row = int(np.abs(lengths - SHOWN).argmin())
    lines = {"true": test.labels[row], **{name: one[row].argmax(axis=1) for name, one in found.items()}}
    chain = {name: line[: lengths[row]] for name, line in lines.items()}
    events = {way: most_probable(log_probs, test) for way, log_probs in served[chosen].items()}
    return {"reliability": reliability_before_and_after(events), "chain": tracks(chain, STATES)}


def make(models: Path, seeds: int = 10) -> None:
    """Train, publish, compare over seeds, and write the card."""
    found, splits = over_seeds(range(seeds), experiment), load()
    chosen = min(list(TAGGERS)[:-1], key=lambda name: found[f"{name} | validation"].mean)
    taggers = {name: train_tagger(splits, TAGGERS[name], seed=0) for name in ("λ = 0", chosen)}
    model = publish(models, taggers[chosen], splits)
    report = report_of(model, splits["test"])
    metrics = {
        "version": int(model.version),
        "digest": model.bundle.digest,
        "test": report.metrics,
        "uncalibrated": report.uncalibrated_metrics,
        "tables": {"splits": sequence_split_table(splits, STATES), **tables(found, chosen)},
        "texts": {"chosen": chosen, "truth": found["truth"].text(), "smoother": model.smoother},
    }
    write_card(models / NAME, metrics, pictures(taggers, splits), prose=Path(__file__).with_name(PROSE_FILE))


def main() -> None:
    """Command line."""
    run_recipe(make, __doc__)


if __name__ == "__main__":
    main()

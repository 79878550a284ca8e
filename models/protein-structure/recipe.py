"""How `protein-structure` was made: loop, helix or strand of every residue, trained with a price on change.

``.venv/bin/python models/protein-structure/recipe.py --models DIR`` publishes into DIR, beside its card.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click
import numpy as np
import torch

from service.runtime.model import Model
from service.training.cards import table, write_card
from service.training.example_sets import Examples
from service.training.group_splits import split_by_group
from service.training.loop import Settings, Trained, train
from service.training.networks import Tagger
from service.training.objectives import SequenceCrossEntropy
from service.training.pictures import reliability_before_and_after, tracks
from service.training.protein_chains import AMINO_ACIDS, LONGEST, STATES, protein_chains, random_dna
from service.training.publication import Declaration, publish_trained, report_of
from service.training.seeds import Spread, over_seeds, paired
from service.training.sequence_measures import (
    lengths_of,
    log_probs_by_serving,
    measures_by_serving,
    most_probable,
    sequence_auroc,
    split_table,
    switches,
)

NAME: Final = "protein-structure"
TITLE: Final = "Residues of a protein chain: loop, helix or strand, from the sequence alone"
SHARES: Final = {"train": 0.5, "validation": 0.12, "calibration": 0.19, "test": 0.19}  # of similarity groups
SEEDS, SMOOTHNESS = range(5), (0.0, 0.3, 1.0, 3.0)
SETTINGS = Settings(epochs=20, batch=16, learning_rate=3e-3, weight_decay=1e-3, patience=5)
ALONE: Final = "alone"  # a tagger that reads one residue at a time
WHAT: Final = {
    "accuracy": "accuracy",
    "overlap": "segment overlap",
    "switches": "changes per residue",
    "log_loss": "log loss",
}
SHOWN = 200  # residues of the chain in the picture
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
    for name in (*SMOOTHNESS, ALONE):
        trained = train_tagger(splits, 0.0 if name == ALONE else float(name), seed, alone=name == ALONE)
        measures = measures_by_serving(trained, splits["calibration"], test)
        measures["validation"] = trained.history[trained.best_epoch].validation_log_loss
        measures |= {
            score: sequence_auroc(score, trained, test, random_dna(test.inputs)) for score in ("nll", "energy")
        }
        found |= {f"{name} {what}": value for what, value in measures.items()}
    return found


def publish(models: Path, trained: Trained, splits: Mapping[str, Examples]) -> Model:
    """The version, calibrated on its own split."""
    tensor = {"name": "x", "shape": [LONGEST], "pad": 0, "allowed": [1, len(AMINO_ACIDS)]}
    sections = {"inputs": [tensor], "ood": {"scores": ["nll"]}, "policies": POLICIES}
    declaration = Declaration(NAME, TITLE, STATES, sections=sections)
    return publish_trained(trained, declaration, models=models, calibration=splits["calibration"])


def tables(found: Mapping[str, Spread], chosen: float) -> dict[str, str]:
    """Over the seeds: every λ; the chosen one less λ = 0; ways to serve; and what tells DNA from protein."""
    columns = ("validation", "as trained log_loss", *(f"calibrated {what}" for what in reversed(WHAT)))
    overlap = SHARES["test"] / SHARES["train"]
    rows = [[f"λ = {one:g}", *(found[f"{one} {name}"].text() for name in columns)] for one in SMOOTHNESS]
    gaps = [paired(found[f"{chosen} {name}"], found[f"0.0 {name}"], test_over_training=overlap) for name in columns]
    titles = {0.0: "a window, λ = 0", chosen: f"a window, λ = {chosen:g}", ALONE: "one residue, λ = 0"}
    served = [
        [title, way, *(found[f"{name} {way} {what}"].text() for what in WHAT)]
        for name, title in titles.items()
        for way in ("as trained", "calibrated", "hmm")
    ]
    heads = ["loss", "validation log loss", "log loss as trained", *reversed(WHAT.values())]
    return {
        "smoothness": table(heads, [*rows, [f"λ = {chosen:g} less λ = 0", *(gap.text() for gap in gaps)]]),
        "serving": table(["tagger reads", "served", *WHAT.values()], served),
        "dna": table(["score", "AUROC"], [[one, found[f"{chosen} {one}"].text()] for one in ("nll", "energy")]),
    }


def pictures(chosen: Trained, plain: Trained, splits: Mapping[str, Examples]) -> dict[str, str]:
    """Reliability of the most probable state, and one chain: its true states, and the predicted ones."""
    test, lengths = splits["test"], lengths_of(splits["test"])
    served, without = (log_probs_by_serving(one, splits["calibration"], test) for one in (chosen, plain))
    row = int(np.abs(lengths - SHOWN).argmin())
    found = {"λ = 0": without["calibrated"], "with λ": served["calibrated"], "with λ, hmm": served["hmm"]}
    lines = {name: log_probs[row].argmax(axis=1) for name, log_probs in found.items()}
    chain = {name: line[: lengths[row]] for name, line in {"true": test.labels[row], **lines}.items()}
    events = {name: most_probable(log_probs, test) for name, log_probs in served.items()}
    return {"reliability": reliability_before_and_after(events), "chain": tracks(chain, STATES)}


def make(models: Path) -> None:
    """Train, publish, compare over seeds, and write the card."""
    found, splits = over_seeds(SEEDS, experiment), load()
    chosen = min(SMOOTHNESS, key=lambda smoothness: found[f"{smoothness} validation"].mean)
    trained, plain = (train_tagger(splits, smoothness, seed=0) for smoothness in (chosen, 0.0))
    model = publish(models, trained, splits)
    report = report_of(model, splits["test"])
    metrics = {
        "version": int(model.version),
        "digest": model.bundle.digest,
        "test": report.metrics,
        "uncalibrated": report.uncalibrated_metrics,
        "tables": {"splits": split_table(splits, STATES), **tables(found, chosen)},
        "texts": {"chosen": f"{chosen:g}", "truth": found["truth"].text(), "smoother": model.smoother},
    }
    write_card(models / NAME, metrics, pictures(trained, plain, splits), prose=Path(__file__).with_name("card.md.in"))


@click.command()
@click.option("--models", type=click.Path(path_type=Path), required=True, help="Repository to publish into.")
def main(models: Path) -> None:
    """Publish the model, and write its card."""
    make(models)


if __name__ == "__main__":
    main()

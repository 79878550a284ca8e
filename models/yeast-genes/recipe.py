"""How `yeast-genes` was made: one sigmoid per label, each calibrated and priced by itself. None speaks of sets."""

from pathlib import Path

import numpy as np
import polars as pl
from sklearn.linear_model import LogisticRegression

from service.core.assessment.joint_labels import Joint, joint
from service.core.numerics import Array, Indices
from service.evaluation.prequential import compare_calibrators
from service.training.cards import PROSE_FILE, coded_table, write_card
from service.training.chains import binary_measures
from service.training.comparison_tables import difference_table, spread_table
from service.training.data_packages import folder_of
from service.training.example_sets import Examples
from service.training.group_splits import split_by_group
from service.training.loop import Settings, Trained, train
from service.training.multilabel import beyond_chance, by_label, calibrated_by_label
from service.training.networks import mlp
from service.training.objectives import MultilabelCrossEntropy
from service.training.pictures import marginals_and_pairs, reliability_before_and_after
from service.training.publication import Declaration, evaluation_of, publish_trained
from service.training.recipe_command import run_recipe
from service.training.seeds import over_seeds

NAME = "yeast-genes"
LABELS = tuple(f"Class{i}" for i in range(1, 15))
FEATURES = tuple(f"Att{i}" for i in range(1, 104))
SHARES = {"train": 0.6, "validation": 0.1, "calibration": 0.15, "test": 0.15}
SETTINGS = Settings(epochs=60, batch=64, weight_decay=0.01, patience=10)
MISSED = dict.fromkeys(LABELS, 5) | dict.fromkeys(("Class9", "Class10", "Class11", "Class14"), 10)
MISSED |= {"Class12": 2, "Class13": 2}
WAYS = ("frequencies", "to the end", "to the end, calibrated", "as trained", "calibrated")
QUALITY = {"log_loss": "log loss", "event_calibration_error": "ECE", "least_cost": "cost", "argmax_cost": "cost at 0.5"}
CHAIN = {"set_log_loss": "log loss of the set"}
SETS = {"labels off": "labels off, of 14", "pairs off": "pairs off, of 91", **CHAIN}
CLAIMS = (("as trained", "frequencies"), ("calibrated", "as trained"), ("to the end, calibrated", "to the end"))
PAIRS = ((1, 2), (7, 8), (10, 11), (12, 13))
EVENTS = (*(f"Class{a} and Class{b}" for a, b in PAIRS), "whole set right")
JOINT = {"observed": "observed", "product": "product", "low": "lower bound", "high": "upper bound"}
COSTS = {f"{way} least_cost": way for way in ("frequencies", "as trained", "calibrated")}
COSTS |= {"calibrated argmax_cost": "calibrated, at 0.5"}


def load(seed: int = 0) -> dict[str, Examples]:
    """Splits of the published version; every gene is in one of them."""
    data = pl.read_csv(folder_of("river") / "datasets" / "yeast.csv.gz")
    inputs, labels = data.select(FEATURES).to_numpy().astype(np.float32), data.select(LABELS).to_numpy()
    return split_by_group(Examples(inputs, labels.astype(np.int64)), SHARES, seed=seed)


def fitted(parts: dict[str, Examples], seed: int, *, to_the_end: bool = False) -> Trained:
    """The published network; or one without dropout whose stopping rows are its own, so that it never stops."""
    rows, stopping = parts["train"], parts["train" if to_the_end else "validation"]
    network = mlp(rows, len(LABELS), hidden=(128,), dropout=0.0 if to_the_end else 0.5, seed=seed)
    return train(network, MultilabelCrossEntropy(), rows, stopping, SETTINGS, seed=seed)


def log_probs_by_way(parts: dict[str, Examples], seed: int) -> tuple[dict[str, Array], Array]:
    """Log-probabilities of test labels by `WAYS`; and log loss of their sets by a chain on the published network."""
    held, test = parts["calibration"], parts["test"]
    share = np.concatenate([parts["train"].labels, held.labels]).mean(axis=0)
    found = [np.tile(np.log(np.stack([1.0 - share, share], axis=1)), (len(test), 1, 1))]
    for trained in (fitted(parts, seed, to_the_end=True), fitted(parts, seed)):
        before, new = trained.outputs(held.inputs), trained.outputs(test.inputs)
        found += [by_label(new), calibrated_by_label(before, held.labels, new)]
    return dict(zip(WAYS, found, strict=True)), chain_losses(before, held.labels, new, test.labels)


def chain_losses(held: Array, known: Indices, new: Array, labels: Indices) -> Array:
    """Log loss of whole sets, shape (N,), if each label also sees the true labels in front of it."""
    losses = np.zeros(len(labels))
    for m in range(len(LABELS)):
        seen, shown = (np.column_stack([z[:, m], y[:, :m]]) for z, y in ((held, known), (new, labels)))
        log_probs = LogisticRegression(max_iter=1000).fit(seen, known[:, m]).predict_log_proba(shown)
        losses -= log_probs[np.arange(len(labels)), labels[:, m]]
    return losses


def together(log_probs: Array, labels: Indices) -> dict[str, Joint]:
    """Pairs that are present together, and whole sets that are predicted right."""
    pairs = [joint(np.exp(log_probs[:, [a - 1, b - 1], 1]), labels[:, [a - 1, b - 1]]) for a, b in PAIRS]
    right = joint(np.exp(log_probs.max(axis=2)), log_probs.argmax(axis=2) == labels)
    return dict(zip(EVENTS, [*pairs, right], strict=True))


def compare(seed: int) -> dict[str, float]:
    """Every number of the tables for one split."""
    parts = load(seed)
    (by_way, chained), labels = log_probs_by_way(parts, seed), parts["test"].labels
    found = {"chain of labels | set_log_loss": float(chained.mean())}
    for way, log_probs in by_way.items():
        for size, what in enumerate(("labels off", "pairs off"), start=1):
            found[f"{way} | {what}"] = beyond_chance(log_probs, labels, size=size)
        costs = (np.array([[0.0, MISSED[label]], [1.0, 0.0]]) for label in LABELS)
        each = [binary_measures(log_probs[:, m], labels[:, m], cost) for m, cost in enumerate(costs)]
        found[f"{way} | set_log_loss"] = sum(one["log_loss"] for one in each)
        found |= {f"{way} | {key}": float(np.mean([one[key] for one in each])) for key in QUALITY}
        found |= {f"{LABELS[m]} | {way} {key}": one[key] for m, one in enumerate(each) for key in QUALITY}
    for event, one in together(by_way["calibrated"], labels).items():
        found |= {f"{event} | {key}": getattr(one, key) for key in JOINT}
    return found


def declaration() -> Declaration:
    """Names, OOD scores, and the example policy: an assay costs 1, a missed label `MISSED`."""
    priced = {label: {"skip": {"absent": 0, "present": cost}} for label, cost in MISSED.items()}
    labels = {label: {"costs": own | {"assay": {"absent": 1, "present": 0}}} for label, own in priced.items()}
    ood = {"scores": ["joint_energy", "mahalanobis"], "space": "inputs", "gate": ["mahalanobis"]}
    sections = {"ood": ood, "policies": {"assay": {"default": True, "labels": labels}}}
    return Declaration(NAME, "Yeast gene: its functional classes, of 14", LABELS, FEATURES, sections=sections)


def make(models: Path, seeds: int = 10) -> None:
    """Publish a version, and write the card with its comparisons over splits."""
    parts = load()
    held, test = parts["calibration"], parts["test"]
    model = publish_trained(fitted(parts, 0), declaration(), models=models, calibration=held, train=parts["train"])
    evaluation = evaluation_of(model, test, ood=np.random.default_rng(0).permuted(test.inputs, axis=0))
    found, report, ratio = over_seeds(range(seeds), compare), evaluation.report, SHARES["test"] / SHARES["train"]
    metrics = {
        "version": model.version,
        "digest": model.bundle.digest,
        "test": report.metrics,
        "ood": {"flagged": report.ood.flag_rate, "shuffled": report.ood.ood_flag_rate},
        "off": sum(part.probabilities.calibration.p_value < 0.05 for part in report.parts.values()),
        "tables": {
            "quality": spread_table(found, ["probabilities"], WAYS, QUALITY),
            "claims": difference_table(found, CLAIMS, QUALITY, test_over_training=ratio),
            "chain": difference_table(found, [("chain of labels", "calibrated")], CHAIN, test_over_training=ratio),
            "coded": coded_table(compare_calibrators(evaluation.labelled)),
            "sets": spread_table(found, ["probabilities"], WAYS, SETS),
            "together": spread_table(found, ["event"], EVENTS, JOINT),
            "costs": spread_table(found, ["label"], LABELS, COSTS),
        },
    }
    shown = {way: np.exp(own[:, :, 1]) for way, own in list(log_probs_by_way(parts, 0)[0].items())[1:]}
    curves = reliability_before_and_after({way: (p.ravel(), test.labels.ravel() == 1) for way, p in shown.items()})
    pictures = {"reliability": curves, "pairs": marginals_and_pairs(shown["calibrated"], test.labels)}
    write_card(models / NAME, metrics, pictures, prose=Path(__file__).with_name(PROSE_FILE))


if __name__ == "__main__":
    run_recipe(make, __doc__)

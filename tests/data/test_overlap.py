"""Rows that two data sets share are counted, and a calibration on the training rows is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.bundle.repository import Repository
from service.data.dataset import Dataset
from service.data.overlap import compare
from service.errors import DataError
from service.evaluation.evaluate import EvaluateRequest, evaluate_file
from service.fitting.fit import FitRequest, FitResult, fit
from service.runtime.model import load_model
from service.runtime.rows import Fields

Toy = Callable[..., Repository]
Save = Callable[..., Path]
Truth = Callable[..., Any]


def data(rows: Any, digest: str = "a") -> Dataset:
    return Dataset(rows, np.zeros(len(rows), dtype=np.intp), None, None, digest)


def test_rows_are_the_same_value_by_value() -> None:
    one = np.array([[0.0, np.nan], [1.0, 2.0], [1.0, 2.0], [3.0, 4.0]])
    other = np.array([[-0.0, -np.nan], [1.0, 2.0], [9.0, 9.0]])
    found = compare(data(one), data(other, "b"))
    assert (found.rows, found.shared, found.distinct, found.same) == (4, 3, 3, False)


def test_text_and_padded_rows_are_compared_without_their_padding() -> None:
    def fields(ids: list[list[int]], wards: list[str | None], lengths: list[int]) -> Fields:
        others = {"ids": np.array(ids), "ward": np.array(wards, dtype=object)}
        return Fields(np.empty((len(ids), 0)), others, np.array(lengths))

    one = fields([[1, 2, 7], [3, 9, 9], [5, 6, 7]], ["er", None, "er"], [2, 1, 3])
    other = fields([[1, 2], [3, 0], [5, 6]], ["er", None, "er"], [2, 1, 2])
    assert compare(data(one), data(other, "b")).shared == 2


@pytest.fixture
def fitted(toy: Toy) -> Callable[..., FitResult]:
    def run(path: Path, train: Path, *, allow_overlap: bool = False) -> FitResult:
        request = FitRequest(path, train_data=train, allow_overlap=allow_overlap)
        return fit(toy(2, '[ood]\nscores = ["mahalanobis"]\n'), "toy", request)

    return run


def test_the_same_file_is_refused_unless_it_is_meant(fitted: Any, truth: Truth, save: Save) -> None:
    x, y = truth(200)
    path = save("one", X=x, y=y)
    with pytest.raises(DataError, match=r"the training rows \(the same file\).*--allow-overlap"):
        fitted(path, path)
    assert "the calibration rows are the training rows (the same file)" in fitted(path, path, allow_overlap=True).notes


def test_nearly_all_rows_of_a_kind_of_their_own_are_refused(fitted: Any, truth: Truth, save: Save) -> None:
    x, y = truth(200)
    with pytest.raises(DataError, match="200 of 200 calibration rows are training rows too"):
        fitted(save("cal", X=x, y=y), save("train", X=x[::-1], y=y[::-1]))


def test_some_shared_rows_are_noted(fitted: Any, truth: Truth, save: Save) -> None:
    x, y = truth(200)
    u, v = truth(200, seed=1)
    result = fitted(save("cal", X=x, y=y), save("train", X=np.vstack([u, x[:12]]), y=np.append(v, y[:12])))
    assert "12 of 200 calibration rows are training rows too" in result.notes


def test_rows_of_few_kinds_turn_up_everywhere(fitted: Any, truth: Truth, save: Save) -> None:
    x, y = truth(200)
    x = x.round(-1)
    result = fitted(save("cal", X=x, y=y), save("train", X=x[::-1], y=y[::-1]))
    assert "200 of 200 calibration rows are training rows too" in result.notes


def test_new_rows_have_no_note(fitted: Any, truth: Truth, save: Save) -> None:
    x, y = truth(200)
    u, v = truth(200, seed=1)
    names = np.array(["ann", "bob"])
    assert fitted(save("cal", X=x, y=names[y]), save("train", X=u, y=v)).notes == ()


def test_reserved_columns_and_absent_classes_are_noted(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(200, 3)
    path = save("cal", X=x[y < 2], y=y[y < 2], group=np.arange((y < 2).sum()), weight=np.ones((y < 2).sum()))
    notes = fit(toy(3), "toy", FitRequest(path)).notes
    assert notes[:2] == (
        "column 'group' is read as groups whose rows stay together, because of its name",
        "column 'weight' is read as row weights, because of its name",
    )
    assert notes[2].startswith("labels are indices of classes: 0 → ann ")
    assert notes[3] == "class 'cyd' never occurs"


def test_a_report_on_the_rows_of_the_fit_says_so(toy: Toy, truth: Truth, save: Save) -> None:
    repository, (x, y), (u, v) = toy(2, '[ood]\nscores = ["mahalanobis"]\n'), truth(200), truth(200, seed=1)
    cal, train = save("cal", X=x, y=y), save("train", X=u, y=v)
    fit(repository, "toy", FitRequest(cal, train_data=train))
    model = load_model(repository.bundle("toy", 1))
    for path, what in ((cal, "calibration"), (train, "training")):
        assert any(
            note.startswith(f"these are the {what} rows")
            for note in evaluate_file(model, EvaluateRequest(path)).report.notes
        )
    other = evaluate_file(model, EvaluateRequest(save("test", X=x[:150], y=y[:150])))
    assert not any(note.startswith("these are") for note in other.report.notes)

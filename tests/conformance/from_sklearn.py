"""scikit-learn through skl2onnx, in every output form it has."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from skl2onnx import to_onnx
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC

from tests.conformance.case import Case, draw, two

TRAIN = draw(150, 4)
TEST = draw(7, 4, seed=1)
THREE = np.digitize(TRAIN[:, 0] + 0.5 * TRAIN[:, 1], [-0.5, 0.5])
MANY = np.stack([TRAIN[:, 0] > 0, TRAIN[:, 1] > 0.5, TRAIN[:, 2] + TRAIN[:, 3] > -0.5], axis=1).astype(int)
OPSET = {"": 17, "ai.onnx.ml": 3}
NAMES = ("benign", "in situ", "invasive")
STRINGS = np.array(NAMES)

Exporter = Callable[[Path], Case]


def save(path: Path, fitted: Any, *, options: dict[str, Any] | None = None, **how: Any) -> Path:
    """Convert with skl2onnx and write the file; without ``initial_types`` there is one float input of four columns."""
    how = how or {"X": TRAIN[:1]}
    onnx.save(to_onnx(fitted, options={id(fitted): options} if options else None, target_opset=OPSET, **how), path)
    return path


def logistic(labels: Any, options: dict[str, Any] | None) -> Exporter:
    """A logistic regression of given labels."""

    def export(path: Path) -> Case:
        fitted = LogisticRegression().fit(TRAIN, labels)
        return Case(
            save(path, fitted, options=options),
            TEST.tolist(),
            fitted.predict_proba(TEST),
            tuple(map(str, fitted.classes_)),
        )

    return export


def linear_svc(path: Path) -> Case:
    """One column of margins; what a margin is worth only a calibration can tell, so the logistic of it is expected."""
    fitted = LinearSVC().fit(TRAIN, THREE == 1)
    margin = fitted.decision_function(TEST)
    flags = {"classes": ("no", "yes")}
    return Case(save(path, fitted), TEST.tolist(), two(1 / (1 + np.exp(-margin))), ("no", "yes"), flags)


def double(path: Path) -> Case:
    """Input and output in float64."""
    fitted = LogisticRegression().fit(TRAIN, THREE)
    how = {"initial_types": [("X", DoubleTensorType([None, 4]))]}
    save(path, fitted, options={"zipmap": False}, **how)
    return Case(path, TEST.tolist(), fitted.predict_proba(TEST.astype(float)), ("0", "1", "2"))


def forest(path: Path) -> Case:
    """Exact zeros and ones, and a classifier without a transform."""
    fitted = RandomForestClassifier(7, random_state=0).fit(TRAIN, STRINGS[THREE])
    save(path, fitted, options={"zipmap": False})
    return Case(path, TEST.tolist(), fitted.predict_proba(TEST), NAMES)


def imputing(path: Path) -> Case:
    """Missing values that the pipeline itself fills in."""
    fitted = make_pipeline(SimpleImputer(), LogisticRegression()).fit(TRAIN, THREE)
    holes = TEST.copy()
    holes[::2, 1] = np.nan
    rows = [[None if np.isnan(x) else float(x) for x in row] for row in holes]
    save(path, fitted, options={"zipmap": False})
    return Case(path, rows, fitted.predict_proba(holes), ("0", "1", "2"), {"missing": "nan"})


def columns_by_name(path: Path) -> Case:
    """One graph input per column: two of numbers, one of strings."""
    import pandas as pd

    def frame(rows: Any) -> Any:
        wards = np.array(["icu", "er", "ward"])[(np.abs(rows[:, 2]) * 2).astype(int) % 3]
        return pd.DataFrame({"age": rows[:, 0], "lactate": rows[:, 1], "ward": wards})

    parts = [("numbers", StandardScaler(), ["age", "lactate"]), ("words", OneHotEncoder(), ["ward"])]
    fitted = make_pipeline(ColumnTransformer(parts), LogisticRegression()).fit(frame(TRAIN), STRINGS[THREE])
    one = FloatTensorType([None, 1])
    types = [("age", one), ("lactate", one), ("ward", StringTensorType([None, 1]))]
    save(path, fitted, options={"zipmap": False}, initial_types=types)
    rows = frame(TEST)
    instances = [[float(a), float(b), str(c)] for a, b, c in rows.itertuples(index=False)]
    return Case(path, instances, fitted.predict_proba(rows), NAMES)


def text(path: Path) -> Case:
    """Words in, through TF-IDF."""
    texts = [
        "chest pain on exertion",
        "mild headache",
        "crushing chest pain",
        "headache and nausea",
        "pain in chest",
    ] * 8
    urgent = ["pain" in line for line in texts]
    fitted = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, np.where(urgent, "urgent", "routine"))
    vectors = {TfidfVectorizer: {"locale": "C"}}
    types = [("text", StringTensorType([None, 1]))]
    options = {id(fitted): {"zipmap": False}, **vectors}
    onnx.save(to_onnx(fitted, initial_types=types, options=options, target_opset=OPSET), path)
    lines = ["chest pain", "headache", "nausea", "pain and nausea in chest"]
    return Case(path, [[line] for line in lines], fitted.predict_proba(lines), ("routine", "urgent"))


def multilabel(estimator: Callable[[], Any], options: dict[str, Any] | None) -> Exporter:
    """Three labels, any of which may be present."""

    def export(path: Path) -> Case:
        fitted = estimator().fit(TRAIN, MANY)
        expected = fitted.predict_proba(TEST)
        present = np.stack([p[:, 1] for p in expected], axis=1) if isinstance(expected, list) else expected
        names = ("fever", "cough", "rash")
        save(path, fitted, options=options)
        return Case(path, TEST.tolist(), present, names, {"classes": names}, task="multilabel")

    return export


def small_network() -> MLPClassifier:
    """Enough steps to leave the starting point."""
    return MLPClassifier((8,), solver="lbfgs", max_iter=60, tol=1e-1, random_state=0)


BINARY = THREE > 0

EXPORTERS: dict[str, Exporter] = {
    "sklearn-zipmap": logistic(THREE, None),
    "sklearn-zipmap-strings": logistic(STRINGS[THREE], None),
    "sklearn-zipmap-binary": logistic(np.where(BINARY, "sick", "fine"), None),
    "sklearn-tensor": logistic(THREE + 4, {"zipmap": False}),
    "sklearn-columns": logistic(THREE, {"zipmap": "columns"}),
    "sklearn-columns-strings": logistic(STRINGS[THREE], {"zipmap": "columns"}),
    "sklearn-class-labels-output": logistic(STRINGS[THREE], {"zipmap": False, "output_class_labels": True}),
    "sklearn-raw-scores": logistic(THREE, {"zipmap": False, "raw_scores": True}),
    "sklearn-raw-scores-binary": logistic(BINARY.astype(int), {"zipmap": False, "raw_scores": True}),
    "sklearn-linear-svc": linear_svc,
    "sklearn-double": double,
    "sklearn-forest": forest,
    "sklearn-missing": imputing,
    "sklearn-column-transformer": columns_by_name,
    "sklearn-text": text,
    "sklearn-multi-output": multilabel(lambda: MultiOutputClassifier(LogisticRegression()), {"zipmap": False}),
    "sklearn-one-vs-rest": multilabel(lambda: OneVsRestClassifier(LogisticRegression()), {"zipmap": False}),
    "sklearn-mlp-multilabel": multilabel(small_network, {"zipmap": False}),
    "sklearn-forest-multilabel": multilabel(
        lambda: RandomForestClassifier(5, max_depth=4, random_state=0), {"zipmap": False}
    ),
}

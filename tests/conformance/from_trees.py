"""XGBoost and LightGBM through onnxmltools, CatBoost through its own exporter."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tests.conformance.case import Case
from tests.conformance.from_sklearn import BINARY, STRINGS, TEST, THREE, TRAIN, Exporter

SMALL: dict[str, Any] = {"n_estimators": 6, "max_depth": 3, "random_state": 0}


def xgboost(labels: Any) -> Exporter:
    """An XGBClassifier; its classes are always 0..K-1."""

    def export(path: Path) -> Case:
        import onnxmltools
        from onnxmltools.convert.common.data_types import FloatTensorType
        from xgboost import XGBClassifier

        fitted = XGBClassifier(**SMALL).fit(TRAIN, labels)
        onnx.save(onnxmltools.convert_xgboost(fitted, initial_types=[("x", FloatTensorType([None, 4]))]), path)
        names = tuple(str(i) for i in range(len(fitted.classes_)))
        return Case(path, TEST.tolist(), fitted.predict_proba(TEST), names)

    return export


def lightgbm(labels: Any, *, zipmap: bool) -> Exporter:
    """An LGBMClassifier; its label output declares another shape than it has."""

    def export(path: Path) -> Case:
        import onnxmltools
        from lightgbm import LGBMClassifier
        from onnxmltools.convert.common.data_types import FloatTensorType

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about feature names that were not given
            fitted = LGBMClassifier(**SMALL, verbose=-1).fit(TRAIN, labels)
            expected: Any = fitted.predict_proba(TEST)
        types = [("x", FloatTensorType([None, 4]))]
        onnx.save(onnxmltools.convert_lightgbm(fitted, initial_types=types, zipmap=zipmap), path)
        return Case(path, TEST.tolist(), expected, tuple(map(str, fitted.classes_)))

    return export


def catboost(labels: Any, *, holes: bool = False) -> Exporter:
    """A CatBoostClassifier: always a ZipMap; missing values go down a branch of their own."""

    def export(path: Path) -> Case:
        from catboost import CatBoostClassifier

        train, test = TRAIN.copy(), TEST.copy()
        if holes:
            train[::5, 0] = test[::2, 0] = np.nan
        how = {"iterations": 6, "depth": 3, "random_seed": 0, "verbose": False, "allow_writing_files": False}
        fitted = CatBoostClassifier(**how, thread_count=1).fit(train, labels)
        fitted.save_model(str(path), format="onnx")
        rows = [[None if np.isnan(x) else float(x) for x in row] for row in test]
        flags = {"missing": "nan"} if holes else {}
        return Case(path, rows, fitted.predict_proba(test), tuple(map(str, fitted.classes_)), flags)

    return export


EXPORTERS: dict[str, Exporter] = {
    "xgboost-binary": xgboost(BINARY.astype(int)),
    "xgboost-multiclass": xgboost(THREE),
    "lightgbm-zipmap": lightgbm(STRINGS[THREE], zipmap=True),
    "lightgbm-binary": lightgbm(BINARY.astype(int), zipmap=False),
    "catboost-binary": catboost(BINARY.astype(int)),
    "catboost-strings": catboost(STRINGS[THREE]),
    "catboost-missing": catboost(THREE, holes=True),
}

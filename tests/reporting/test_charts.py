import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from service.core.assessment.operating import decision_curve
from service.core.assessment.reliability import reliability_curve
from service.evaluation.calibration_report import ReliabilityDiagram
from service.reporting import charts

RNG = np.random.default_rng(0)
P = RNG.random(400)
OCCURRED = RNG.random(400) < P
GRID = np.linspace(0.01, 0.99, 99)


def diagram(predicted: np.ndarray, occurred: np.ndarray, **how: float) -> ReliabilityDiagram:
    curve = reliability_curve(predicted, occurred, **how)  # type: ignore[arg-type]  # a number of draws, a level
    ends = curve.low.tolist(), curve.high.tolist(), curve.count.tolist()
    return ReliabilityDiagram(curve.predicted.tolist(), curve.observed.tolist(), *ends, 0)


MAKE = {
    "reliability": lambda: charts.reliability(diagram(P, OCCURRED)),
    "a reliability that is off": lambda: charts.reliability(diagram(P, ~OCCURRED)),
    "one bin": lambda: charts.reliability(diagram(np.full(5, 0.5), np.arange(5) < 2)),
    "scores": lambda: charts.scores(P, P + 1.0, 0.95),
    "scores without a threshold": lambda: charts.scores(P, None, None),
    "scores all alike": lambda: charts.scores(np.zeros(9), np.ones(4), 0.0),
    "scores over many magnitudes": lambda: charts.scores(np.exp(20.0 * P - 20.0), np.exp(P), 1e-2),
    "a score beyond all doubles": lambda: charts.scores(P, np.array([np.finfo(np.float64).max]), 0.95),
    "negative scores": lambda: charts.scores(-P, -3.0 * P, -0.05),
    "selective": lambda: charts.selective(P, ~OCCURRED),
    "never wrong": lambda: charts.selective(P, np.zeros(400, dtype=np.bool_)),
    "one row": lambda: charts.selective(P[:1], np.ones(1, dtype=np.bool_)),
    "net benefit": lambda: charts.net_benefit(decision_curve(P, OCCURRED, GRID)),
    "net benefit of no case": lambda: charts.net_benefit(decision_curve(P, np.zeros(400), GRID)),
    "code length": lambda: charts.code_length(P[:10], np.stack([P[:10] / 2, P[:10] + 1.0]), overall=0.5, prior=0.9),
    "code length without noise": lambda: charts.code_length(np.zeros(3), np.zeros((2, 3)), overall=0.0, prior=0.1),
    "cost": lambda: charts.cost_lines(GRID, taken=GRID, adapted=GRID / 2, constant=1 - GRID, observed=0.3),
    "cost of nothing": lambda: charts.cost_lines(GRID, taken=0 * GRID, adapted=None, constant=0 * GRID, observed=0.3),
}


@pytest.mark.parametrize("name", MAKE)
def test_a_chart_is_one_well_formed_element_that_fits_its_place(name: str) -> None:
    root = ET.fromstring(MAKE[name]())  # noqa: S314  # our own text
    assert root.tag.endswith("svg")
    assert "viewBox" in root.attrib
    assert "width" not in root.attrib
    assert "height" not in root.attrib


@pytest.mark.parametrize("name", MAKE)
def test_a_chart_is_the_same_every_time(name: str) -> None:
    assert MAKE[name]() == MAKE[name]()


@pytest.mark.parametrize("name", MAKE)
def test_a_chart_points_at_nothing_outside_itself_and_tells_no_date(name: str) -> None:
    svg = MAKE[name]()
    targets = set(re.findall(r'(?:href="|url\()([^")]*)', svg))
    ids = set(re.findall(r'\bid="([^"]*)"', svg))
    assert {t.removeprefix("#") for t in targets} <= ids
    assert not re.search(r"metadata|<text|<image|\b20\d\d-\d\d", svg)


def test_charts_on_one_page_share_no_id() -> None:
    first, second = (set(re.findall(r'\bid="([^"]*)"', MAKE[name]())) for name in ("selective", "never wrong"))
    assert not first & second


def test_a_bin_outside_its_band_looks_different() -> None:
    assert charts.OTHER not in charts.reliability(diagram(P, OCCURRED, draws=4000, level=0.999))
    assert charts.OTHER in charts.reliability(diagram(P, ~OCCURRED))


def test_ood_data_is_drawn_only_where_there_is_some() -> None:
    assert charts.OTHER in charts.scores(P, P, 0.5)
    assert charts.OTHER not in charts.scores(P, None, 0.5)


def test_a_chart_of_many_rows_stays_small() -> None:
    many = RNG.random(200_000)
    assert len(charts.selective(many, RNG.random(200_000) > many)) < 100_000


@pytest.mark.parametrize("colours", [(charts.MODEL, charts.OTHER, charts.BAND)])
def test_colours_differ_in_grey_print(colours: tuple[str, ...]) -> None:
    greys = [np.dot([int(c[i : i + 2], 16) for i in (1, 3, 5)], [0.299, 0.587, 0.114]) for c in colours]
    assert np.diff(np.sort(greys)).min() > 40


def test_a_user_s_matplotlib_settings_change_nothing() -> None:
    import matplotlib as mpl

    plain = MAKE["selective"]()
    with mpl.rc_context({"font.size": 30.0, "axes.facecolor": "red", "svg.fonttype": "none"}):
        assert MAKE["selective"]() == plain
        assert mpl.rcParams["font.size"] == 30.0

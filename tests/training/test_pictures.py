import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from service.training.pictures import (
    bars,
    histograms,
    marginals_and_pairs,
    reliability_before_and_after,
    sketch,
    standalone,
)
from service.training.seeds import Spread

RNG = np.random.default_rng(0)
PREDICTED = RNG.random(2000)
OCCURRED = RNG.random(2000) < PREDICTED


def drawn():
    yield (
        "curve",
        reliability_before_and_after({"as trained": (PREDICTED**2, OCCURRED), "served": (PREDICTED, OCCURRED)}),
    )
    yield "samples", histograms({"in": RNG.normal(size=500), "out": RNG.normal(3.0, size=500)}, label="energy")
    labels = (RNG.random((300, 14)) < 0.2).astype(np.int64)
    yield "pairs", marginals_and_pairs(np.full((300, 14), 0.2), labels)
    yield "bars", bars({"focal": {"raw": Spread((0.1, 0.2)), "served": Spread((0.1, 0.1))}}, label="cost")
    with sketch() as (figure, axes):
        axes.plot([0, 1], [1, 0], label="line")
        yield "line", standalone(figure)


@pytest.mark.parametrize(("name", "svg"), list(drawn()))
def test_a_picture_is_one_small_file_on_white_with_nothing_of_this_day(name, svg):
    assert ET.fromstring(svg).tag.endswith("svg")  # noqa: S314  # our own text
    assert len(svg.encode()) < 60_000
    assert svg.index('fill="white"') < svg.index("<path")
    assert re.search(r"20\d\d-\d\d-\d\d", svg) is None, name


def test_the_same_numbers_draw_the_same_picture():
    events = {"served": (PREDICTED, OCCURRED)}
    assert reliability_before_and_after(events) == reliability_before_and_after(events)


def test_curves_of_the_truth_lie_on_the_diagonal_and_others_do_not():
    plain, squared = (reliability_before_and_after({"one": (p, OCCURRED)}) for p in (PREDICTED, PREDICTED**2))
    assert plain != squared

from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

pytest.importorskip("torch")

from service.training.failures import TrainingFailed
from service.training.version_pictures import reliability_of_versions, score_histograms

pytestmark = pytest.mark.usefixtures("one_thread")


def paths(svg):
    return [one for one in ET.fromstring(svg).iter() if one.tag.endswith("path")]  # noqa: S314  # our own text


def test_every_version_has_two_curves(evaluated):
    one, two = (reliability_of_versions(dict.fromkeys(names, evaluated)) for names in ("a", "ab"))
    assert len(paths(two)) > len(paths(one))
    assert len(two.encode()) < 60_000


def test_a_histogram_needs_out_of_distribution_rows(evaluated):
    drawn = score_histograms(evaluated, "energy", names=("upright", "lying"), label="free energy")
    assert len(drawn.encode()) < 60_000
    alone = replace(evaluated, labelled=replace(evaluated.labelled, ood_posterior=None))
    with pytest.raises(TrainingFailed, match="without OOD data"):
        score_histograms(alone, "energy", names=("upright", "lying"), label="free energy")


def test_scores_of_the_same_version_differ_in_their_picture(evaluated):
    drawn = {score_histograms(evaluated, name, names=("upright", "lying"), label="s") for name in ("nll", "energy")}
    assert len(drawn) == 2

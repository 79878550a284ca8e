from dataclasses import replace

import pytest

pytest.importorskip("torch")

from service.evaluation.number_format import EMPTY
from service.training.version_tables import METRICS, flag_table, version_table

pytestmark = pytest.mark.usefixtures("one_thread")


def cells(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_a_version_has_its_metrics_as_trained_and_as_served(evaluated):
    header, _, *rows = cells(version_table({"own": evaluated}))
    assert header == ["metric", "own, as trained", "own, served"]
    report = evaluated.report
    assert rows == [
        [f"`{name}`", f"{report.uncalibrated_metrics[name]:.3f}", f"{report.metrics[name]:.3f}"] for name in METRICS
    ]


def test_flags_and_areas_are_those_of_the_report(evaluated):
    header, _, row = cells(flag_table({"own, lying": evaluated}))
    ood = evaluated.report.ood
    assert header[:3] == ["version and OOD data", "test rows flagged", "OOD data flagged"]
    assert header[3:] == [f"AUROC of `{name}`" for name in ood.scores]
    assert row[:3] == ["own, lying", f"{100 * ood.flag_rate:.1f} %", f"{100 * ood.ood_flag_rate:.1f} %"]
    assert row[3:] == [f"{score.auroc:.3f}" for score in ood.scores.values()]


def test_without_ood_data_a_table_of_flags_has_empty_cells_and_no_zeros(evaluated):
    ood = evaluated.report.ood
    scores = {name: replace(own, auroc=None, ood_flag_rate=None) for name, own in ood.scores.items()}
    report = replace(evaluated.report, ood=replace(ood, ood_flag_rate=None, scores=scores))
    *_, row = cells(flag_table({"own": replace(evaluated, report=report)}))
    assert row[2:] == [EMPTY] * (1 + len(scores))

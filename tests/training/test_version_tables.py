import pytest

pytest.importorskip("torch")

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

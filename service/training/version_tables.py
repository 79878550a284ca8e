"""Tables of a card on published versions: quality as trained and as served, flags on rows in and out of distribution.

Tested in tests/training/test_version_tables.py.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from service.evaluation.evaluate import Evaluation
from service.evaluation.number_format import EMPTY
from service.evaluation.report import EvaluationReport
from service.training.cards import table

METRICS: Final = ("accuracy_score", "log_loss", "brier_loss", "calibration_error", "classwise_calibration_error")


def version_table(evaluations: Mapping[str, Evaluation]) -> str:
    """Metrics of published versions on their test rows, as trained and as served.

    Parameters
    ----------
    evaluations : mapping of str to Evaluation
        By the name of the version.
    """
    header = ["metric", *(f"{name}, {state}" for name in evaluations for state in ("as trained", "served"))]
    reports = (one.report for one in evaluations.values())
    both = [metrics for report in reports for metrics in (report.uncalibrated_metrics, report.metrics)]
    return table(header, [[f"`{name}`", *(f"{metrics[name]:.3f}" for metrics in both)] for name in METRICS])


def flag_table(evaluations: Mapping[str, Evaluation]) -> str:
    """Shares of rows that the gate flags, and the AUROC of every score of the version.

    Parameters
    ----------
    evaluations : mapping of str to Evaluation
        Each with OOD data, by the name of the version and of the data; all with the same scores.
    """
    scores = list(next(iter(evaluations.values())).report.ood.scores)
    header = ["version and OOD data", "test rows flagged", "OOD data flagged", *(f"AUROC of `{one}`" for one in scores)]
    return table(header, [[name, *_flagged(one.report, scores)] for name, one in evaluations.items()])


def _flagged(report: EvaluationReport, scores: Sequence[str]) -> list[str]:
    ood = report.ood
    rates = [EMPTY if rate is None else f"{100.0 * rate:.1f} %" for rate in (ood.flag_rate, ood.ood_flag_rate)]
    areas = [ood.scores[name].auroc for name in scores]
    return rates + [EMPTY if area is None else f"{area:.3f}" for area in areas]

"""Tables of a card: numbers over seeds with their spread, differences with their intervals, published versions.

Tested in tests/training/test_card_tables.py.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from service.evaluation.evaluate import Evaluation
from service.evaluation.report import EvaluationReport
from service.training.cards import table
from service.training.seeds import Gap, Spread, paired

METRICS: Final = ("accuracy_score", "log_loss", "brier_loss", "calibration_error", "classwise_calibration_error")
SEPARATOR: Final = " | "
"""Between the name of a row and that of a column."""


def spread_table(
    found: Mapping[str, Spread], corner: str, rows: Sequence[str], columns: Sequence[str], *, prefix: str = ""
) -> str:
    """Means and standard deviations: ``found["row | column"]`` in each cell.

    Parameters
    ----------
    found : mapping of str to Spread
    corner : str
        What the rows are.
    rows, columns : sequence of str
    prefix : str
        Of the names in ``found``, where it holds several tables.

    Examples
    --------
    >>> print(spread_table({"mixup | T": Spread((0.8, 0.9))}, "loss", ["mixup"], ["T"]))
    | loss | T |
    |---|---|
    | mixup | 0.850 (0.071) |
    """
    cells = [[row, *(found[prefix + row + SEPARATOR + name].text() for name in columns)] for row in rows]
    return table([corner, *columns], cells)


def gaps(
    found: Mapping[str, Spread], pairs: Mapping[str, tuple[str, str]], columns: Sequence[str]
) -> dict[str, dict[str, Gap]]:
    """Paired differences by the name of the pair, then by column.

    Parameters
    ----------
    found : mapping of str to Spread
    pairs : mapping of str to (str, str)
        Two rows of `spread_table`; the difference is the first less the second.
    columns : sequence of str
    """
    return {
        name: {one: paired(*(found[row + SEPARATOR + one] for row in pair)) for one in columns}
        for name, pair in pairs.items()
    }


def gap_table(differences: Mapping[str, Mapping[str, Gap]], corner: str) -> str:
    """Mean differences with their 95 % intervals; bold where the interval leaves zero out.

    Examples
    --------
    >>> print(gap_table({"mixup": {"T": Gap(-0.2, -0.3, -0.1), "ECE": Gap(0.01, -0.01, 0.03)}}, "difference"))
    | difference | T | ECE |
    |---|---|---|
    | mixup | **-0.200 (-0.300 to -0.100)** | +0.010 (-0.010 to +0.030) |
    """
    columns = list(next(iter(differences.values())))
    return table([corner, *columns], [[name, *map(_claimed, row.values())] for name, row in differences.items()])


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


def metrics_of(evaluations: Mapping[str, Evaluation], served: str) -> dict[str, Any]:
    """What `metrics.json` holds of published versions on their test rows.

    Parameters
    ----------
    evaluations : mapping of str to Evaluation
        By the name of the version.
    served : str
        The name of the one that is `stable`.

    Returns
    -------
    dict of str to object
        ``version``, ``digest`` and ``test`` of that one, and ``versions``: the metrics of all by their number.
    """
    models = {name: one.labelled.answer.model for name, one in evaluations.items()}
    return {
        "version": int(models[served].version),
        "digest": models[served].bundle.digest,
        "test": evaluations[served].report.metrics,
        "versions": {str(models[name].version): one.report.metrics for name, one in evaluations.items()},
    }


def _flagged(report: EvaluationReport, scores: Sequence[str]) -> list[str]:
    ood = report.ood
    rates = [f"{100.0 * (rate or 0.0):.1f} %" for rate in (ood.flag_rate, ood.ood_flag_rate)]
    return rates + [f"{ood.scores[name].auroc or 0.0:.3f}" for name in scores]


def _claimed(gap: Gap) -> str:
    return gap.text() if gap.is_noise else f"**{gap.text()}**"

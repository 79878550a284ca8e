"""Numbers as sentences and tables write them. Tested in tests/reporting/test_agreement.py."""

import math


def rounded(value: float | None) -> str:
    """Three digits.

    Examples
    --------
    >>> rounded(0.01234), rounded(12345.0), rounded(None)
    ('0.0123', '12,345', 'not known')
    """
    if value is None or math.isnan(value):
        return "not known"
    return f"{value:,.0f}" if 1000.0 <= abs(value) < math.inf else f"{value:.3g}"


def decimal(value: float | None) -> str:
    """A cost per row, or a metric: four decimals.

    Examples
    --------
    >>> decimal(0.5), decimal(1234.5)
    ('0.5000', '1,234.50')
    """
    if value is None or not math.isfinite(value):
        return "–"  # noqa: RUF001  # an en dash for a table's empty cell
    return f"{value:,.4f}" if abs(value) < 100.0 else f"{value:,.2f}"


def percent(share: float | None) -> str:
    """A share of rows.

    Examples
    --------
    >>> percent(0.0123)
    '1.23 %'
    """
    return "not known" if share is None else f"{100.0 * share:.3g} %"

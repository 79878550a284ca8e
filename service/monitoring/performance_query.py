"""The report of a model's answers, from the store.

Tested in tests/monitoring/test_observed.py.
"""

from service.monitoring.alarms import alarms_of
from service.monitoring.group_performance import GroupBy
from service.monitoring.observed import observe
from service.monitoring.performance import PerformanceReport, performance
from service.monitoring.window import Window
from service.store.engine import Store


def report_performance(
    store: Store, model: str, window: Window, *, group_by: GroupBy | None = None
) -> PerformanceReport:
    """What came of a model's answers in a window, beside the alarms of the versions that answered.

    Parameters
    ----------
    store : Store
    model : str
    window : Window
    group_by : str, optional

    Raises
    ------
    StoreUnavailable, StoreDamaged
    ValueError
        If a time of the window is none.
    """
    found, shadows = observe(store, model, window)
    alarms = [one for one in alarms_of(store, model=model) if one.version in found.versions]
    return performance(found, window, group_by=group_by, shadows=shadows, alarms=alarms)

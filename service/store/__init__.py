"""Audit records and outcomes, kept durably: one file per engine, one suite of promises over all of them.

It takes bytes and scalars, and knows neither answers nor models.
"""

from typing import Final

STORES: Final = {
    "sqlite": "service.store.sqlite:SqliteStore",
    "postgresql": "service.store.postgresql:PostgresqlStore",
}
"""Engines by the scheme of a URL; their drivers are imported on use."""

"""Errors of the record, as nouns that know no HTTP; all are `ServiceError`s.

Tested in `tests/api/test_problems.py`.
"""

from typing import ClassVar

from service.errors import NotFound, RequestError, ServiceError


class AuditUnavailable(ServiceError):
    """The record of an answer cannot be kept now, and no answer leaves without one."""

    code: ClassVar[str] = "audit-unavailable"
    title: ClassVar[str] = "The answer cannot be recorded now"


class StoreUnavailable(ServiceError):
    """The database cannot be reached, read or written now; its text names the kind of fault and no value."""

    code: ClassVar[str] = "store-unavailable"
    title: ClassVar[str] = "The store cannot be used now"


class StoreDamaged(ServiceError):
    """What lies in the store contradicts itself."""

    code: ClassVar[str] = "store-damaged"
    title: ClassVar[str] = "The store is damaged"


class PredictionNotFound(NotFound):
    """There is no record of an answer under that id, or none that the caller may read."""

    code: ClassVar[str] = "prediction-not-found"
    title: ClassVar[str] = "There is no such prediction"


class IdempotencyMismatch(RequestError):
    """An Idempotency-Key under which another request was answered."""

    code: ClassVar[str] = "idempotency-mismatch"
    title: ClassVar[str] = "The Idempotency-Key belongs to another request"


class IdempotencyInProgress(RequestError):
    """An Idempotency-Key whose request is still being answered."""

    code: ClassVar[str] = "idempotency-in-progress"
    title: ClassVar[str] = "A request with this Idempotency-Key is still being answered"


class InvalidOutcomes(RequestError):
    """Reports of outcomes that are malformed; none of their request is kept."""

    code = "invalid-outcomes"
    title = "Some outcomes are not valid"

"""Errors of training, in one plain line each.

Tested in tests/training/test_loop.py.
"""

from service.errors import ServiceError


class TrainingFailed(ServiceError):
    """Rows or settings from which nothing can be trained, or a run that diverged."""


class MissingData(ServiceError):
    """A data package that is not installed; the message names the command that installs it."""

"""Errors of `temperance pull`, each one line that names the place; none holds a credential or a query of a URL.

Tested in `tests/pull/test_web_client.py`.
"""

from service.errors import ServiceError


class PullFailed(ServiceError):
    """What a source offers cannot be brought into the repository."""


class SourceMissing(PullFailed):
    """The source does not hold that file."""


class SourceInterrupted(PullFailed):
    """The source stopped in the middle, or does not answer now; another try may succeed."""

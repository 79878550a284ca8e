"""What checking a credential can meet besides a credential that is not valid.

Tested in `tests/api/test_problems.py`.
"""

from service.errors import ServiceError


class IssuerUnavailable(ServiceError):
    """A token cannot be checked now, because the keys of its issuer cannot be read; a retry may succeed."""

    code = "issuer-unavailable"
    title = "The token cannot be checked now"

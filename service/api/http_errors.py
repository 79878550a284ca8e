"""What HTTP itself can refuse: errors that know methods, header fields and time-outs.

Tested in `tests/api/test_problems.py`.
"""

from service.errors import RequestError


class MalformedHttp(RequestError):
    """The bytes are not one unambiguous HTTP request."""

    code = "malformed-http"
    title = "The request is not valid HTTP"


class HeadersTooLarge(MalformedHttp):
    """More header fields, or more bytes of them, than the service reads."""

    code = "headers-too-large"
    title = "The header fields are too large"


class UriTooLong(MalformedHttp):
    """A path and query that are longer than any of the service's."""

    code = "uri-too-long"
    title = "The URL is too long"


class RequestTimeout(RequestError):
    """The request did not arrive whole in time."""

    code = "request-timeout"
    title = "The request did not arrive in time"


class MethodNotAllowed(RequestError):
    """The path exists, the method does not."""

    code = "method-not-allowed"
    title = "The method is not allowed here"

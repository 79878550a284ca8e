"""The errors of the service, as nouns that know no HTTP.

::

    ServiceError
    ├── RequestError                 a caller's mistake
    │   ├── MalformedBody            bytes that are not strict JSON
    │   │   ├── DuplicateKey
    │   │   ├── NonFiniteNumber
    │   │   ├── NumberOutOfRange
    │   │   └── TooDeep
    │   ├── BodyTooLarge
    │   ├── UnsupportedMediaType
    │   ├── InvalidRequest           the envelope around the rows
    │   ├── InvalidInstances         the rows
    │   ├── InvalidLabels            the labels of an evaluation
    │   ├── InvalidParameters        the options
    │   ├── PolicyRequired
    │   ├── PrevalenceUnavailable
    │   ├── EstimateUnavailable
    │   ├── CoverageUnavailable
    │   ├── SessionUnavailable
    │   ├── TooManyRows
    │   ├── RepositoryClosed         what is served is not for callers to change
    │   ├── Unauthenticated          no credential, or none that is known here
    │   │   └── TokenExpired
    │   ├── Forbidden                a credential that does not allow this
    │   └── QuotaExceeded            more in a minute than the caller may send
    ├── NotFound                     no such thing under that address
    │   ├── ModelNotFound
    │   ├── VersionNotServed
    │   └── VerbNotFound
    ├── ModelOutputInvalid           the graph's output contradicts its manifest
    ├── NotReady                     no model is loaded, not yet or not any more
    │   └── ModelNotReady            others are
    ├── LoadFailed                   a model that was to be loaded on request, and cannot be
    ├── Overloaded                   a request that would wait too long, or not be answered in time
    │   └── Draining                 the process is ending
    ├── DeadlineExceeded             a request's time ran out before it was answered
    ├── SettingsInvalid              what the service cannot start with
    ├── KeysInvalid                  keys that cannot be read, made or revoked
    ├── BundleError                  what lies in the repository
    │   ├── BundleNotFound
    │   ├── BundleDamaged
    │   ├── ManifestInvalid
    │   └── DraftExists
    ├── GraphError                   an .onnx file that cannot be used as it is
    ├── DataError                    a data set that cannot be used as it is
    └── FitError                     data from which nothing can be learned
        └── NoSignal, RefitRefused

Errors of the record are in `service/record_errors.py`, of HTTP in `service/api/http_errors.py`, of credentials in
`service/access/access_errors.py`, of `bench` in `service/api/bench.py`. Tested in `tests/api/test_problems.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Self

MOST_FAULTS: Final = 20
"""Places at fault that one error reports; more would be repetition."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One offending place in a request.

    Attributes
    ----------
    path : tuple of str or int
        Keys and indices from the document's root.
    code : str
    detail : str
        Never a value that the caller sent.
    """

    path: tuple[str | int, ...]
    code: str
    detail: str


class ServiceError(Exception):
    """Base of all errors raised on purpose; the text states what was wrong, where, and what to do."""

    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str, faults: Sequence[Fault] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.faults = tuple(faults)


class RequestError(ServiceError):
    """A caller's mistake."""

    code = "invalid-request"
    title = "The request is not valid"


class MalformedBody(RequestError):
    """The bytes are not strict JSON in UTF-8."""

    code = "invalid-json"
    title = "The body is not valid JSON"


class DuplicateKey(MalformedBody):
    """An object names the same key twice, so its value is ambiguous."""

    code = "duplicate-key"
    title = "A key appears twice"


class NonFiniteNumber(MalformedBody):
    """NaN or Infinity, which JSON does not have."""

    code = "non-finite-number"
    title = "NaN and Infinity are not JSON"


class NumberOutOfRange(MalformedBody):
    """A number that no double can hold."""

    code = "number-out-of-range"
    title = "A number is too large"


class TooDeep(MalformedBody):
    """Nesting beyond what any request needs."""

    code = "too-deep"
    title = "The body is nested too deeply"


class BodyTooLarge(RequestError):
    """More bytes than the served models can take."""

    code = "body-too-large"
    title = "The body is too large"


class UnsupportedMediaType(RequestError):
    """A body in another format or encoding than this path takes."""

    code = "unsupported-media-type"
    title = "The body's media type is not supported"


class InvalidRequest(RequestError):
    """The envelope around the rows is not as documented."""


class InvalidInstances(RequestError):
    """Rows that the model cannot take."""

    code = "invalid-instances"
    title = "Some instances are not valid"


class InvalidLabels(RequestError):
    """Labels that do not fit the instances or the classes."""

    code = "invalid-labels"
    title = "Some labels are not valid"


class InvalidParameters(RequestError):
    """Options that are unknown, contradictory or out of range."""

    code = "invalid-parameters"
    title = "Some parameters are not valid"


class PolicyRequired(RequestError):
    """Several policies, none the default, and the request names none."""

    code = "policy-required"
    title = "The request must name a policy"


class PrevalenceUnavailable(RequestError):
    """The request names a target prevalence, and the model's source prevalence is unknown."""

    code = "prevalence-unavailable"
    title = "The source prevalence is unknown"


class EstimateUnavailable(RequestError):
    """The prevalence of unlabelled rows cannot be estimated, or the estimate would mislead."""

    code = "estimate-unavailable"
    title = "The prevalence cannot be estimated"


class CoverageUnavailable(RequestError):
    """The requested label sets would not have their coverage."""

    code = "coverage-unavailable"
    title = "Label sets are not available"


class SessionUnavailable(RequestError):
    """The request continues a session, and its steps have no p-values."""

    code = "session-unavailable"
    title = "Sessions are not available"


class TooManyRows(RequestError):
    """More rows in one request than the service takes."""

    code = "too-many-rows"
    title = "The request has too many instances"


class RepositoryClosed(RequestError):
    """Callers may not list or change the served models here."""

    code = "repository-closed"
    title = "The repository is closed to callers"


class Unauthenticated(RequestError):
    """The request has no credential, or one that is not known here."""

    code = "unauthenticated"
    title = "A credential is needed"


class TokenExpired(Unauthenticated):
    """The credential was valid once."""

    code = "token-expired"
    title = "The credential has expired"


class Forbidden(RequestError):
    """The caller is known, and may not do this."""

    code = "forbidden"
    title = "The credential does not allow this"


class QuotaExceeded(RequestError):
    """The caller has sent more in the last minute than it may: `limit` of `unit`, again after `seconds`."""

    code = "quota-exceeded"
    title = "The caller's quota is used up"

    def __init__(self, detail: str, *, unit: str = "requests", limit: int = 0, seconds: float = 60.0) -> None:
        super().__init__(detail)
        self.unit, self.limit, self.seconds = unit, limit, seconds


class NotFound(ServiceError):
    """Nothing lives at that address."""

    code = "not-found"
    title = "Not found"

    @classmethod
    def of_a_path(cls) -> Self:
        """Of a path that no endpoint has."""
        return cls("no endpoint has this path; /docs lists all of them")


class ModelNotFound(NotFound):
    """No model under that name."""

    code = "model-not-found"
    title = "No such model"


class VersionNotServed(NotFound):
    """The model is served, but not that version or alias."""

    code = "version-not-served"
    title = "That version is not served"


class VerbNotFound(NotFound):
    """An unknown verb after the colon."""

    code = "unknown-verb"
    title = "No such verb"


class ModelOutputInvalid(ServiceError):
    """The graph's output contradicts its manifest: not finite, or no probabilities."""

    code = "model-output-invalid"
    title = "The model's output is not usable"


class NotReady(ServiceError):
    """No model is loaded: not yet, or not any more."""

    code = "not-ready"
    title = "Not ready"

    @classmethod
    def without_models(cls) -> Self:
        """Of a service that serves no model."""
        return cls("no model is loaded: the start is not over, or each model was unloaded or has no alias")


class ModelNotReady(NotReady):
    """No version of this model can be loaded; others are served."""

    code = "model-not-ready"
    title = "The model is not ready"


class LoadFailed(ServiceError):
    """A model that was to be loaded on request, and cannot be; what was served before still is."""

    code = "load-failed"
    title = "The model cannot be loaded"


class Overloaded(ServiceError):
    """The request would wait too long, or not be answered in time; a retry after `seconds` may succeed."""

    code = "overloaded"
    title = "Too many requests at once"

    def __init__(self, detail: str, *, seconds: float = 1.0) -> None:
        super().__init__(detail)
        self.seconds = seconds


class Draining(Overloaded):
    """The process finishes what it has begun, and then ends; another one may answer."""

    code = "draining"
    title = "The service is ending"


class DeadlineExceeded(ServiceError):
    """A request's time ran out before the model had answered it."""

    code = "deadline-exceeded"
    title = "Not answered in time"

    @classmethod
    def in_the_queue(cls) -> Self:
        """Of a request that waited in the queue until its deadline."""
        return cls("the time of this request was over before the model answered it")


class SettingsInvalid(ServiceError):
    """A variable or an address that the service cannot start with."""


class KeysInvalid(ServiceError):
    """Keys that cannot be read, made or revoked."""


class BundleError(ServiceError):
    """Something in the model repository is not as it must be."""

    code = "bundle-error"
    title = "A bundle cannot be used"


class BundleNotFound(BundleError):
    """No bundle under that name and version."""


class BundleDamaged(BundleError):
    """The files of a version are not those that were published."""


class ManifestInvalid(BundleError):
    """`manifest.toml` or `aliases.toml` breaks its schema, or contradicts the graph."""


class DraftExists(BundleError):
    """A draft is already there and would be lost."""


class GraphError(ServiceError):
    """An .onnx file that cannot be loaded, or whose meaning must be declared first."""


class DataError(ServiceError):
    """A data set that does not fit the model."""


class FitError(ServiceError):
    """Rows that cannot support a fit."""


class RefitRefused(FitError):
    """Outcomes that do not support a new calibration, or one that the change protocol does not allow."""


class NoSignal(FitError):
    """The logits carry no information about the labels, so there is nothing to calibrate."""

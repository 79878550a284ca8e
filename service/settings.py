"""What an operator can set, read once from the environment."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from service.bundle.accepted_providers import ProviderName
from service.service_links import service_links

PREFIX = "TEMPERANCE_"
PLATFORM: Final = {"port": "PORT"}
"""Settings for which platforms (Knative, Cloud Run) have a variable of their own: it counts where ours is not set."""
MODEL_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""As in `service.bundle.repository`, which takes longer to import than a start may need for its settings."""
MOST_LOAD_SECONDS: Final = 86400.0
LEAST_LOAD_MEMORY: Final = 64 << 20
MOST_LOAD_MEMORY: Final = 1 << 50
"""Bytes; the kernel's limit is a number of 64 bits."""


def _listed(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def _with_a_port(value: str) -> str:
    try:
        urlsplit(value).port  # noqa: B018  # reading it checks it
    except ValueError:
        raise ValueError("must be a URL; its port, if it has one, is a number up to 65535") from None
    return value


def _checked_url(value: str) -> str:
    parts = urlsplit(_with_a_port(value))
    if not parts.hostname or "@" in parts.netloc or parts.fragment:
        raise ValueError("must be a URL with a host, and without a user and a fragment")
    if parts.scheme != "https" and parts.hostname not in LOOPBACK:
        raise ValueError("must begin with https://; http:// is for this machine alone")
    return value


def _distinct(value: "tuple[Issuer, ...]") -> "tuple[Issuer, ...]":
    if len({entry.issuer for entry in value}) < len(value):
        raise ValueError("names an issuer twice")
    return value


def _origins(value: tuple[str, ...]) -> tuple[str, ...]:
    for origin in value:
        parts = urlsplit(_with_a_port(origin))
        if parts.scheme not in {"http", "https"} or origin != f"{parts.scheme}://{parts.netloc}" or "*" in origin:
            raise ValueError("an origin is https://HOST or https://HOST:PORT, and never *")
    return value


def _model_names(value: tuple[str, ...]) -> tuple[str, ...]:
    if not all(MODEL_NAME.fullmatch(name) for name in value):
        raise ValueError("a model's name has at most 64 letters, digits, dots, dashes and underscores")
    return value


def _not_empty(value: object) -> object:
    if value == "":
        raise ValueError("must not be empty; unset it for the default")
    return value


Place = Annotated[Path, BeforeValidator(_not_empty)]
"""A path. As a path, an empty text would be the working directory."""
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]
"""Several texts, separated by commas."""


Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]


class Issuer(BaseModel):
    """Who issues tokens that are accepted.

    Attributes
    ----------
    issuer : str
        As it stands in the claim `iss`: printable ASCII without `|`, for callers are named `ISSUER|SUBJECT`.
    audience : str
        That the claim `aud` must name.
    jwks_url : str
        Where its public keys are; `https`, or this machine.
    algorithms : tuple of str
        Asymmetric ones.
    scopes_claim : str
        That carries the scopes, as a list or as one text with spaces.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: Annotated[str, Field(pattern=r"^[!-{}~]{1,512}$")]
    audience: Annotated[str, Field(min_length=1)]
    jwks_url: Annotated[str, AfterValidator(_checked_url)]
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1)] = ("RS256", "ES256")
    scopes_claim: Annotated[str, Field(min_length=1)] = "scope"


class _Environment(EnvSettingsSource):
    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls)
        links = {name.lower() for name in service_links(os.environ, PREFIX)}  # as pydantic writes them
        ours = {name: value for name, value in self.env_vars.items() if name not in links}
        set_by = {field: os.environ[name] for field, name in PLATFORM.items() if name in os.environ}
        self.env_vars = {f"{PREFIX}{field}".lower(): value for field, value in set_by.items()} | ours


class Settings(BaseSettings):
    """Every field is the environment variable `TEMPERANCE_<FIELD>`; an unknown one stops the start."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    models: Annotated[Place, Field(description="Model repository.")] = Path("models")
    host: Annotated[str, Field(min_length=1, pattern=r"^\S+$", description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="Port to listen on.")] = 8000
    uds: Annotated[
        Place | None, Field(description="Unix domain socket to listen on, in place of an address and a port.")
    ] = None
    root_path: Annotated[
        str,
        Field(pattern="^(/[A-Za-z0-9._~-]+)*$", description="Path under which a proxy shows the service."),
    ] = ""
    proxies: Annotated[
        Names,
        Field(
            description="Addresses and networks of proxies, separated by commas; `unix` is whatever is connected "
            "to the socket. Their X-Forwarded-… headers count, and no other."
        ),
    ] = ()
    keep_alive: Annotated[
        float, Field(gt=0, le=86400, description="Seconds for which a connection without a request stays open.")
    ] = 75.0
    header_seconds: Annotated[
        float, Field(gt=0, le=3600, description="Seconds in which the head of a request must arrive.")
    ] = 5.0
    body_seconds: Annotated[
        float, Field(gt=0, le=86400, description="Seconds in which the body of a request must arrive.")
    ] = 10.0
    max_header: Annotated[int, Field(ge=4096, le=1 << 20, description="Most bytes of a request's header fields.")] = (
        16 << 10
    )
    ssl_certfile: Annotated[Place | None, Field(description="Certificate chain for TLS, read again on SIGHUP.")] = None
    ssl_keyfile: Annotated[Place | None, Field(description="Private key of the certificate, read again on SIGHUP.")] = (
        None
    )
    ssl_keyfile_password_file: Annotated[
        Place | None, Field(description="File with the password of the private key.")
    ] = None
    ssl_ca_certs: Annotated[
        Place | None,
        Field(description="Authorities by which certificates of clients are checked; clients need none without it."),
    ] = None
    data: Annotated[Place, Field(description="Directory for what the service writes; made on first use.")] = Path(
        ".temperance"
    )
    audit: Annotated[
        Literal["strict", "relaxed", "off"],
        Field(
            description="`strict`: no answer leaves before its record is durable; `relaxed`: answers leave without one "
            "and are counted where it cannot be kept; `off`: no records."
        ),
    ] = "strict"
    store: Annotated[
        str | None,
        Field(
            min_length=1,
            description="Where records and outcomes are kept, as a URL: sqlite:///PATH or postgresql://…; audit.db in "
            "the data directory by default.",
        ),
    ] = None
    store_password_file: Annotated[
        Place | None, Field(description="File with the password of TEMPERANCE_STORE, whose URL then has none.")
    ] = None
    secrets: Annotated[
        Place | None,
        Field(
            description="File of the keys that pseudonyms, encryption and signatures are made with; secrets.json in "
            "the data directory by default. All machines that share a store need the same."
        ),
    ] = None
    anchors: Annotated[
        Place | None,
        Field(
            description="File to which signed anchors of the record are appended, `-` for standard output; "
            "anchors.jsonl in the data directory by default."
        ),
    ] = None
    anchor_records: Annotated[
        int, Field(ge=1, le=1 << 40, description="Records of a process after which an anchor is written.")
    ] = 1000
    retention_days: Annotated[
        int, Field(ge=0, le=36525, description="Days after which records are deleted; 0 keeps them.")
    ] = 0
    monitor_seconds: Annotated[
        float,
        Field(ge=0, le=86400, description="Seconds between looks at outcomes for alarms; 0 for none."),
    ] = 60.0
    insecure: Annotated[
        bool, Field(description="Whether everyone who reaches a port beyond loopback may use the service.")
    ] = False
    keys: Annotated[
        Place | None, Field(description="File of API keys; keys.json in the data directory by default.")
    ] = None
    jwt_issuers: Annotated[
        tuple[Issuer, ...],
        AfterValidator(_distinct),
        Field(description="Issuers of accepted tokens, as a JSON list of objects."),
    ] = ()
    client_certificate_header: Annotated[
        str | None,
        Field(
            pattern="^[A-Za-z0-9-]+$",
            description="Header in which one of the proxies names the subject of the client's certificate.",
        ),
    ] = None
    client_certificate_scopes: Annotated[
        Names, Field(description="Scopes of callers that are known by their certificate, separated by commas.")
    ] = ("predict",)
    quota_requests: Annotated[
        int,
        Field(
            ge=0, description="Requests in a minute that a caller may send; 0 is any number. A key may have its own."
        ),
    ] = 0
    quota_rows: Annotated[
        int,
        Field(ge=0, description="Rows in a minute that a caller may send; 0 is any number. A key may have its own."),
    ] = 0
    metrics_open: Annotated[
        bool, Field(description="Whether /metrics answers without a credential where others need one.")
    ] = False
    docs_open: Annotated[
        bool,
        Field(description="Whether /docs and /openapi.json answer without a credential where others need one."),
    ] = False
    cors_origins: Annotated[
        Names,
        AfterValidator(_origins),
        Field(description="Origins of pages that may read answers in a browser, separated by commas."),
    ] = ()
    workers: Annotated[int, Field(ge=1, le=256, description="Processes. Each holds every model.")] = 1
    threads: Annotated[
        int,
        Field(
            ge=0,
            le=256,
            description="ONNX Runtime's threads within one operator, at most the processors that the process may use; "
            "0 is all of them, shared among the workers. A manifest's [runtime] threads comes first.",
        ),
    ] = 1
    provider: Annotated[
        ProviderName,
        Field(
            description="ONNX Runtime's execution provider: `cpu`, `openvino`, `cuda` or `tensorrt`. The deployment "
            "file may name another one for a model."
        ),
    ] = "cpu"
    deployment: Annotated[
        Place | None,
        Field(description="File of what this machine decides about single models, in TOML; none by default."),
    ] = None
    strict_start: Annotated[
        bool, Field(description="Whether one model that cannot be loaded stops the start; otherwise the others serve.")
    ] = True
    expected_models: Annotated[
        Names,
        AfterValidator(_model_names),
        Field(description="Models without which the service is not ready, separated by commas."),
    ] = ()
    load_seconds: Annotated[
        float,
        Field(
            gt=0,
            le=MOST_LOAD_SECONDS,
            description="Seconds in which a version that is new to this machine must load and pass its self-test, in a "
            "process of its own.",
        ),
    ] = 15.0
    load_memory: Annotated[
        int,
        Field(
            ge=LEAST_LOAD_MEMORY,
            le=MOST_LOAD_MEMORY,
            description="Bytes that this process may take, beyond Python's own and four times the version's files.",
        ),
    ] = 1 << 30
    drain_seconds: Annotated[
        float,
        Field(
            ge=0,
            le=3600,
            description="Seconds after SIGTERM in which the service is not ready and still accepts connections.",
        ),
    ] = 0.0
    deadline: Annotated[
        float, Field(gt=0, le=86400, description="Seconds in which a request is answered, or refused with status 504.")
    ] = 10.0
    queue_seconds: Annotated[
        float,
        Field(
            gt=0, le=3600, description="Seconds that a request may be expected to wait for its model; longer is 503."
        ),
    ] = 0.2
    max_body: Annotated[
        int, Field(ge=1 << 20, description="Upper bound in bytes for the body limit that the served models give.")
    ] = 16 << 20
    max_rows: Annotated[int, Field(ge=1, description="Most instances in one request.")] = 10_000
    reload_seconds: Annotated[
        float,
        Field(ge=0, le=86400, description="Seconds between looks at the models; 0 looks at the start and on SIGHUP."),
    ] = 0.5
    repository_api: Annotated[
        bool,
        Field(description="Whether /v2/repository lists the published models, and loads and unloads them by name."),
    ] = False
    docs: Annotated[bool, Field(description="Whether /docs and /openapi.json are served.")] = True
    otlp_endpoint: Annotated[
        Annotated[str, AfterValidator(_with_a_port)] | None,
        Field(
            pattern=r"^https?://[^@\s]+$",
            description="Where OpenTelemetry's traces and metrics are sent; nowhere by default. Without a user: "
            "credentials are for OTEL_EXPORTER_OTLP_HEADERS.",
        ),
    ] = None
    log_format: Annotated[Literal["text", "json"], Field(description="How a line of the log is written.")] = "text"
    log_level: Annotated[
        str, Field(pattern="^(critical|error|warning|info|debug)$", description="Least severity that is logged.")
    ] = "info"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment without what Kubernetes sets in it, then variables of platforms."""
        del env_settings, dotenv_settings, file_secret_settings
        return init_settings, _Environment(settings_cls)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        """Settings that contradict each other are refused; defaults contradict nothing."""
        for name, is_wrong, message in _CONTRADICTIONS:
            if name in self.model_fields_set and is_wrong(self):
                raise ValueError(f"{name}: {message}")
        return self


def _is_set(settings: Settings, name: str) -> bool:
    return name in settings.model_fields_set


_CONTRADICTIONS: Final[tuple[tuple[str, Callable[[Settings], bool], str], ...]] = (
    (
        "queue_seconds",
        lambda own: _is_set(own, "deadline") and own.queue_seconds >= own.deadline,
        "must be below TEMPERANCE_DEADLINE, or requests would wait until their time is over",
    ),
    (
        "body_seconds",
        lambda own: _is_set(own, "deadline") and own.body_seconds > own.deadline,
        "must not exceed TEMPERANCE_DEADLINE, in which the body arrives too",
    ),
    (
        "docs_open",
        lambda own: own.docs_open and not own.docs,
        "opens what TEMPERANCE_DOCS=false takes away; set one of them",
    ),
)
"""A field, when it is wrong, and why."""

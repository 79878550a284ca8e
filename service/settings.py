"""What an operator can set, read once from the environment."""

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "TEMPERANCE_"


class Settings(BaseSettings):
    """Every field is the environment variable `TEMPERANCE_<FIELD>`; an unknown one stops the start."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    models: Annotated[Path, Field(description="Model repository.")] = Path("models")
    host: Annotated[str, Field(description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="Port to listen on.")] = 8000
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
    deadline: Annotated[
        float, Field(gt=0, le=86400, description="Seconds in which a request is answered, or refused with status 504.")
    ] = 30.0
    max_body: Annotated[
        int, Field(ge=1 << 20, description="Upper bound in bytes for the body limit that the served models give.")
    ] = 64 << 20
    max_rows: Annotated[int, Field(ge=1, description="Most instances in one request.")] = 10_000
    reload_seconds: Annotated[
        float,
        Field(ge=0, le=86400, description="Seconds between looks at the aliases; 0 looks only on SIGHUP."),
    ] = 2.0
    repository_api: Annotated[
        bool,
        Field(description="Whether /v2/repository lists the published models, and loads and unloads them by name."),
    ] = False
    docs: Annotated[bool, Field(description="Whether /docs and /openapi.json are served.")] = True
    log_level: Annotated[
        str, Field(pattern="^(critical|error|warning|info|debug)$", description="Least severity that is logged.")
    ] = "info"

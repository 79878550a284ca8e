"""The deployment file: what a machine decides about the models that it serves, outside their versions.

A file in TOML, named by `TEMPERANCE_DEPLOYMENT`. Another section is another field of `Deployment`.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.bundle.accepted_providers import ProviderName
from service.bundle.files import read_file
from service.bundle.manifest import describe
from service.bundle.sections import Name
from service.bundle.toml_text import parse_toml
from service.errors import ServiceError, SettingsInvalid
from service.runtime.provider_packages import Providers
from service.settings import Settings

LARGEST: Final = 1 << 20


class DeploymentSection(BaseModel):
    """A table of the file; a key that it does not know is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelRuntime(DeploymentSection):
    """`[models.NAME.runtime]`: how this machine runs a model.

    Attributes
    ----------
    provider : str or None
        Execution provider; None is that of `TEMPERANCE_PROVIDER`.
    """

    provider: ProviderName | None = None


class DeployedModel(DeploymentSection):
    """`[models.NAME]`: what a deployment says of one model."""

    runtime: ModelRuntime = ModelRuntime()


class Deployment(DeploymentSection):
    """The whole file."""

    models: dict[Name, DeployedModel] = Field(default_factory=dict)


def read_deployment(path: Path | None) -> Deployment:
    """Read a deployment file; without one, nothing differs from the settings.

    Raises
    ------
    SettingsInvalid
        Naming the file, and the first key at fault.
    """
    if path is None:
        return Deployment()
    try:
        text = read_file(path, limit=LARGEST).decode("utf-8")
        return Deployment.model_validate(parse_toml(text, where=path))
    except ValidationError as error:
        raise SettingsInvalid(f"{path}: {describe(error)}") from None
    except UnicodeDecodeError:
        raise SettingsInvalid(f"{path}: it is no text in UTF-8") from None
    except ServiceError as error:
        raise SettingsInvalid(error.detail) from None


def providers_of(settings: Settings) -> Providers:
    """Which execution provider every model runs on.

    Raises
    ------
    SettingsInvalid
        If the deployment file cannot be read.
    """
    models = read_deployment(settings.deployment).models
    own = {name: model.runtime.provider for name, model in models.items() if model.runtime.provider is not None}
    return Providers(settings.provider, own)


def check_names(settings: Settings, served: Iterable[str]) -> None:
    """Refuse a deployment file that names a model which is not served: it would silently say nothing.

    Parameters
    ----------
    settings : Settings
    served : iterable of str
        Models that are served or refused.

    Raises
    ------
    SettingsInvalid
    """
    known = sorted(served)
    unknown = sorted(set(read_deployment(settings.deployment).models) - set(known))
    if unknown:
        others = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        listed = ", ".join(known) or "none"
        raise SettingsInvalid(
            f"{settings.deployment}: models.{unknown[0]}: no model of that name is served{others}; served are {listed}"
        )

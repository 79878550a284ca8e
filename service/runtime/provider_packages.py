"""Execution providers by name: which one a model runs on, and the packages that bring each.

It imports no ONNX Runtime: what is installed is read from the packages' metadata.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from service.bundle.accepted_providers import ProviderName

RUNTIMES: Final = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino")
"""Packages that bring the module `onnxruntime`: one of them is installed, and replaces the others."""

PACKAGES: Final[dict[ProviderName, tuple[str, ...]]] = {
    "cpu": (),
    "openvino": ("onnxruntime-ep-openvino",),
    "cuda": ("nvidia-cudnn-cu13", "nvidia-cublas", "nvidia-cuda-runtime"),
    "tensorrt": ("nvidia-cudnn-cu13", "nvidia-cublas", "nvidia-cuda-runtime", "tensorrt"),
}
"""Packages beside `RUNTIMES` whose releases an answer of a provider may depend on."""


@dataclass(frozen=True, slots=True)
class Providers:
    """Which execution provider every model runs on.

    Attributes
    ----------
    default : str
    own : mapping of str to str
        By model, where it is another one.
    """

    default: ProviderName = "cpu"
    own: Mapping[str, ProviderName] = field(default_factory=dict)

    def of(self, model: str) -> ProviderName:
        """The provider of one model."""
        return self.own.get(model, self.default)

    @property
    def named(self) -> tuple[ProviderName, ...]:
        """All that are named, once each."""
        return tuple(dict.fromkeys([self.default, *self.own.values()]))


ON_CPU_ALONE: Final = Providers()


def installed(packages: tuple[str, ...]) -> tuple[str, ...]:
    """Those of some packages that are installed, each with its release.

    Examples
    --------
    >>> installed(("numpy", "no-such-package"))[0].partition(" ")[0]
    'numpy'
    """
    found = ((name, _release(name)) for name in packages)
    return tuple(f"{name} {release}" for name, release in found if release is not None)


def runtime_release() -> str:
    """Release of the package that brings ONNX Runtime, whichever it is; empty without one."""
    return next((line.partition(" ")[2] for line in installed(RUNTIMES)), "")


def releases_of(provider: ProviderName) -> tuple[str, ...]:
    """Packages that a provider's answers depend on, each with its release."""
    return installed((*RUNTIMES, *PACKAGES[provider]))


def _release(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

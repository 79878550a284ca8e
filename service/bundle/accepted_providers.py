"""`[graph] providers`: execution providers under which a calibration holds.

Tested in tests/bundle/test_manifest.py.
"""

from typing import Annotated, Final, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

ProviderName = Literal["cpu", "openvino", "cuda", "tensorrt"]
"""Execution providers of ONNX Runtime, as people name them."""

PROVIDERS: Final[tuple[ProviderName, ...]] = get_args(ProviderName)


class AcceptedProvider(BaseModel):
    """How an execution provider may run a version.

    Attributes
    ----------
    tolerance : float or None
        Largest difference of a logit from the CPU's, or of the tensor that scores look at, relative to 1 + the largest
        of its row. None is as much as float32 explains, or the version's own noise where that is more.
    tf32 : bool
        The version was fitted under TF32, so CUDA may use it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    tolerance: Annotated[float, Field(strict=True, gt=0, le=0.1, allow_inf_nan=False)] | None = None
    tf32: Annotated[bool, Field(strict=True)] = False


class Acceptance(BaseModel):
    """The providers that a manifest lists; by default any that agrees with the CPU."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpu: AcceptedProvider | None = None
    openvino: AcceptedProvider | None = None
    cuda: AcceptedProvider | None = None
    tensorrt: AcceptedProvider | None = None

    def of(self, name: ProviderName) -> AcceptedProvider | None:
        """How a provider may run the version; None where it is not listed."""
        found: AcceptedProvider | None = dict(self)[name]
        return found

    @property
    def names(self) -> tuple[ProviderName, ...]:
        """Those that are listed."""
        return tuple(name for name in PROVIDERS if self.of(name) is not None)

    @model_validator(mode="after")
    def _lists_some(self) -> Self:
        if not self.names:
            raise ValueError("must list a provider; without the key, any that agrees with the CPU is accepted")
        for name in self.names:
            accepted = self.of(name)
            if name != "cuda" and accepted is not None and accepted.tf32:
                raise ValueError(f"{name}.tf32: TF32 is a precision of cuda alone")
        return self

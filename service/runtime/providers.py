"""Execution providers of ONNX Runtime: a session on each, and which operators it left to the CPU.

ONNX Runtime goes on without a provider that it cannot load, and leaves to the CPU whatever a provider does not take.
Here the first is an error, and the second is counted.
"""

import json
import logging
import os
from base64 import b64decode
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
import onnxruntime as ort

from service.bundle.accepted_providers import ProviderName
from service.errors import SettingsInvalid

CPU_PROVIDER: Final = "CPUExecutionProvider"
OPENVINO: Final = "OpenVINOExecutionProvider"
PLUGIN: Final = "onnxruntime_ep_openvino"
NO_TF32: Final = "NVIDIA_TF32_OVERRIDE"
"""Read by NVIDIA's libraries when they are loaded; the one way to keep TensorRT off TF32."""

Source = str | bytes
Maker = Callable[[Source, ort.SessionOptions, "Execution"], "Made"]

log = logging.getLogger("temperance")


@dataclass(frozen=True, slots=True)
class Execution:
    """What a session runs on.

    Attributes
    ----------
    provider : str
    tf32 : bool
        Whether CUDA may compute in TF32, which moves a row by 5e-4 of its largest logit with the rows beside it.
    """

    provider: ProviderName = "cpu"
    tf32: bool = False


@dataclass(frozen=True, slots=True)
class Made:
    """A session, and the device that its provider runs on."""

    session: ort.InferenceSession
    device: str = "cpu"
    staging: Any = None
    is_remote: bool = False


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the operators of a session run.

    Attributes
    ----------
    provider : str
    device : str
    operators : int
        Of the graph as ONNX Runtime optimised it; 0 under ``cpu``, where nothing is counted.
    on_cpu : dict of str to int
        How many of each kind the provider left to the CPU.
    """

    provider: ProviderName = "cpu"
    device: str = "cpu"
    operators: int = 0
    on_cpu: dict[str, int] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """For the log.

        Examples
        --------
        >>> Placement("openvino", "CPU", 12, {"Scaler": 1, "Cast": 2}).sentence
        'on openvino (CPU); left to the CPU: 3 of 12 operators (Cast, Scaler)'
        """
        where = f"on {self.provider} ({self.device})"
        if self.provider == "cpu":
            return "on cpu"
        kinds = f" ({', '.join(sorted(self.on_cpu))})" if self.on_cpu else ""
        return f"{where}; left to the CPU: {sum(self.on_cpu.values())} of {self.operators} operators{kinds}"


def make_session(source: Source, options: ort.SessionOptions, execution: Execution) -> Made:
    """A session on a provider.

    Parameters
    ----------
    source : str or bytes
        Path of a graph, or the graph.
    options : SessionOptions
    execution : Execution

    Raises
    ------
    SettingsInvalid
        If the provider cannot be loaded: which package is missing, or what the library says.
    Exception
        Whatever ONNX Runtime raises for the graph.
    """
    if execution.provider != "cpu":
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    made = MAKERS[execution.provider](source, options, execution)
    expected = NAMES[execution.provider]
    if expected not in made.session.get_providers():
        reason = "ONNX Runtime cannot load its libraries, and would go on without it"
        raise unavailable(execution.provider, f"{reason}; its log has the library that is missing")
    return made


def placement_of(made: Made, provider: ProviderName) -> Placement:
    """Which operators a session runs where."""
    if provider == "cpu":
        return Placement()
    parts = made.session.get_provider_graph_assignment_info()
    of_cpu = Counter(node.op_type for part in parts if part.ep_name == CPU_PROVIDER for node in part.get_nodes())
    return Placement(provider, made.device, sum(len(part.get_nodes()) for part in parts), dict(sorted(of_cpu.items())))


def check_provider(provider: ProviderName) -> None:
    """Run a small graph on a provider.

    Raises
    ------
    SettingsInvalid
        If it cannot be loaded or fails here, and which package would bring it.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        made = make_session(SMALL_GRAPH, options, Execution(provider))
        made.session.run(None, {"x": np.ones((1, 2), dtype=np.float32)})
    except SettingsInvalid:
        raise
    except Exception as error:  # noqa: BLE001  # those of ONNX Runtime share no other ancestor
        raise unavailable(provider, _one_line(error)) from None


def unavailable(provider: ProviderName, reason: str) -> SettingsInvalid:
    """The error of a provider that cannot be loaded."""
    return SettingsInvalid(f"provider {provider!r} cannot be loaded: {reason}; {REMEDIES[provider]}")


def openvino_options(threads: int) -> dict[str, str]:
    """What OpenVINO computes with: float32, whatever the processor has; its default on newer ones is bfloat16.

    Examples
    --------
    >>> json.loads(openvino_options(2)["load_config"])["CPU"]["INFERENCE_PRECISION_HINT"]
    'f32'
    """
    own = {
        "INFERENCE_PRECISION_HINT": "f32",
        "EXECUTION_MODE_HINT": "ACCURACY",
        "NUM_STREAMS": "1",  # a session has one run at a time
        "INFERENCE_NUM_THREADS": str(threads),
    }
    return {"load_config": json.dumps({"CPU": own})}


def cuda_options(*, tf32: bool) -> dict[str, str]:
    """What CUDA computes with: TF32 is on by default, and only a search over all algorithms avoids the slow ones."""
    return {"device_id": "0", "use_tf32": str(int(tf32)), "cudnn_conv_algo_search": "EXHAUSTIVE"}


def tensorrt_options() -> dict[str, str]:
    """What TensorRT computes with: float32 alone."""
    return {"device_id": "0", "trt_fp16_enable": "0", "trt_bf16_enable": "0", "trt_int8_enable": "0"}


def _on_cpu(source: Source, options: ort.SessionOptions, execution: Execution) -> Made:
    del execution
    return Made(_session(source, options, [CPU_PROVIDER]))


def _on_openvino(source: Source, options: ort.SessionOptions, execution: Execution) -> Made:
    del execution
    own = openvino_options(options.intra_op_num_threads or 1)
    if _is_built_in(OPENVINO):  # by the package onnxruntime-openvino
        return Made(_session(source, options, [(OPENVINO, {"device_type": "CPU", **own}), CPU_PROVIDER]), "CPU")
    device = _openvino_device()
    options.add_provider_for_devices([device], own)
    return Made(_session(source, options), device.ep_metadata.get("FULL_DEVICE_NAME", "CPU"))


@cache
def _is_built_in(name: str) -> bool:
    """Whether ONNX Runtime has a provider of its own; once a plugin is registered, it lists the plugin's as well."""
    return name in ort.get_available_providers()


@cache
def _register_plugin() -> None:
    """Load OpenVINO's plugin, which is done once in a process."""
    if find_spec(PLUGIN) is None:
        raise unavailable("openvino", "the package onnxruntime-ep-openvino is not installed")
    try:
        ort.register_execution_provider_library(OPENVINO, import_module(PLUGIN).get_library_path())
    except (OSError, RuntimeError, ValueError) as error:
        raise unavailable("openvino", _one_line(error)) from None


def _openvino_device() -> ort.OrtEpDevice:
    """The processor, as the plugin offers it."""
    _register_plugin()
    for device in ort.get_ep_devices():
        if device.ep_name == OPENVINO and device.device.type == ort.OrtHardwareDeviceType.CPU:
            return device
    vendor = next((d.device.vendor for d in ort.get_ep_devices() if d.ep_name == CPU_PROVIDER), "unknown")
    raise unavailable(
        "openvino", f"its plugin offers no device: it takes processors of Intel alone, and this one is of {vendor}"
    )


def _on_cuda(source: Source, options: ort.SessionOptions, execution: Execution) -> Made:
    _preload("cuda", "CUDAExecutionProvider")
    providers = [("CUDAExecutionProvider", cuda_options(tf32=execution.tf32)), CPU_PROVIDER]
    return Made(_session(source, options, providers), "cuda:0", _staging("CUDAExecutionProvider"), is_remote=True)


def _on_tensorrt(source: Source, options: ort.SessionOptions, execution: Execution) -> Made:
    del execution
    os.environ[NO_TF32] = "0"
    _preload("tensorrt", "TensorrtExecutionProvider")
    own = [("TensorrtExecutionProvider", tensorrt_options()), ("CUDAExecutionProvider", cuda_options(tf32=False))]
    return Made(_session(source, options, [*own, CPU_PROVIDER]), "cuda:0", _staging(own[0][0]), is_remote=True)


def _session(source: Source, options: ort.SessionOptions, providers: list[Any] | None = None) -> ort.InferenceSession:
    # Without the last argument the Python class tries again on the CPU, also when a run fails, and only prints it.
    return ort.InferenceSession(source, options, providers=providers, enable_fallback=0)


def _preload(provider: ProviderName, name: str) -> None:
    if not _is_built_in(name):
        raise unavailable(provider, "this ONNX Runtime is built without it")
    ort.preload_dlls()  # of the packages nvidia-…, or of PyTorch


def _staging(name: str) -> Any:
    """Host memory that a device copies from by itself; None where the provider names none."""
    own = (device for device in ort.get_ep_devices() if device.ep_name == name)
    return next((device.memory_info(ort.OrtDeviceMemoryType.HOST_ACCESSIBLE) for device in own), None)


def _one_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


SMALL_GRAPH: Final = b64decode(
    "CAgSADpXCg8KAXgKAXcSAXkiBEdlbW0SAWcqGwgCCAIQAUIBd0oQAACAPwAAAEAAAEBAAACAQFoRCgF4EgwKCggBEgYKAAoCCAJiEQoBeRIM"
    "CgoIARIGCgAKAggCQgQKABAN"
)
"""The product of rows (1, 2) with the matrix ((1, 2), (3, 4)), as ONNX."""

NAMES: Final[dict[ProviderName, str]] = {
    "cpu": CPU_PROVIDER,
    "openvino": OPENVINO,
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
_GPU: Final = "install onnxruntime-gpu[cuda,cudnn] in place of onnxruntime, on a machine with NVIDIA's driver"
REMEDIES: Final[dict[ProviderName, str]] = {
    "cpu": "install the package onnxruntime again",
    "openvino": "on a processor of Intel install onnxruntime-ep-openvino, on others onnxruntime-openvino in place of "
    "onnxruntime; or choose cpu",
    "cuda": f"{_GPU}; or choose cpu",
    "tensorrt": f"{_GPU}, and tensorrt beside it; or choose cpu",
}
MAKERS: Final[dict[ProviderName, Maker]] = {
    "cpu": _on_cpu,
    "openvino": _on_openvino,
    "cuda": _on_cuda,
    "tensorrt": _on_tensorrt,
}

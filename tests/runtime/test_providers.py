"""Execution providers where none but the CPU is installed; `test_openvino` runs where OpenVINO is."""

import json
from importlib.util import find_spec
from typing import get_args

import numpy as np
import onnxruntime as ort
import pytest

from service.bundle.accepted_providers import PROVIDERS, ProviderName
from service.errors import SettingsInvalid
from service.runtime.providers import (
    MAKERS,
    NAMES,
    PLUGIN,
    REMEDIES,
    SMALL_GRAPH,
    Execution,
    Made,
    Placement,
    check_provider,
    cuda_options,
    make_session,
    openvino_options,
    placement_of,
    tensorrt_options,
)

AVAILABLE = set(ort.get_available_providers())
ABSENT = [name for name in PROVIDERS if name != "cpu" and NAMES[name] not in AVAILABLE]


def test_every_provider_has_a_maker_a_name_and_a_remedy() -> None:
    assert tuple(MAKERS) == tuple(NAMES) == tuple(REMEDIES) == PROVIDERS == get_args(ProviderName)


def test_the_cpu_runs_the_small_graph() -> None:
    made = make_session(SMALL_GRAPH, ort.SessionOptions(), Execution())
    answer = made.session.run(None, {"x": np.array([[1.0, 2.0]], dtype=np.float32)})[0]
    assert answer.tolist() == [[7.0, 10.0]]
    assert placement_of(made, "cpu") == Placement("cpu", "cpu", 0, {})


@pytest.mark.parametrize("provider", [name for name in PROVIDERS if name not in ABSENT])
def test_no_session_of_a_provider_goes_on_with_the_cpu_when_a_run_fails(provider: ProviderName) -> None:
    session = make_session(SMALL_GRAPH, ort.SessionOptions(), Execution(provider)).session
    assert session._enable_fallback is False


class Failing:
    """A session that is made, and fails when it runs, as on a device whose driver is too old."""

    def get_providers(self) -> list[str]:
        return ["CUDAExecutionProvider"]

    def run(self, *_: object) -> None:
        raise ort.capi.onnxruntime_pybind11_state.EPFail("the driver is too old\nand more")


def test_a_provider_that_fails_when_it_runs_is_an_error_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MAKERS, "cuda", lambda *_: Made(Failing()))
    with pytest.raises(SettingsInvalid, match="provider 'cuda' cannot be loaded: the driver is too old; install"):
        check_provider("cuda")


@pytest.mark.parametrize("provider", ABSENT)
def test_a_provider_that_is_not_there_is_an_error_with_its_package(provider: ProviderName) -> None:
    if provider == "openvino" and find_spec(PLUGIN) is not None:
        pytest.skip("OpenVINO's plugin is installed here")
    with pytest.raises(SettingsInvalid) as error:
        check_provider(provider)
    assert f"provider {provider!r} cannot be loaded: " in str(error.value)
    assert "install" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_provider_that_onnx_runtime_goes_on_without_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the libraries of CUDA are missing: a session comes back, on the CPU alone."""

    def without(source: str | bytes, options: ort.SessionOptions, execution: Execution) -> Made:
        del execution
        return Made(ort.InferenceSession(source, options, providers=["CPUExecutionProvider"]))

    monkeypatch.setitem(MAKERS, "cuda", without)
    with pytest.raises(SettingsInvalid, match="would go on without it"):
        check_provider("cuda")


def test_operators_are_counted_by_the_provider_that_took_them() -> None:
    options = ort.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = ort.InferenceSession(SMALL_GRAPH, options, providers=["CPUExecutionProvider"])
    assert placement_of(Made(session, "somewhere"), "openvino") == Placement("openvino", "somewhere", 1, {"Gemm": 1})


def test_openvino_computes_in_float32_on_the_threads_of_the_session() -> None:
    own = json.loads(openvino_options(3)["load_config"])["CPU"]
    assert (own["INFERENCE_PRECISION_HINT"], own["INFERENCE_NUM_THREADS"]) == ("f32", "3")


def test_cuda_computes_in_tf32_only_where_a_version_states_it() -> None:
    assert cuda_options(tf32=False)["use_tf32"] == "0"
    assert cuda_options(tf32=True)["use_tf32"] == "1"
    assert cuda_options(tf32=False)["cudnn_conv_algo_search"] == "EXHAUSTIVE"


def test_tensorrt_computes_in_no_narrower_type() -> None:
    narrow = {key: value for key, value in tensorrt_options().items() if key.endswith("_enable")}
    assert set(narrow) == {"trt_fp16_enable", "trt_bf16_enable", "trt_int8_enable"}
    assert set(narrow.values()) == {"0"}

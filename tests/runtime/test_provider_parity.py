"""A version on another provider; here a session with other weights, or the same, stands for one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from service.bundle.accepted_providers import Acceptance, AcceptedProvider
from service.bundle.repository import Bundle
from service.errors import LoadFailed
from service.runtime import provider_parity
from service.runtime.model import Model, load_model
from service.runtime.provider_parity import ROWS, SINGLE_TOLERANCE, load_on, measure_parity
from service.runtime.session import Session

WEIGHTS = [[1.0, -2.0], [0.5, 1.5]]
TAIL = '[[inputs]]\nname = "x"\nfeatures = ["first", "second"]\n'


@pytest.fixture
def bundle(linear_graph: Callable[..., Path], bundle_of: Callable[..., Bundle]) -> Bundle:
    return bundle_of(linear_graph(WEIGHTS, [0.0, 0.25]), TAIL)


@pytest.fixture
def other(linear_graph: Callable[..., Path], bundle: Bundle) -> Callable[[float], Model]:
    """The model with weights that are wrong by a factor, as a provider might compute."""
    model = load_model(bundle)

    def made(factor: float) -> Model:
        weights = (np.array(WEIGHTS) * factor).tolist()
        return replace(model, session=Session(linear_graph(weights, [0.0, 0.25])))

    return made


def test_the_cpu_is_not_compared_with_itself(bundle: Bundle) -> None:
    model = load_on(bundle)
    assert model.parity is None
    assert model.session.placement.sentence == "on cpu"


def test_the_same_numbers_are_no_difference(bundle: Bundle, other: Callable[[float], Model]) -> None:
    found = measure_parity(other(1.0), load_model(bundle), 1e-5)
    assert (found.from_cpu.logits, found.alone, found.rows) == (0.0, 0.0, ROWS)
    assert found.is_within


def test_other_numbers_are_measured_and_refused(bundle: Bundle, other: Callable[[float], Model]) -> None:
    found = measure_parity(other(1.001), load_model(bundle), 1e-5)
    assert 1e-5 < found.from_cpu.logits < 1e-3
    assert not found.is_within


def test_a_version_that_answers_otherwise_is_refused_with_both_figures(
    bundle: Bundle, other: Callable[[float], Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong, right = other(1.001), load_model(bundle)
    answers = iter([wrong, right])
    monkeypatch.setattr(provider_parity, "load_model", lambda *_args, **_kwargs: next(answers))
    with pytest.raises(LoadFailed, match=r"on openvino a logit of 32 rows differs by up to .* 1e-05 is allowed"):
        load_on(bundle, provider="openvino")


def test_a_version_within_its_tolerance_has_bands_that_cover_the_provider(
    bundle: Bundle, other: Callable[[float], Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([other(1.0 + 1e-6), load_model(bundle)])
    monkeypatch.setattr(provider_parity, "load_model", lambda *_args, **_kwargs: next(answers))
    model = load_on(bundle, provider="openvino")
    assert model.parity is not None
    assert 0.0 < model.parity.from_cpu.logits < SINGLE_TOLERANCE == model.parity.tolerance
    assert model.parity.ties > 1.0


def listing(bundle: Bundle, **listed: AcceptedProvider) -> Bundle:
    graph = bundle.manifest.graph.model_copy(update={"providers": Acceptance(**listed)})
    return replace(bundle, manifest=bundle.manifest.model_copy(update={"graph": graph}))


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_a_provider_that_a_version_does_not_list_is_refused(bundle: Bundle, provider) -> None:
    with pytest.raises(LoadFailed, match=f"its calibration accepts cuda, and this machine is to run it on {provider}"):
        load_on(listing(bundle, cuda=AcceptedProvider()), provider=provider)


def test_a_tolerance_that_a_version_states_counts(
    bundle: Bundle, other: Callable[[float], Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([other(1.001), load_model(bundle)])
    monkeypatch.setattr(provider_parity, "load_model", lambda *_args, **_kwargs: next(answers))
    model = load_on(listing(bundle, openvino=AcceptedProvider(tolerance=1e-2)), provider="openvino")
    assert model.parity is not None
    assert model.parity.tolerance == 1e-2


def graph_with_hidden(path: Path, factor: float) -> Path:
    """Writes a graph with a tensor `hidden`, larger by a factor, beside scores that do not depend on it."""
    float32, kinds = onnx.TensorProto.FLOAT, onnx.helper.make_tensor_value_info
    weights = onnx.numpy_helper.from_array(np.array(WEIGHTS, dtype=np.float32), "w")
    larger = onnx.numpy_helper.from_array(np.array(factor, dtype=np.float32), "f")
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "w"], ["scores"]),
        onnx.helper.make_node("Mul", ["x", "f"], ["hidden"]),
    ]
    outputs = [kinds(name, float32, [None, 2]) for name in ("scores", "hidden")]
    graph = onnx.helper.make_graph(nodes, "two", [kinds("x", float32, [None, 2])], outputs, [weights, larger])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize(("factor", "is_within"), [(1.0, True), (1.0 + 1e-6, True), (1.01, False)])
def test_a_tensor_of_scores_holds_to_the_same_tolerance_as_logits(
    tmp_path: Path, bundle_of: Callable[..., Bundle], factor: float, *, is_within: bool
) -> None:
    ood = '[ood]\nscores = ["mahalanobis"]\nspace = "hidden"\n'
    bundle = bundle_of(graph_with_hidden(tmp_path / "one.onnx", 1.0), ood + TAIL)
    right = load_model(bundle)
    wrong = replace(right, session=Session(graph_with_hidden(tmp_path / "other.onnx", factor)))
    found = measure_parity(wrong, right, SINGLE_TOLERANCE)
    assert found.from_cpu.logits == found.alone == 0.0
    assert (found.from_cpu.features > 0.0) == (factor != 1.0)
    assert found.is_within == is_within


def test_a_version_whose_scores_look_at_another_tensor_is_refused_with_its_figure(
    tmp_path: Path, bundle_of: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    ood = '[ood]\nscores = ["mahalanobis"]\nspace = "hidden"\n'
    bundle = bundle_of(graph_with_hidden(tmp_path / "one.onnx", 1.0), ood + TAIL)
    right = load_model(bundle)
    answers = iter([replace(right, session=Session(graph_with_hidden(tmp_path / "other.onnx", 1.01))), right])
    monkeypatch.setattr(provider_parity, "load_model", lambda *_args, **_kwargs: next(answers))
    with pytest.raises(LoadFailed, match=r"from the CPU's, the tensor 'hidden' by 0\.0\d+, and by 0 with"):
        load_on(bundle, provider="openvino")

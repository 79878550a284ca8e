from typing import Any

import numpy as np
import pytest

from service.core.losses import LOSSES
from service.core.losses.loss import Loss, Parameter
from service.core.numerics import Array
from tests.core.losses.torch_losses import TORCH

SHAPES = {"multiclass": (5, 4), "binary": (5,), "multilabel": (5, 3), "sequence": (4, 6, 3)}
STEP = 1e-5
CLASS_AXIS = ("multiclass", "sequence")  # tasks whose logits a constant per row leaves alone


def drawn(loss: Loss, *, seed: int = 0, scale: float = 2.0) -> tuple[Array, Any, dict[str, Any]]:
    """Logits, targets and every parameter a loss declares, drawn from what it says of itself."""
    rng, shape = np.random.default_rng(seed), SHAPES[loss.task]
    logits = scale * rng.uniform(-1.0, 1.0, size=shape)
    return logits, targets(loss, shape, rng), {name: value(p, shape, rng) for name, p in loss.parameters.items()}


def targets(loss: Loss, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    if loss.targets == "distributions":
        return rng.dirichlet(np.ones(shape[-1]), size=shape[0])
    if loss.task in ("binary", "multilabel"):
        return rng.integers(0, 2, size=shape)
    labels = rng.integers(0, shape[-1], size=shape[:-1])
    if loss.task == "sequence":
        labels[0, 3:], labels[1, 2], labels[2, :] = -1, -1, -1  # short, with a hole, empty
    return labels


def value(parameter: Parameter, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    low, high = max(parameter.low, -3.0), min(parameter.high, 3.0)
    sizes = {"number": (), "per_class": (shape[-1],), "per_row": shape}
    inside = rng.uniform(low + 0.1 * (high - low), high - 0.1 * (high - low), size=sizes[parameter.shape])
    return float(inside) if parameter.shape == "number" else inside


def central_differences(loss: Loss, logits: Array, target: Any, parameters: dict[str, Any]) -> Array:
    """Slope of the summed loss in every logit: rows are independent, so one sum serves them all."""
    slopes = np.empty_like(logits)
    for index in np.ndindex(*logits.shape):
        up, down = logits.copy(), logits.copy()
        up[index] += STEP
        down[index] -= STEP
        after, _ = loss(up, target, **parameters)
        before, _ = loss(down, target, **parameters)
        slopes[index] = (after - before).sum() / (2.0 * STEP)
    return slopes


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("seed", range(3))
def test_a_gradient_is_the_slope_of_its_loss(name, seed):
    logits, target, parameters = drawn(LOSSES[name], seed=seed)
    _, gradient = LOSSES[name](logits, target, **parameters)
    np.testing.assert_allclose(
        gradient, central_differences(LOSSES[name], logits, target, parameters), rtol=0, atol=1e-8
    )


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("scale", [2.0, 50.0, 1000.0])
def test_values_are_those_of_the_loss_with_its_gradient(name, scale):
    for seed in range(5):
        logits, target, parameters = drawn(LOSSES[name], seed=seed, scale=scale)
        expected, _ = LOSSES[name](logits, target, **parameters)
        np.testing.assert_allclose(LOSSES[name].values(logits, target, **parameters), expected, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("name", LOSSES)
def test_defaults_are_enough_unless_a_parameter_is_declared_required(name):
    logits, target, parameters = drawn(LOSSES[name])
    needed = {key: parameters[key] for key in LOSSES[name].required}
    _, gradient = LOSSES[name](logits, target, **needed)
    np.testing.assert_allclose(gradient, central_differences(LOSSES[name], logits, target, needed), rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", LOSSES)
def test_there_is_one_loss_per_row_and_one_slope_per_logit(name):
    logits, target, parameters = drawn(LOSSES[name])
    loss, gradient = LOSSES[name](logits, target, **parameters)
    assert loss.shape == logits.shape[:1]
    assert gradient.shape == logits.shape
    assert (loss >= 0.0).all()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("scale", [1e4, 3e38])
def test_extreme_logits_leave_loss_and_gradient_finite(name, scale):
    logits, target, parameters = drawn(LOSSES[name])
    extreme = scale * np.where(np.random.default_rng(1).random(logits.shape) < 0.5, -1.0, 1.0)
    for rows in (extreme, -extreme, np.sign(logits.round()) * scale, np.full_like(logits, scale)):
        loss, gradient = LOSSES[name](rows, target, **parameters)
        assert np.isfinite(loss).all()
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", LOSSES)
def test_the_arguments_are_left_as_they_were(name):
    logits, target, parameters = drawn(LOSSES[name])
    copies = logits.copy(), target.copy()
    LOSSES[name](logits, target, **parameters)
    np.testing.assert_array_equal(logits, copies[0])
    np.testing.assert_array_equal(target, copies[1])


@pytest.mark.parametrize("name", LOSSES)
def test_a_row_alone_is_the_row_of_a_batch(name):
    logits, target, parameters = drawn(LOSSES[name])
    loss, gradient = LOSSES[name](logits, target, **parameters)
    shapes = {key: parameter.shape for key, parameter in LOSSES[name].parameters.items()}
    for i in range(len(logits)):
        own = {key: v[i : i + 1] if shapes[key] == "per_row" else v for key, v in parameters.items()}
        alone, slope = LOSSES[name](logits[i : i + 1], target[i : i + 1], **own)
        np.testing.assert_allclose(alone, loss[i : i + 1], rtol=1e-14)
        np.testing.assert_allclose(slope, gradient[i : i + 1], rtol=1e-13, atol=1e-16)


@pytest.mark.parametrize("name", [name for name in LOSSES if LOSSES[name].task in CLASS_AXIS])
def test_a_constant_added_to_a_row_changes_nothing(name):
    logits, target, parameters = drawn(LOSSES[name])
    loss, gradient = LOSSES[name](logits, target, **parameters)
    moved, slope = LOSSES[name](logits + 7.0, target, **parameters)
    np.testing.assert_allclose(moved, loss, atol=1e-13)
    np.testing.assert_allclose(slope, gradient, atol=1e-13)
    np.testing.assert_allclose(gradient.sum(axis=-1), 0.0, atol=1e-14)


@pytest.mark.parametrize("name", LOSSES)
def test_an_unknown_parameter_is_named_and_refused(name):
    logits, target, parameters = drawn(LOSSES[name])
    with pytest.raises(ValueError, match="has no \\['gama'\\]"):
        LOSSES[name](logits, target, **parameters, gama=1.0)


@pytest.mark.parametrize("name", [name for name in LOSSES if LOSSES[name].required])
def test_a_missing_parameter_is_named(name):
    logits, target, _ = drawn(LOSSES[name])
    with pytest.raises(ValueError, match=f"needs .*{min(LOSSES[name].required)}"):
        LOSSES[name](logits, target)


@pytest.mark.parametrize("name", sorted(TORCH))
def test_autograd_of_an_independent_library_agrees(name):
    torch: Any = pytest.importorskip("torch")
    logits, target, parameters = drawn(LOSSES[name])
    z = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    tensors = {key: torch.as_tensor(v, dtype=torch.float64) for key, v in parameters.items()}
    expected = TORCH[name](torch, z, torch.as_tensor(target), tensors)
    expected.sum().backward()
    loss, gradient = LOSSES[name](logits, target, **parameters)
    np.testing.assert_allclose(loss, expected.detach().numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(gradient, z.grad.numpy(), rtol=1e-9, atol=1e-11)

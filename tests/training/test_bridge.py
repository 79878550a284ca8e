from typing import Any

import numpy as np
import pytest

torch: Any = pytest.importorskip("torch")

from service.core.losses import LOSSES
from service.training.bridge import CoreLoss
from tests.bench import losses as bench
from tests.core.losses.test_losses import drawn
from tests.core.losses.torch_losses import TORCH


def at(name, *, dtype, scale=2.0):
    """A module, logits that want a gradient, targets, and per-row parameters."""
    logits, targets, parameters = drawn(LOSSES[name], scale=scale)
    per_row = {key: torch.as_tensor(parameters.pop(key)) for key in parameters.keys() & {"teacher"}}
    z = torch.as_tensor(logits, dtype=dtype).requires_grad_()
    return CoreLoss(name, **parameters), z, torch.as_tensor(targets), per_row


@pytest.mark.parametrize("name", LOSSES)
def test_autograd_through_the_bridge_agrees_with_finite_differences(name):
    loss, logits, targets, per_row = at(name, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda z: loss(z, targets, **per_row), (logits,), eps=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-6)], ids=str)
def test_values_and_gradients_are_torchs_own(name, dtype, tolerance):
    loss, logits, targets, per_row = at(name, dtype=dtype)
    fixed = {key: torch.as_tensor(value, dtype=torch.float64) for key, value in loss.parameters_of_loss.items()}
    same = logits.detach().double().requires_grad_()  # of the same numbers; in double, its rounding does not count
    expected = TORCH[name](torch, same, targets, fixed | per_row)
    expected.sum().backward()
    found = loss(logits, targets, **per_row)
    found.sum().backward()
    np.testing.assert_allclose(found.detach().numpy(), expected.detach().numpy(), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(logits.grad.numpy(), same.grad.numpy(), rtol=tolerance, atol=tolerance)


def test_distillation_is_torchs_divergence_and_the_teachers_entropy():
    rng, tau = np.random.default_rng(0), 3.0
    student, teacher = (torch.tensor(rng.normal(size=(6, 4))) for _ in range(2))
    student.requires_grad_()
    log_p = torch.log_softmax(teacher / tau, dim=1)
    divergence = torch.nn.functional.kl_div(
        torch.log_softmax(student / tau, dim=1), log_p, reduction="none", log_target=True
    )
    expected = tau**2 * (divergence - log_p.exp() * log_p).sum(dim=1)
    loss = CoreLoss("distillation", tau=tau, soft_share=1.0)
    found = loss(student, torch.zeros(6, dtype=torch.int64), teacher=teacher)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    gradients = [torch.autograd.grad(value.sum(), student)[0] for value in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_gradients_have_the_type_of_the_logits(name):
    for dtype in (torch.float32, torch.float64):
        loss, logits, targets, per_row = at(name, dtype=dtype)
        found = loss(logits, targets, **per_row)
        found.sum().backward()
        assert found.dtype == logits.grad.dtype == dtype
        assert found.shape == logits.shape[:1]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("scale", [1e4, 3e38])
def test_extreme_logits_of_single_precision_have_finite_gradients(name, scale):
    loss, logits, targets, per_row = at(name, dtype=torch.float32)
    extreme = (scale * torch.sign(logits.detach())).requires_grad_()
    loss(extreme, targets, **per_row).sum().backward()
    assert torch.isfinite(extreme.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_a_row_that_weighs_nothing_has_no_gradient_and_one_that_weighs_double_has_it_twice(name):
    loss, logits, targets, per_row = at(name, dtype=torch.float64)
    (plain,) = torch.autograd.grad(loss(logits, targets, **per_row).sum(), logits)
    weights = torch.arange(len(logits), dtype=torch.float64)
    (weighted,) = torch.autograd.grad((weights * loss(logits, targets, **per_row)).sum(), logits)
    torch.testing.assert_close(weighted, weights.reshape(-1, *[1] * (logits.ndim - 1)) * plain)


def test_logits_that_lie_apart_in_memory_are_read_in_their_order():
    logits = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels, loss = torch.tensor([0, 1, 2, 3, 0, 1]), CoreLoss("cross_entropy")
    torch.testing.assert_close(loss(logits.T, labels), loss(logits.T.contiguous(), labels), rtol=0, atol=0)


def test_a_second_derivative_is_refused():
    logits = torch.zeros(2, 3, requires_grad=True)
    loss = CoreLoss("cross_entropy")(logits, torch.tensor([0, 1])).sum().square()
    (gradient,) = torch.autograd.grad(loss, logits, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_a_name_or_a_parameter_that_no_loss_has_is_refused():
    with pytest.raises(ValueError, match="there are cross_entropy, weighted"):
        CoreLoss("crossentropy")
    with pytest.raises(ValueError, match="has no \\['gama'\\]"):
        CoreLoss("focal", gama=2.0)(torch.zeros(1, 2), torch.tensor([0]))


def test_a_module_shows_its_loss_and_parameters():
    assert repr(CoreLoss("focal", gamma=2.0)) == "CoreLoss(focal, gamma=2.0)"


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", LOSSES)
def test_a_step_costs_a_few_times_torchs_cross_entropy(name, monkeypatch):
    monkeypatch.setattr("tests.bench.core.SECONDS", 0.2)  # python -m tests.bench.losses measures for longer
    ours, _, own = bench.times(name)
    assert ours / own < 20.0  # processors differ: 1.3 to 9 were seen; a loss in Python by row takes over 100

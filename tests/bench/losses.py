"""Training losses through the bridge to `core`, beside torch: one value and its gradient.

Run as ``python -m tests.bench.losses``, with the extra `train`. Every line is 256 x 10 float32 logits on one thread:
256 rows of ten classes or ten labels, 2560 rows of one logit, 32 sequences of eight positions. A step goes from the
logits to the mean loss, and back to the gradient. It is compared with torch's own cross-entropy of 256 x 10, and with
the same loss in torch: its own where it has one, else written with its operators. Rounds are short and interleaved, and
what counts is the ratio of the fastest.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from service.core.losses import LOSSES
from tests.bench.core import Work, timed
from tests.bench.table import show_rows, with_target
from tests.core.losses.torch_losses import TORCH

SHAPES: Final = {"multiclass": (256, 10), "binary": (2560,), "multilabel": (256, 10), "sequence": (32, 8, 10)}
TARGET: Final = 3.0  # times torch's cross-entropy
PARAMETERS: Final[Mapping[str, Any]] = {
    "class_weights": np.linspace(1.0, 4.0, 10),
    "gamma": 2.0,
    "epsilon": 0.1,
    "tau": 4.0,
    "soft_share": 0.9,
    "positive_weight": 3.0,
    "smoothness": 1.0,
}


def steps(name: str) -> tuple[Work, Work, Work]:
    """One step of a loss through the bridge, of the same in torch, and of torch's cross-entropy of 256 x 10."""
    import torch

    from service.training.bridge import CoreLoss

    logits, targets, parameters, teacher = drawn(name)
    fixed = {key: torch.as_tensor(value, dtype=torch.float32) for key, value in (parameters | teacher).items()}
    alpha = {"alpha": torch.tensor(0.25) if LOSSES[name].task == "multilabel" else torch.ones(10)}
    ours, plain, labels = CoreLoss(name, **parameters), drawn("cross_entropy")[0], torch.arange(256) % 10
    return (
        lambda: slope(ours(logits, targets, **teacher).mean(), logits),
        lambda: slope(TORCH[name](torch, logits, targets, alpha | fixed).mean(), logits),
        lambda: slope(torch.nn.functional.cross_entropy(plain, labels), plain),
    )


def drawn(name: str) -> tuple[Any, Any, dict[str, Any], dict[str, Any]]:
    """Logits that a gradient is taken in, targets, and parameters: fixed ones and those of each row."""
    import torch

    rng, loss = np.random.default_rng(0), LOSSES[name]
    shape = SHAPES[loss.task]
    logits = torch.from_numpy(rng.normal(size=shape).astype(np.float32)).requires_grad_()
    teacher = {"teacher": logits.detach().flip(1)} if "teacher" in loss.parameters else {}
    parameters = {key: value for key, value in PARAMETERS.items() if key in loss.parameters}
    return logits, torch.from_numpy(targets(name, shape, rng)), parameters, teacher


def targets(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    """What a loss compares logits of a shape with."""
    loss = LOSSES[name]
    if loss.targets == "distributions":
        return rng.dirichlet(np.ones(shape[-1]), size=shape[0]).astype(np.float32)
    has_flags = loss.task in ("binary", "multilabel")
    return rng.integers(0, 2 if has_flags else shape[-1], size=shape if has_flags else shape[:-1])


def slope(loss: Any, logits: Any) -> None:
    """One backward pass, into a gradient that is empty before."""
    logits.grad = None
    loss.backward()


def times(name: str) -> tuple[float, float, float]:
    """Microseconds of the fastest of each of the three `steps`."""
    ours, same, own = (min(rounds) for rounds in timed(*steps(name)))
    return ours, same, own


def lines() -> Iterator[tuple[str, ...]]:
    """One line for every loss."""
    for name in LOSSES:
        ours, same, own = times(name)
        multiple = with_target(ours / own, ".2f", at_most=TARGET)
        yield name, f"{ours:.0f}", f"{own:.0f}", multiple, f"{ours / same:.2f}"


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    header = "loss", "bridge, µs", "torch's cross-entropy, µs", "bridge over it", "bridge over the same loss in torch"
    show_rows("Value and gradient of a loss, 256 x 10 float32", header, lines())

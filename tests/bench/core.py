"""Post-processing beside a scipy.special chain of the same quantities, and what `core` takes of a one-row request.

Run as ``python -m tests.bench.core``. Both sides take float32 logits and make the OOD scores named, then
log-probabilities and probabilities at a temperature, risks of ten actions, the action, its margin and the value of
knowing the class; the chain in float32, ours in float64 up to 100 classes. Ours goes through its front door, and so
looks at ranges and ties besides. Both have one thread. Rounds are short and interleaved; what counts is the ratio of
the fastest runs, which is what either can do undisturbed, and beside it stands the median of the rounds' ratios.
"""

import timeit
from collections.abc import Callable, Iterator
from statistics import median
from typing import Final

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.special import log_softmax, logsumexp
from sklearn.datasets import load_breast_cancer
from threadpoolctl import threadpool_limits

from service.bundle.repository import Repository
from service.core.calibration.temperature import Temperature
from service.core.conformal import reference, threshold
from service.core.decision import Decisions
from service.core.detector import Detector
from service.core.numerics import Array
from service.core.ood import SCORES
from service.core.pipeline import Chain, Policy, Posterior, choose, postprocess
from service.runtime.model import load_model
from tests.bench.table import Figure, show
from tests.shipped_model import SHIPPED

Work = Callable[[], object]

TEMPERATURE: Final = 1.7
ACTIONS: Final = 10
RANGES: Final = 36
SHAPES: Final = ((1, 10, 10.0), (256, 10, 5.0), (256, 1000, 5.0), (4096, 1000, 2.5))
SCORED: Final = (("nll", "energy"), ("nll",))
SECONDS: Final = 3.0  # of every line of the tables
ROUND_SECONDS: Final = 0.002  # so short that some are not disturbed
ONE_ROW_TARGET: Final = 15.0  # µs, for up to ten classes and ten actions


def by_hand(logits: Array, cost: Array, floor: Array, *, scores: tuple[str, ...]) -> dict[str, Array]:
    """The chain as a careful user writes it: where the energy is made, nll costs next to nothing more."""
    found = {}
    if "energy" in scores:
        found["energy"] = -logsumexp(logits, axis=1)
        found["nll"] = -found["energy"] - logits.max(axis=1)
    else:
        found["nll"] = -log_softmax(logits, axis=1).max(axis=1)
    found["log_probs"] = log_softmax(logits / np.float32(TEMPERATURE), axis=1)
    found["probabilities"] = np.exp(found["log_probs"])
    found["risks"] = found["probabilities"] @ cost.T
    found["action"] = found["risks"].argmin(axis=1)
    two = np.partition(found["risks"], 1, axis=1)
    found["margin"] = two[:, 1] - two[:, 0]
    found["information"] = two[:, 0] - found["probabilities"] @ floor
    return found


def chain_of(scores: tuple[str, ...], *, ranges: int = 0, calibrated: bool = False) -> Chain:
    """Scores of logits before a temperature; calibrated, with thresholds and p-values from 1000 rows."""
    detectors = [detector(name, calibrated=calibrated) for name in scores]
    return Chain(tuple(detectors), np.zeros(ranges), np.ones(ranges), True, Temperature(TEMPERATURE), calibrated)


def detector(name: str, *, calibrated: bool) -> Detector:
    """A score without state, with a calibration reference where `calibrated`."""
    score = SCORES[name]()
    if not calibrated:
        return Detector(name, score, None, None, True)
    known = reference(score.score(drawn(1000, 10).astype(np.float64)))
    return Detector(name, score, known, threshold(known, alpha=0.05), True)


def drawn(rows: int, classes: int) -> Array:
    """Logits as a graph answers them: in float32."""
    logits: Array = (3.0 * np.random.default_rng(rows + classes).normal(size=(rows, classes))).astype(np.dtype("f4"))
    return logits


def policy_of(classes: int, *, on_ood: int | None) -> Policy:
    """Ten actions at random costs."""
    cost = np.random.default_rng(classes).random((ACTIONS, classes))
    return Policy("bench", "manifest", tuple(f"action {a}" for a in range(ACTIONS)), cost, on_ood)


def rivals(rows: int, classes: int, scores: tuple[str, ...]) -> tuple[Work, Work]:
    """Ours and the chain on the same rows, once their results agree."""
    logits, columns = drawn(rows, classes), np.empty((rows, 0))
    chain, policy = chain_of(scores), policy_of(classes, on_ood=None)
    narrow: Array = np.vstack([policy.cost, policy.cost.min(axis=0)]).astype(np.dtype("f4"))

    def ours() -> tuple[Posterior, Decisions]:
        posterior = postprocess(chain, logits, columns)
        return posterior, decided(posterior, policy)

    def theirs() -> dict[str, Array]:
        return by_hand(logits, narrow[:-1], narrow[-1], scores=scores)

    compare(*ours(), theirs(), scores)
    return ours, theirs


def compare(posterior: Posterior, decisions: Decisions, hand: dict[str, Array], scores: tuple[str, ...]) -> None:
    """Stop unless both say the same, as far as float32 can."""
    for name, values in zip(scores, posterior.scores.T, strict=True):
        np.testing.assert_allclose(hand.pop(name), values, rtol=1e-4, atol=1e-5, err_msg=name)
    clear = decisions.margin > 1e-5
    np.testing.assert_array_equal(hand.pop("action")[clear], decisions.action[clear])
    for name, values in hand.items():
        source = posterior if hasattr(posterior, name) else decisions
        np.testing.assert_allclose(values, getattr(source, name), rtol=1e-4, atol=1e-5, err_msg=name)


def timed(*works: Work) -> list[list[float]]:
    """Microseconds of one call in every round, of each work; one after the other within a round."""
    timers = [timeit.Timer(work) for work in works]
    alone = [min(timer.repeat(5, 1)) for timer in timers]
    calls = [max(1, round(ROUND_SECONDS / seconds)) for seconds in alone]
    rounds = max(10, round(SECONDS / sum(max(ROUND_SECONDS, seconds) for seconds in alone)))
    found = [[1e6 * t.timeit(n) / n for t, n in zip(timers, calls, strict=True)] for _ in range(rounds)]
    return [list(work) for work in zip(*found, strict=True)]


def compared() -> Table:
    """Every shape, with and without the energy."""
    table = Table("rows x K", "scores", "ours, µs", "scipy, µs", "x", "median x", "target", title_justify="left")
    table.title = f"Post-processing, A = {ACTIONS}, T = {TEMPERATURE}"
    for scores in SCORED:
        for rows, classes, target in SHAPES:
            ours, theirs = timed(*rivals(rows, classes, scores))
            times = min(theirs) / min(ours)
            middle = median(b / a for a, b in zip(ours, theirs, strict=True))
            verdict = f"{target:g} {'met' if times >= target else 'MISSED'}"
            figures = f"{min(ours):,.1f}", f"{min(theirs):,.1f}", f"{times:.1f}", f"{middle:.1f}"
            table.add_row(f"{rows} x {classes}", ", ".join(scores), *figures, verdict)
    return table


def one_row() -> Iterator[Figure]:
    """All that `core` does for one plain row: ranges, p-values and flags too, and the action that flagged rows get."""
    chain, policy = chain_of(("nll",), ranges=RANGES, calibrated=True), policy_of(10, on_ood=ACTIONS - 1)
    logits, columns = drawn(1, 10), np.full((1, RANGES), 0.5)
    yield request("1 row, K = A = 10, nll in the gate, 36 ranges", chain, policy, logits, columns)
    model = load_model(Repository(SHIPPED).bundle("breast-cancer", 1))
    raw = model.raw(load_breast_cancer().data[:1])
    (policy,) = model.policies.values()
    yield request("1 row of breast-cancer: nll, mahalanobis, 30 ranges", model.chain, policy, raw.logits, raw.columns)


def decided(posterior: Posterior, policy: Policy) -> Decisions:
    """Stage E, as a request without another prevalence has it."""
    log_probs = posterior.log_probs
    return choose(log_probs, policy, flagged=posterior.flagged, known=posterior.known(log_probs))


def request(name: str, chain: Chain, policy: Policy, logits: Array, columns: Array) -> Figure:
    """The fastest of stages A to E, as `core` is called for a request."""
    (found,) = timed(lambda: decided(postprocess(chain, logits, columns), policy))
    return Figure(name, min(found), "µs", ONE_ROW_TARGET)


if __name__ == "__main__":
    with threadpool_limits(1):
        Console(width=110).print(compared())
        show("What core does for one row", one_row())

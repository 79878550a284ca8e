"""Stages B and C on rows whose posterior is known: what competes, what wins, what is recorded and what is served."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import log_softmax, logsumexp, softmax

from service.bundle.record import Record, parse_record, restore_inverse
from service.bundle.repository import Repository
from service.core.calibration import CALIBRATORS
from service.core.numerics import Array, Indices
from service.core.pipeline import at_prevalence
from service.data.dataset import Dataset
from service.errors import FitError
from service.fitting.calibrate import calibrate
from service.fitting.candidate_chains import AUTO, METHODS
from service.fitting.fit import FitRequest, FitResult, fit
from service.runtime.model import Model, load_model

Toy = Callable[..., Repository]
Truth = Callable[..., tuple[Array, Indices]]
Save = Callable[..., Path]

NAMES = ("ann", "bob", "cyd")
FITTING = [(name, k) for name, kind in CALIBRATORS.items() for k in ((2,) if kind.needs == "binary" else (2, 3))]
BINARY = [name for name, kind in CALIBRATORS.items() if kind.needs == "binary"]


def fitted(repository: Repository, data: Path, calibrator: str, **options: object) -> FitResult:
    request = FitRequest(data, calibrator=calibrator, **options)  # type: ignore[arg-type]  # its own fields, by name
    return fit(repository, "toy", request)


def served(repository: Repository, result: FitResult) -> Model:
    return load_model(repository.bundle("toy", result.version))


def log_loss(log_probs: Array, labels: Indices) -> float:
    return float(-log_probs[np.arange(len(labels)), labels].mean())


def float32(values: Array) -> Array:
    """What an identity graph hands on unchanged."""
    return values.astype(np.float32).astype(np.float64)


def warned(record: Record, fragment: str) -> bool:
    return any(fragment in text for text in record.provenance.warnings)


# ------------------------------------------------------------------------------------- every method, whole way round


@pytest.mark.parametrize(("method", "k"), FITTING)
def test_every_method_is_served_from_its_record(*, method: str, k: int, toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(600, k)
    repository = toy(k)
    result = fitted(repository, save(X=x, y=y), method)
    text = (repository.bundle("toy", result.version).path / "calibration.json").read_text()
    restored = parse_record(text, where="calibration.json")
    assert restored == result.record
    expected = CALIBRATORS[method].fit(x, y).apply(x)
    np.testing.assert_array_equal(restored.restored_calibrator().apply(x), expected)
    # The fused sweep rounds in another order than the calibrator alone.
    np.testing.assert_allclose(served(repository, result).posterior(x).log_probs, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(("method", "k"), FITTING)
def test_every_method_records_itself_as_the_chain_and_the_chosen_candidate(
    *, method: str, k: int, toy: Toy, truth: Truth, save: Save
) -> None:
    x, y = truth(600, k)
    record = fitted(toy(k), save(X=x, y=y), method).record
    assert (record.chain, record.calibrator.method, record.inverse) == ((method,), method, None)
    (name, found), *others = record.candidates.items()
    assert (name, found.chosen, others) == (method, True, [])
    assert found.log_loss == pytest.approx(record.provenance.after_out_of_fold["log_loss"])
    assert found.parameters == CALIBRATORS[method].size(k)
    assert (found.excess, found.excess_standard_error) == (0.0, 0.0)


@pytest.mark.parametrize(("method", "k"), FITTING)
def test_every_method_with_intercepts_speaks_of_the_calibration_rows(
    *, method: str, k: int, toy: Toy, truth: Truth, save: Save
) -> None:
    x, y = truth(900, k, log_ratio=(1.5, *[0.0] * (k - 1)))
    source = fitted(toy(k), save(X=x, y=y), method).record.source
    shares = dict(zip(NAMES[:k], (np.bincount(y) / len(y)).tolist(), strict=True))
    free = CALIBRATORS[method].free_intercepts
    assert source.basis == ("calibration_rows" if free else "unknown")
    assert source.prevalence == (pytest.approx(shares) if free else None)


@pytest.mark.parametrize(("method", "k"), FITTING)
def test_every_method_takes_a_weight_of_two_for_the_row_twice(
    *, method: str, k: int, toy_manifest: Callable[..., object], truth: Truth
) -> None:
    x, y = truth(500, k)
    w = np.random.default_rng(1).integers(1, 4, 500)
    manifest, repeated = toy_manifest(k), np.repeat(np.arange(500), w)
    weighted = Dataset(x, y, None, w.astype(np.float64), "sha256:0")
    # The copies of a row share a fold, as the one weighted row does: the groups keep them together.
    copies = Dataset(x[repeated], y[repeated], repeated, None, "sha256:0")
    one, two = (calibrate(manifest, d.rows, d, method=method, seed=0) for d in (weighted, copies))  # type: ignore[arg-type]
    assert one.source.prevalence == pytest.approx(two.source.prevalence)
    # The others' penalties, targets and blends count rows: of weights only the ratios matter.
    tolerance = 1e-6 if method in {"identity", "temperature", "beta"} else 0.02
    np.testing.assert_allclose(np.exp(one.calibrator.apply(x)), np.exp(two.calibrator.apply(x)), atol=tolerance)
    assert one.candidates[method].log_loss == pytest.approx(two.candidates[method].log_loss, abs=tolerance)


@pytest.mark.parametrize("method", BINARY)
def test_a_method_for_two_classes_is_refused_for_three_in_one_line(
    method: str, toy: Toy, truth: Truth, save: Save
) -> None:
    x, y = truth(300, 3)
    repository = toy(3)
    with pytest.raises(FitError) as refusal:
        fitted(repository, save(X=x, y=y), method)
    assert str(refusal.value) == f"--calibrator {method} is for two classes; this model has 3"
    assert repository.versions("toy") == []


def test_auto_and_every_calibrator_can_be_chosen() -> None:
    assert ("auto", *CALIBRATORS, "shrinkage") == METHODS
    assert set(AUTO) <= set(CALIBRATORS)


# ------------------------------------------------------------------------------------------------- auto and its record


@pytest.mark.parametrize(
    ("temperature", "log_ratio", "winner"),
    [(1.0, None, "identity"), (2.0, None, "temperature"), (2.0, (0.0, 2.0, -1.0), "bcts")],
)
def test_auto_takes_the_fewest_parameters_that_do(
    *, temperature: float, log_ratio: tuple[float, ...] | None, winner: str, toy: Toy, truth: Truth, save: Save
) -> None:
    x, y = truth(3000, 3, temperature=temperature, log_ratio=log_ratio)
    record = fitted(toy(3), save(X=x, y=y), "auto").record
    assert (record.chain, record.calibrator.method) == ((winner,), winner)
    assert tuple(record.candidates) == AUTO
    assert [name for name, found in record.candidates.items() if found.chosen] == [winner]
    within = [n for n, c in record.candidates.items() if c.excess <= c.excess_standard_error]
    fewest = min(record.candidates[name].parameters for name in within)
    assert record.candidates[winner].parameters == fewest
    assert min(c.excess for c in record.candidates.values()) == 0.0


def test_the_losses_of_the_candidates_are_those_of_rows_held_out(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(400, 3)
    record = fitted(toy(3), save(X=x, y=y), "auto").record
    for name, found in record.candidates.items():
        in_sample = log_loss(CALIBRATORS[name].fit(x, y).apply(x), y)
        assert found.log_loss == pytest.approx(in_sample) if name == "identity" else found.log_loss > in_sample
    chosen = next(found for found in record.candidates.values() if found.chosen)
    assert chosen.log_loss == pytest.approx(record.provenance.after_out_of_fold["log_loss"])


def test_copies_of_a_row_do_not_make_auto_bold_when_they_are_grouped(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(60, 3)
    group = np.repeat(np.arange(60), 10)
    copies = save(X=np.repeat(x, 10, axis=0), y=np.repeat(y, 10), group=group)
    record = fitted(toy(3), copies, "vector").record
    in_sample = log_loss(record.restored_calibrator().apply(x), y)
    assert record.candidates["vector"].log_loss > in_sample + 0.01  # a copy in another fold would have shown the label


def test_an_interval_is_recorded_only_of_a_temperature(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(400)
    data = save(X=x, y=y)
    assert set(fitted(toy(), data, "temperature").record.calibrator.interval) == {"temperature"}
    assert fitted(toy(), data, "bcts").record.calibrator.interval == {}


# ----------------------------------------------------------------------------------------------- class-weighted models

PRIOR, WEIGHTS = np.array([0.9, 0.1]), np.array([1 / 0.9, 1 / 0.1])
COST = np.array([[0.0, 6.0], [1.0, 0.0]])
DECLARED = f"""\
[training]
loss = "weighted"
class_weights = {{ ann = {WEIGHTS[0]}, bob = {WEIGHTS[1]} }}
"""


def weighted_model(n: int = 6000, *, seed: int = 0) -> tuple[Array, Indices, Array]:
    """Logits of a model at the optimum of a class-weighted loss, labels, and the true log-posterior (2.6: N(±1, 1))."""
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < PRIOR[1]).astype(np.intp)
    point = rng.normal(loc=2.0 * y - 1.0)
    truth = np.stack([np.zeros(n), 2.0 * point + np.log(PRIOR[1] / PRIOR[0])], axis=1)
    logits = float32(truth + np.log(WEIGHTS))
    return logits, y, log_softmax(logits - np.log(WEIGHTS), axis=1)


def realised_cost(log_probs: Array, labels: Indices) -> float:
    """Mean cost of the actions of least expected cost."""
    return float(COST[(np.exp(log_probs) @ COST.T).argmin(axis=1), labels].mean())


def realised_cost_of_argmax(log_probs: Array, labels: Indices) -> float:
    return float(COST[log_probs.argmax(axis=1), labels].mean())


def test_temperature_cannot_mend_a_class_weighted_model_and_fit_points_at_the_bias(toy: Toy, save: Save) -> None:
    z, y, truth = weighted_model()
    record = fitted(toy(), save(X=z, y=y), "temperature").record
    raw, stuck = log_loss(log_softmax(z, axis=1), y), log_loss(record.restored_calibrator().apply(z), y)
    assert raw - stuck < 0.02
    assert stuck - log_loss(truth, y) > 0.1
    assert record.source.basis == "unknown"
    assert warned(record, "a temperature cannot move that mean, a bias can (--calibrator auto or bcts)")


def test_auto_mends_a_class_weighted_model_with_a_bias(toy: Toy, save: Save) -> None:
    z, y, _ = weighted_model()
    repository = toy()
    result = fitted(repository, save(X=z, y=y), "auto")
    record = result.record
    assert record.chain == ("bcts",)
    assert record.source.basis == "calibration_rows"
    assert record.source.prevalence == pytest.approx({"ann": (y == 0).mean(), "bob": y.mean()})
    assert not warned(record, "disagrees")
    new, labels, best = weighted_model(50_000, seed=1)
    served_log_probs = served(repository, result).posterior(new).log_probs
    assert log_loss(served_log_probs, labels) - log_loss(best, labels) < 0.002
    assert log_loss(log_softmax(new, axis=1), labels) - log_loss(best, labels) > 0.1


@pytest.mark.parametrize("tail", ["", DECLARED], ids=["undeclared", "declared"])
def test_expected_cost_beats_the_most_probable_class_again_on_a_class_weighted_model(
    tail: str, toy: Toy, save: Save
) -> None:
    z, y, _ = weighted_model()
    repository = toy(2, tail)
    result = fitted(repository, save(X=z, y=y), "auto")
    new, labels, best = weighted_model(50_000, seed=1)
    uncalibrated = log_softmax(new, axis=1)
    assert realised_cost(uncalibrated, labels) > realised_cost_of_argmax(
        uncalibrated, labels
    )  # the weights count twice
    after = served(repository, result).posterior(new).log_probs
    assert realised_cost(after, labels) < realised_cost_of_argmax(after, labels) - 0.01
    assert realised_cost(after, labels) < realised_cost_of_argmax(uncalibrated, labels) - 0.002
    assert realised_cost(after, labels) == pytest.approx(realised_cost(best, labels), abs=0.004)


def test_declared_class_weights_are_undone_where_they_were_really_used(toy: Toy, save: Save) -> None:
    z, y, truth = weighted_model()
    repository = toy(2, DECLARED)
    result = fitted(repository, save(X=z, y=y), "auto")
    assert result.record.chain == ("inverse of weighted", "identity")
    assert result.record.inverse is not None
    np.testing.assert_allclose(served(repository, result).posterior(z).log_probs, truth, atol=1e-12)
    assert set(result.record.candidates) == {*AUTO, *(f"inverse of weighted + {name}" for name in AUTO)}


SHARES = "prevalence = { ann = 0.9, bob = 0.1 }\n"


def test_the_source_is_the_declared_prevalence_alone_where_the_inverse_won(toy: Toy, save: Save) -> None:
    z, y, _ = weighted_model()
    record = fitted(toy(2, DECLARED + SHARES), save(X=z, y=y), "identity").record
    losses = [found.log_loss for found in record.candidates.values()]
    assert losses == pytest.approx([losses[0]] * 2)  # both chains say the same of these rows: rounding does not choose
    assert record.chain == ("inverse of weighted", "identity")
    assert record.source.basis == "declared"
    assert record.source.prevalence == pytest.approx({"ann": 0.9, "bob": 0.1})


def test_the_source_is_multiplied_by_the_weights_where_the_inverse_did_not_win(toy: Toy, save: Save) -> None:
    z, y, _ = weighted_model()
    sharp = float32(3.0 * z)  # a temperature of 3 on the weighted logits; undoing the weights first bends it
    record = fitted(toy(2, DECLARED + SHARES), save(X=sharp, y=y), "temperature").record
    assert record.chain == ("temperature",)
    assert record.calibrator.params["temperature"] == pytest.approx(3.0, rel=0.1)
    assert record.source.prevalence == pytest.approx({"ann": 0.5, "bob": 0.5})
    assert warned(record, "the inverse of the weighted loss did not help on held-out rows and is not applied")


def test_a_model_that_forgot_its_class_weights_keeps_its_posterior(toy: Toy, save: Save) -> None:
    _, y, truth = weighted_model()
    repository = toy(2, DECLARED)
    result = fitted(repository, save(X=float32(truth), y=y), "auto")
    assert (result.record.chain, result.record.inverse) == (("identity",), None)
    assert warned(result.record, "the inverse of the weighted loss did not help on held-out rows and is not applied")


# ------------------------------------------------------------------------------------------ focal and label smoothing

FOCAL = '[training]\nloss = "focal"\ngamma = 2.0\n'
SMOOTH = '[training]\nloss = "label_smoothing"\nepsilon = 0.1\n'
TAILS = {"focal": FOCAL, "label_smoothing": SMOOTH}


def posterior_of_rows(n: int, *, seed: int = 0, k: int = 3) -> tuple[Array, Indices]:
    """True probabilities, spread from nearly even to nearly certain, and labels drawn from them."""
    rng = np.random.default_rng(seed)
    p = softmax(rng.normal(scale=2.0, size=(n, k)), axis=1)
    return p, (np.log(p) + rng.gumbel(size=(n, k))).argmax(axis=1).astype(np.intp)


def focal_optimum(p: Array, gamma: float = 2.0) -> Array:
    """Minimiser of the expected focal loss, by stationarity: p_k φ(q_k)/q_k equal for all k (no use of the inverse)."""

    def share(target: float, level: float) -> float:
        def gap(v: float) -> float:
            phi = (1 - v) ** gamma - gamma * (1 - v) ** (gamma - 1) * v * np.log(v)
            return float(target * phi / v - level)

        return float(brentq(gap, 1e-12, 1 - 1e-12, xtol=1e-14))

    def row(target: Array) -> Array:
        def surplus(log_level: float) -> float:
            return sum(share(t, np.exp(log_level)) for t in target) - 1.0

        level = np.exp(brentq(surplus, -12.0, 8.0, xtol=1e-12))
        return np.array([share(t, level) for t in target])

    return np.array([row(target) for target in p])


def optimum(loss: str, p: Array) -> Array:
    return focal_optimum(p) if loss == "focal" else 0.9 * p + 0.1 / p.shape[1]


@pytest.fixture(scope="module")
def optima() -> dict[str, tuple[Array, Array, Indices]]:
    """Logits of models at the optimum of a loss, the posterior, and labels."""
    p, y = posterior_of_rows(1500)
    return {loss: (float32(np.log(optimum(loss, p))), p, y) for loss in TAILS}


@pytest.mark.parametrize("method", ["auto", "identity", "temperature"])
@pytest.mark.parametrize("loss", TAILS)
def test_the_inverse_wins_where_the_loss_was_really_used(
    *, loss: str, method: str, optima: dict[str, tuple[Array, Array, Indices]], toy: Toy, save: Save
) -> None:
    z, p, y = optima[loss]
    repository = toy(3, TAILS[loss])
    result = fitted(repository, save(X=z, y=y), method)
    record = result.record
    assert record.chain[0] == f"inverse of {loss}"
    assert record.inverse is not None
    assert record.inverse.loss == loss
    assert [n for n, c in record.candidates.items() if c.chosen] == [" + ".join(record.chain)]
    for name, found in record.candidates.items():
        if not name.startswith("inverse"):
            assert found.excess >= 0.0
    if method != "temperature":
        assert record.chain[1] == "identity"
        np.testing.assert_allclose(np.exp(served(repository, result).posterior(z).log_probs), p, atol=2e-5)


@pytest.mark.parametrize("loss", TAILS)
def test_temperature_alone_does_not_find_the_posterior_behind_a_loss(
    loss: str, optima: dict[str, tuple[Array, Array, Indices]]
) -> None:
    z, p, y = optima[loss]
    scaled = CALIBRATORS["temperature"].fit(z, y).apply(z)
    divergence = float((p * (np.log(p) - scaled)).sum(axis=1).mean())
    assert divergence > 2e-3


@pytest.mark.parametrize("loss", TAILS)
def test_a_declared_loss_that_was_not_used_is_left_out_with_a_note(loss: str, toy: Toy, save: Save) -> None:
    p, y = posterior_of_rows(3000)
    repository = toy(3, TAILS[loss])
    result = fitted(repository, save(X=float32(np.log(p)), y=y), "auto")
    assert (result.record.chain, result.record.inverse) == (("identity",), None)
    assert warned(result.record, f"the inverse of the {loss} loss did not help on held-out rows and is not applied")
    np.testing.assert_allclose(np.exp(served(repository, result).posterior(np.log(p)).log_probs), p, atol=1e-5)


def test_an_inverse_that_is_applied_is_not_noted_as_left_out(
    optima: dict[str, tuple[Array, Array, Indices]], toy: Toy, save: Save
) -> None:
    z, _, y = optima["focal"]
    assert not warned(fitted(toy(3, FOCAL), save(X=z, y=y), "auto").record, "did not help")


@pytest.mark.parametrize(
    "tail", ['[training]\nloss = "mixup"\n', '[training]\nloss = "distillation"\ntau = 2.0\n'], ids=["mixup", "tau"]
)
def test_a_loss_without_an_inverse_is_only_calibrated_and_says_so(
    tail: str, toy: Toy, truth: Truth, save: Save
) -> None:
    x, y = truth(600, 3, temperature=0.7)
    record = fitted(toy(3, tail), save(X=x, y=y), "auto").record
    assert record.inverse is None
    assert tuple(record.candidates) == AUTO
    assert warned(record, "which has no exact inverse: calibration only approximates its posterior")


# ------------------------------------------------------------------------------------------ nothing is corrected twice


def by_hand(record: Record, z: Array) -> Array:
    """Stages B and C from `calibration.json` with scipy alone."""
    log_q: Array = log_softmax(z, axis=1)
    stored = {} if record.inverse is None else record.inverse.params
    params = {name: np.array(value, dtype=np.float64) for name, value in stored.items()}
    if record.inverse is not None and record.inverse.loss == "weighted":
        log_q = log_softmax(log_q - np.log(params["class_weights"]), axis=1)
    if record.inverse is not None and record.inverse.loss == "label_smoothing":
        p = (np.exp(log_q) - params["epsilon"] / z.shape[1]) / (1 - params["epsilon"])
        log_q = np.log(np.maximum(p, params["floor"]))
        log_q -= logsumexp(log_q, axis=1, keepdims=True)
    if record.inverse is not None and record.inverse.loss == "focal":
        q, gamma = np.exp(log_q), params["gamma"]
        log_q = log_q - np.log((1 - q) ** gamma - gamma * (1 - q) ** (gamma - 1) * q * log_q)
    served_log_probs: Array = log_softmax(log_q / np.array(record.calibrator.params["temperature"]), axis=1)
    return served_log_probs


@pytest.mark.parametrize("tail", ["", DECLARED, DECLARED + SHARES, *TAILS.values()])
def test_the_recorded_chain_is_applied_exactly_once(tail: str, toy: Toy, save: Save) -> None:
    p, y = posterior_of_rows(1500, k=2)
    bent = 0.9 * p + 0.05 if "smoothing" in tail else focal_optimum(p) if "focal" in tail else p * WEIGHTS
    z = float32(np.log(bent) * 1.3)
    repository = toy(2, tail)
    result = fitted(repository, save(X=z, y=y), "temperature")
    np.testing.assert_allclose(
        np.exp(served(repository, result).posterior(z).log_probs), np.exp(by_hand(result.record, z)), atol=1e-9
    )


@pytest.mark.parametrize("tail", [DECLARED, DECLARED + SHARES], ids=["undeclared shares", "declared shares"])
@pytest.mark.parametrize("method", ["auto", "identity", "temperature", "bcts"])
def test_asking_for_the_prevalence_that_the_record_names_changes_nothing(
    *, method: str, tail: str, toy: Toy, save: Save
) -> None:
    z, y, _ = weighted_model()
    repository = toy(2, tail)
    result = fitted(repository, save(X=z, y=y), method)
    model = served(repository, result)
    assert result.record.source.prevalence is not None
    target = np.array([result.record.source.prevalence[name] for name in ("ann", "bob")])
    log_probs = model.posterior(z).log_probs
    np.testing.assert_array_equal(at_prevalence(log_probs, source=model.source, target=target), log_probs)


@pytest.mark.parametrize("method", ["auto", "identity", "temperature", "bcts"])
def test_moved_to_the_rows_own_prevalence_every_chain_says_the_same(method: str, toy: Toy, save: Save) -> None:
    z, y, truth = weighted_model()
    repository = toy(2, DECLARED + SHARES)
    model = served(repository, fitted(repository, save(X=z, y=y), method))
    moved = at_prevalence(model.posterior(z).log_probs, source=model.source, target=PRIOR)
    assert log_loss(moved, y) - log_loss(truth, y) < 0.002  # weights and prevalence each counted once, not twice


def test_the_stored_inverse_is_the_declared_one(
    optima: dict[str, tuple[Array, Array, Indices]], toy: Toy, save: Save
) -> None:
    z, _, y = optima["focal"]
    tail = FOCAL + "alpha = { ann = 1.0, bob = 1.0, cyd = 1.0 }\n"
    repository = toy(3, tail)
    result = fitted(repository, save(X=z, y=y), "identity")
    assert result.record.inverse is not None
    assert result.record.inverse.params == {"gamma": 2.0, "alpha": (1.0, 1.0, 1.0)}
    assert served(repository, result).chain.inverse == restore_inverse(result.record.inverse)
    assert served(repository, result).posterior(z).scores[:, 0] == pytest.approx(
        -log_softmax(z, axis=1).max(axis=1)
    )  # stage A looks at raw logits, whatever B and C do

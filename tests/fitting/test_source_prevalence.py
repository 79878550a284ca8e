import numpy as np
import pytest

from service.core.numerics import Array, Indices
from service.fitting.source_prevalence import declared_prevalence
from service.runtime.model import load_model
from tests.fitting.fitted import Save, Toy, Truth, fitted, independent_temperature, temperature


def generated(n: int, shares: Array, declared: Array, *, t: float, seed: int) -> tuple[Array, Indices]:
    """Rows of Gaussian classes mixed in ``shares``; logits are ``t`` times those right for ``declared``."""
    rng = np.random.default_rng(seed)
    y = rng.choice(len(shares), size=n, p=shares).astype(np.intp)
    means = 1.2 * np.eye(len(shares))
    points = means[y] + rng.normal(size=(n, len(shares)))
    log_likelihood = -0.5 * ((points[:, None, :] - means) ** 2).sum(axis=2)
    return (t * (log_likelihood + np.log(declared))).astype(np.float32).astype(np.float64), y


SHARES, DECLARED, TRUE_T = np.array([0.05, 0.15, 0.8]), np.array([0.6, 0.3, 0.1]), 2.5
THREE = "[training]\nprevalence = { ann = 0.6, bob = 0.3, cyd = 0.1 }\n"


def test_a_prevalence_unlike_the_declared_one_does_not_bend_the_temperature(toy: Toy, save: Save) -> None:
    z, y = generated(12_000, SHARES, DECLARED, t=TRUE_T, seed=0)
    record = fitted(toy(3, THREE), save(X=z, y=y)).record
    assert temperature(record) == pytest.approx(TRUE_T, rel=0.02)
    assert record.source.basis == "declared"
    assert record.source.prevalence == pytest.approx({"ann": 0.6, "bob": 0.3, "cyd": 0.1})
    observed = np.bincount(y) / len(y)
    expected = independent_temperature(z, y, offset=np.log(observed / DECLARED))
    assert temperature(record) == pytest.approx(expected, rel=1e-6)


def test_the_same_rows_without_a_declaration_would_bend_it(toy: Toy, save: Save) -> None:
    z, y = generated(12_000, SHARES, DECLARED, t=TRUE_T, seed=0)
    record = fitted(toy(3), save(X=z, y=y)).record
    assert abs(temperature(record) / TRUE_T - 1.0) > 0.2


def test_a_declared_prevalence_is_multiplied_by_the_class_weights(toy: Toy, save: Save) -> None:
    tail = (
        '[training]\nloss = "weighted"\nprevalence = { ann = 0.8, bob = 0.1, cyd = 0.1 }\n'
        "class_weights = { ann = 0.75, bob = 3.0, cyd = 1.0 }\n"  # 0.6 : 0.3 : 0.1
    )
    z, y = generated(12_000, SHARES, DECLARED, t=TRUE_T, seed=1)
    repository = toy(3, tail)
    record = fitted(repository, save(X=z, y=y)).record
    assert record.source.prevalence == pytest.approx({"ann": 0.6, "bob": 0.3, "cyd": 0.1})
    assert temperature(record) == pytest.approx(TRUE_T, rel=0.02)
    assert record.inverse is None
    assert any("inverse of the weighted loss did not help" in text for text in record.provenance.warnings)


def test_nothing_declared_means_nothing_known(toy: Toy) -> None:
    manifest = toy().draft("toy").manifest
    assert declared_prevalence(manifest, weighted=False) is None
    assert declared_prevalence(manifest, weighted=True) is None


def test_an_undeclared_prevalence_that_agrees_is_that_of_the_calibration_rows(
    toy: Toy, truth: Truth, save: Save
) -> None:
    x, y = truth(1000, 3)
    record = fitted(toy(3), save(X=x, y=y)).record
    assert record.source.basis == "calibration_rows"
    shares = dict(zip(("ann", "bob", "cyd"), (np.bincount(y) / 1000).tolist(), strict=True))
    assert record.source.prevalence == pytest.approx(shares)


def test_an_undeclared_prevalence_that_disagrees_is_unknown_with_a_warning(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(1000, log_ratio=(0.0, 2.0))
    repository = toy()
    result = fitted(repository, save(X=x, y=y))
    assert (result.record.source.basis, result.record.source.prevalence) == ("unknown", None)
    assert any("and so can declaring [training]" in text for text in result.record.provenance.warnings)
    assert load_model(repository.bundle("toy", result.version)).source is None


def test_a_class_without_rows_leaves_an_undeclared_prevalence_unknown(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(1000, 3)
    kept = y < 2
    record = fitted(toy(3), save(X=x[kept], y=y[kept])).record
    assert record.source.basis == "unknown"
    assert any("fewer than 5 rows of cyd" in text for text in record.provenance.warnings)


def test_a_class_without_rows_can_be_fitted_where_a_prevalence_is_declared(toy: Toy, save: Save) -> None:
    z, y = generated(2000, np.array([0.5, 0.5, 0.0]), DECLARED, t=TRUE_T, seed=2)
    record = fitted(toy(3, THREE), save(X=z, y=y)).record
    assert temperature(record) == pytest.approx(TRUE_T, rel=0.1)
    assert all(np.isfinite(value) for value in record.provenance.after_out_of_fold.values())

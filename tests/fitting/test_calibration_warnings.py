import numpy as np

from tests.fitting.fitted import Save, Toy, Truth, fitted


def test_few_rows_are_warned_about(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(25)
    warnings = fitted(toy(), save(X=x, y=y)).record.provenance.warnings
    assert any(text.startswith("only 25 rows") for text in warnings)


def test_a_rare_class_is_warned_about(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(400)
    kept = np.flatnonzero((y == 0) | (np.cumsum(y) <= 4))
    warnings = fitted(toy(), save(X=x[kept], y=y[kept])).record.provenance.warnings
    assert any("fewer than 5 rows of bob" in text for text in warnings)


def test_a_calibration_that_does_not_help_has_a_warning(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(60, temperature=1.0, seed=1)
    record = fitted(toy(), save(X=x, y=y)).record
    helped = record.provenance.after_out_of_fold["log_loss"] < record.provenance.before["log_loss"]
    warned = any("did not lower the log loss" in text for text in record.provenance.warnings)
    assert not helped
    assert warned


def test_many_rows_have_no_warning(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(1000)
    assert fitted(toy(), save(X=x, y=y)).record.provenance.warnings == ()

import io
import json
from pathlib import Path

import numpy as np
import pytest

from service.bundle.record import parse_record
from service.bundle.repository import Bundle
from service.bundle.state import State, dump_state, load_state
from service.errors import BundleDamaged

ROWS = np.random.default_rng(0).normal(size=(50, 3))
LABELS = np.arange(50) % 3


def archive(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def lone_array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, ROWS)
    return buffer.getvalue()


DAMAGED = {
    "nothing": b"",
    "html": b"<html>not found</html>",
    "half an archive": archive(x=ROWS)[:200],
    "an archive without its end": archive(x=ROWS)[:-30],
    "a lone array": lone_array(),
    "random bytes": np.random.default_rng(1).bytes(500),
}


def test_the_same_arrays_make_the_same_bytes() -> None:
    state: State = {"a": ROWS, "b": LABELS, "n": np.array(50)}
    assert dump_state(state) == dump_state({key: array.copy() for key, array in state.items()})


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED.keys())
def test_bytes_that_are_no_archive_are_refused_by_name(data: bytes) -> None:
    with pytest.raises(BundleDamaged, match=r"^models/m/1/state\.npz is not an archive of plain arrays"):
        load_state(data, where="models/m/1/state.npz")


def test_a_pickled_array_is_refused_and_never_unpickled(pickled_archive: bytes, marker: Path) -> None:
    with pytest.raises(BundleDamaged, match=r"state\.npz is not an archive of plain arrays"):
        load_state(pickled_archive, where="state.npz")
    assert not marker.exists()


def test_the_trap_would_have_gone_off(pickled_archive: bytes, marker: Path) -> None:
    with np.load(io.BytesIO(pickled_archive), allow_pickle=True) as trap:
        _ = trap["scores"]
    assert marker.exists()


def test_a_record_survives_the_disk(published: Bundle) -> None:
    assert published.record is not None
    assert parse_record(published.record.to_json(), where="calibration.json") == published.record


def test_a_record_older_than_chains_and_label_sets_keeps_its_bytes() -> None:
    text = (Path(__file__).parent / "record-of-the-first-release.json").read_text()
    assert parse_record(text, where="calibration.json").to_json() == text


def test_a_record_is_written_as_it_lies_in_the_shipped_bundle(published: Bundle) -> None:
    assert published.record is not None
    assert published.record.to_json() == (published.path / "calibration.json").read_text()


def test_what_is_separable_is_restored_mixed_and_what_is_older_is_not(published: Bundle) -> None:
    assert published.record is not None
    changes = {"status": "separable", "support": 0.25}
    mixed = published.record.model_copy(update=changes).restored_calibrator()
    bare = published.record.model_copy(update=changes | {"support": None}).restored_calibrator()
    far = np.array([[0.0, 1e6]])
    np.testing.assert_allclose(np.exp(mixed.apply(far)), [[0.125, 0.875]], rtol=1e-12)
    assert np.exp(bare.apply(far))[0, 0] == 0.0


def test_a_record_without_support_counts_its_rows_or_groups(published: Bundle) -> None:
    assert published.record is not None
    old = published.record.model_copy(update={"support": None})
    assert old.least_error == 1.0 / 143.0
    grouped = old.model_copy(update={"provenance": old.provenance.model_copy(update={"groups": 49})})
    assert grouped.least_error == 1.0 / 50.0


REFUSED = {
    "a support of one": (lambda r: json.dumps(r | {"support": 1.0}), "support"),
    "not JSON": (lambda _record: "{", ""),
    "an unknown key": (lambda r: json.dumps(r | {"user": "me"}), "user"),
    "no status": (lambda r: json.dumps({k: v for k, v in r.items() if k != "status"}), "status"),
    "an uncalibrated status": (lambda r: json.dumps(r | {"status": "uncalibrated"}), "status"),
    "another schema": (lambda r: json.dumps(r | {"schema": 2}), "schema"),
    "a floor that is nan": (lambda r: json.dumps(r | {"probability_floor": float("nan")}), "probability_floor"),
    "an unknown method": (
        lambda r: json.dumps(r | {"calibrator": {"method": "magic", "params": {}}}),
        "calibrator.method is not one of identity, temperature",
    ),
    "parameters of another method": (
        lambda r: json.dumps(r | {"calibrator": {"method": "temperature", "params": {"slope": 1.0}}}),
        "calibrator.params",
    ),
    "a temperature of zero": (
        lambda r: json.dumps(r | {"calibrator": {"method": "temperature", "params": {"temperature": 0.0}}}),
        "calibrator.params: temperature must be greater than 0",
    ),
    "an unknown inverse": (
        lambda r: json.dumps(r | {"inverse": {"loss": "magic", "params": {}}}),
        "inverse.loss is not one of cross_entropy, weighted, focal",
    ),
    "parameters of another inverse": (
        lambda r: json.dumps(r | {"inverse": {"loss": "focal", "params": {"epsilon": 0.1}}}),
        "inverse.params must be among gamma, alpha",
    ),
    "an inverse without its class weights": (
        lambda r: json.dumps(r | {"inverse": {"loss": "weighted", "params": {}}}),
        "inverse.params must hold class_weights",
    ),
}


OUT_OF_RANGE = {
    "a support of zero": ("support", 0.0, "must be greater than 0"),
    "a floor of one half": ("probability_floor", 0.5, "must be less than 0.5"),
    "shares that sum to three": ("source.prevalence", {"benign": 1.5, "malignant": 1.5}, "must be less than or equal"),
    "shares that sum to less": ("source.prevalence", {"benign": 0.5, "malignant": 0.4}, "must sum to 1, not 0.9"),
    "a class of no share": ("source.prevalence", {"benign": 1.0, "malignant": 0.0}, "must be greater than 0"),
    "a false-alarm rate of one": ("scores.nll.false_alarm", 1.0, "must be less than 1"),
    "a confidence of one": ("scores.nll.confidence", 1.0, "must be less than 1"),
    "thresholds of no rows": ("scores.nll.rows", 0, "must be greater than or equal to 1"),
    "a threshold without an end": ("scores.nll.threshold", 1e999, "must be a finite number"),
    "a negative band": ("scores.nll.band.measured", -1.0, "must be greater than or equal to 0"),
    "a level of one": ("calibrator.level", 1.0, "must be less than 1"),
    "a share of rows above one": ("provenance.flag_rate", 1.1, "must be less than or equal to 1"),
    "fewer than no rows": ("provenance.rows", -1, "must be greater than or equal to 1"),
    "more rows than there can be": ("provenance.rows", 10**400, "must be"),
    "sets of no rows": ("label_sets.rows", 0, "must be greater than or equal to 1"),
    "a class of fewer than no rows": ("label_sets.class_rows.benign", -1, "must be greater than or equal to 0"),
    "a condition of zero": ("estimation.condition", 0.0, "must be greater than 0"),
}


@pytest.mark.parametrize("case", OUT_OF_RANGE)
def test_a_number_out_of_its_range_is_refused_by_key(case: str, published: Bundle) -> None:
    key, value, must = OUT_OF_RANGE[case]
    record = json.loads((published.path / "calibration.json").read_text())
    inner, (*steps, last) = record, key.split(".")
    for step in steps:
        inner = inner[step]
    inner[last] = value
    with pytest.raises(BundleDamaged, match=rf"^models/m/1/calibration\.json: {key}") as refusal:
        parse_record(json.dumps(record), where="models/m/1/calibration.json")
    assert must in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("case", REFUSED)
def test_a_record_is_refused_in_one_line_that_names_the_key(case: str, published: Bundle) -> None:
    spoil, fragment = REFUSED[case]
    text = spoil(json.loads((published.path / "calibration.json").read_text()))
    with pytest.raises(BundleDamaged) as refusal:
        parse_record(text, where="models/m/1/calibration.json")
    assert str(refusal.value).startswith("models/m/1/calibration.json: ")
    assert fragment in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[" * 100_000,
        '{"schema": 1, "schema": 1}',
        f'{{"a": {"9" * 5_000}}}',
        "\ufeff{}",
        '{"a": "\x00"}',
        f'{{"{"k" * 100_000}": 1, "{"k" * 100_000}": 2}}',
    ],
    ids=["nothing", "half", "brackets", "a key twice", "digits", "a mark", "NUL", "a long key twice"],
)
def test_a_record_that_is_no_strict_json_is_refused_in_one_short_line(text: str) -> None:
    with pytest.raises(BundleDamaged, match=r"^m/1/calibration\.json: it is not strict JSON: ") as caught:
        parse_record(text, where="m/1/calibration.json")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300

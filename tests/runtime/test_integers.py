"""64-bit integers arrive in the graph as they were sent: graphs whose logits are the integers' own bits show it."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from service.bundle.manifest import MANIFEST_FILE, parse_manifest
from service.bundle.repository import Repository
from service.core.numerics import EXACT
from service.errors import InvalidInstances, ManifestInvalid
from service.fitting.publish import publish_draft
from service.importer.declared import Declared
from service.importer.import_model import import_model
from service.runtime.integers import INEXACT, gathered, integers, rows_with
from service.runtime.model import Model, load_model
from service.runtime.rows import Fields, Rows, alike, join

CHUNKS: Final = 4  # of 16 bits each
STEP: Final = 2.0**-13
CODE: Final = 999000021000000106  # as SNOMED CT has, beyond 2^53
SIGNED = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([0, 1, EXACT - 1, EXACT, EXACT + 1, -EXACT - 1, CODE, CODE + 1, 2**63 - 1, -(2**63)]),
)
UNSIGNED = st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, EXACT + 1, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 1]))
PAIRS = st.lists(st.tuples(SIGNED, UNSIGNED), min_size=1, max_size=4)


def bits_graph(path: Path, kind: str = "columns") -> Path:
    """Inputs `n` (INT64) and `u` (UINT64; in a ``tensor`` graph of shape [1, 1]); logits are their 16-bit parts."""
    shape: list[str | int | None] = ["rows"] if kind == "flat" else ["rows", 1]
    other: list[str | int | None] = ["rows", 1, 1] if kind == "tensor" else shape
    nodes = [
        helper.make_node("Cast", ["n"], ["n_bits"], to=TensorProto.UINT64),
        helper.make_node("Reshape", ["n_bits", "column"], ["n_column"]),
        helper.make_node("Reshape", ["u", "column"], ["u_column"]),
    ]
    parts = []
    for name in ("n_column", "u_column"):
        for i in range(CHUNKS):
            part = f"{name}_{i}"
            nodes += [
                helper.make_node("BitShift", [name, f"by_{i}"], [f"{part}_shifted"], direction="RIGHT"),
                helper.make_node("Mod", [f"{part}_shifted", "size"], [part]),
            ]
            parts.append(part)
    nodes += [
        helper.make_node("Concat", parts, ["bits"], axis=1),
        helper.make_node("Cast", ["bits"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "step"], ["scaled"]),
        helper.make_node("Pad", ["scaled", "one_more"], ["logits"]),  # a class whose logit is 0
    ]
    unsigned = {"size": [2**16]} | {f"by_{i}": [16 * i] for i in range(CHUNKS)}
    constants = [numpy_helper.from_array(np.array(value, dtype=np.uint64), name) for name, value in unsigned.items()]
    constants += [
        numpy_helper.from_array(np.array([-1, 1]), "column"),
        numpy_helper.from_array(np.array([0, 0, 0, 1]), "one_more"),
        numpy_helper.from_array(np.array(STEP, dtype=np.float32), "step"),
    ]
    graph = helper.make_graph(
        nodes,
        "bits",
        [
            helper.make_tensor_value_info("n", TensorProto.INT64, shape),
            helper.make_tensor_value_info("u", TensorProto.UINT64, other),
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", 2 * CHUNKS + 1])],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def bits_repository(folder: Path, *, more: str = "", kind: str = "columns") -> Repository:
    """A repository with `bits`, published; ``more`` is appended to its manifest."""
    repository = Repository(folder / "models")
    repository.root.mkdir(parents=True)
    declared = Declared(output_kind="logits")
    draft = import_model(repository, "bits", bits_graph(folder / "bits.onnx", kind), declared).draft
    manifest = draft / MANIFEST_FILE
    manifest.write_text(f"{manifest.read_text(encoding='utf-8')}\n{more}", encoding="utf-8")
    publish_draft(repository, "bits")
    return repository


def read_back(log_probs: npt.ArrayLike) -> list[tuple[int, int]]:
    """The integers that a row's log-probabilities tell."""
    table = np.asarray(log_probs)
    chunks = np.rint((table[:, :-1] - table[:, -1:]) / STEP).astype(int).tolist()
    numbers = [[sum(part << (16 * i) for i, part in enumerate(row[at : at + 4])) for at in (0, 4)] for row in chunks]
    return [(n - 2**64 if n >= 2**63 else n, u) for n, u in numbers]


@pytest.fixture(scope="module", params=["columns", "flat", "tensor"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_model(bits_repository(tmp_path_factory.mktemp("bits"), kind=request.param).bundle("bits", 1))


def rows_of(model: Model, pairs: list[tuple[int, int]]) -> Rows:
    """Rows as a careful reader makes them."""
    columns = {"n": integers([n for n, _ in pairs]), "u": np.array([u for _, u in pairs], dtype=np.uint64)}
    if "u" in model.inputs.columns:
        return rows_with(*gathered(columns, model.inputs.wide))
    table, whole = gathered({"n": columns["n"]}, model.inputs.wide)
    return Fields(table, {**whole, "u": columns["u"].reshape(-1, 1, 1)})


@given(pairs=PAIRS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_integers_arrive_bit_by_bit(pairs: list[tuple[int, int]], model: Model) -> None:
    assert read_back(model.posterior(rows_of(model, pairs)).log_probs) == pairs


def test_rows_that_doubles_hold_come_as_doubles_too(model: Model) -> None:
    if "u" in model.inputs.columns:
        assert read_back(model.posterior(np.array([[-3.0, 4.0]])).log_probs) == [(-3, 4)]


@pytest.fixture(scope="module")
def columns(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_model(bits_repository(tmp_path_factory.mktemp("columns")).bundle("bits", 1))


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_an_array_of_integers_is_read_as_it_is(dtype: npt.DTypeLike, columns: Model) -> None:
    rows = np.array([[CODE, CODE + 1], [5, 7]], dtype=dtype)
    assert read_back(columns.posterior(rows).log_probs) == [(CODE, CODE + 1), (5, 7)]


@pytest.mark.parametrize(
    ("cell", "code", "detail"),
    [
        (1.5, "wrong-type", "must be a whole number"),
        (float(EXACT), "wrong-type", INEXACT),
        (-float(CODE), "wrong-type", INEXACT),
        (2.0**63, "number-out-of-range", "does not fit int64"),
        (1e300, "number-out-of-range", "does not fit int64"),
        (2**63, "number-out-of-range", "does not fit int64"),
        (-(2**63) - 1, "number-out-of-range", "does not fit int64"),
        (10**30, "number-out-of-range", "does not fit int64"),
    ],
)
def test_what_is_no_64_bit_integer_is_refused_in_its_place(cell: float, code: str, detail: str, columns: Model) -> None:
    table = np.array([[1.0, 1.0], [float(cell), 1.0]])
    rows = rows_with(table, {"n": integers([1, cell])} if isinstance(cell, int) else {})
    with pytest.raises(InvalidInstances) as error:
        columns.inputs.admit(rows)
    assert [(f.path, f.code, f.detail) for f in error.value.faults] == [(("instances", 1, "n"), code, detail)]


def test_a_negative_number_is_no_unsigned_one(columns: Model) -> None:
    with pytest.raises(InvalidInstances, match="row 0, 'u': does not fit uint64"):
        columns.inputs.admit(rows_with(np.array([[0.0, -float(CODE)]]), {"u": integers([-CODE])}))


# -------------------------------------------------------------------------------------------- what manifests declare

Declare = Callable[[str], Model]


@pytest.fixture
def declare(tmp_path: Path) -> Declare:
    return lambda more: load_model(bits_repository(tmp_path, more=more).bundle("bits", 1))


def test_allowed_bounds_are_compared_as_integers(declare: Declare) -> None:
    model = declare(f"[features.n]\nallowed = [{CODE}, {CODE + 2}]\n")
    assert read_back(model.posterior(rows_of(model, [(CODE, 0), (CODE + 2, 0)])).log_probs)[1] == (CODE + 2, 0)
    for outside in (CODE - 1, CODE + 3):
        with pytest.raises(InvalidInstances, match=f"must lie between {CODE} and {CODE + 2}"):
            model.inputs.admit(rows_of(model, [(outside, 0)]))


def test_bounds_given_as_decimals_count_as_the_integers_that_they_are(declare: Declare) -> None:
    model = declare("[features.n]\nallowed = [0.0, 1e18]\n")
    model.inputs.admit(rows_of(model, [(10**18, 0)]))
    with pytest.raises(InvalidInstances, match="must lie between 0 and 1000000000000000000"):
        model.inputs.admit(rows_of(model, [(10**18 + 1, 0)]))


def test_plausible_bounds_are_compared_as_integers(declare: Declare) -> None:
    model = declare(f"[features.n]\nplausible = [{CODE}, {CODE + 2}]\n")
    pairs = [(CODE - 1, 0), (CODE, 0), (CODE + 2, 0), (CODE + 3, 0)]
    found = model.posterior(rows_of(model, pairs))
    assert found.outside.any(axis=1).tolist() == [True, False, False, True]
    assert read_back(found.log_probs) == pairs


def test_a_missing_value_becomes_the_integer_that_stands_in(declare: Declare) -> None:
    model = declare(f"[features.n]\nmissing = {{ impute = {CODE + 1} }}\n")
    assert read_back(model.posterior(np.array([[np.nan, 0.0]])).log_probs) == [(CODE + 1, 0)]
    mixed = rows_with(np.array([[np.nan, 0.0], [float(CODE), 0.0]]), {"n": integers([0, CODE + 3])})
    assert read_back(model.posterior(mixed).log_probs) == [(CODE + 1, 0), (CODE + 3, 0)]


def test_categories_are_compared_as_integers(declare: Declare) -> None:
    model = declare(
        f"[features.n]\ncategories = [{CODE}, {CODE + 2}, 7]\n[features.u]\ncategories = [3, {2**64 - 1}]\n"
    )
    pairs = [(CODE, 3), (CODE + 2, 2**64 - 1), (7, 3)]
    assert read_back(model.posterior(rows_of(model, pairs)).log_probs) == pairs
    with pytest.raises(InvalidInstances) as error:
        model.inputs.admit(rows_of(model, [(CODE + 1, 3), (8, 2**64 - 2), (7, 3)]))
    places = [(("instances", 0, "n")), (("instances", 1, "n")), (("instances", 1, "u"))]
    assert [(f.path, f.code) for f in error.value.faults] == [(place, "unknown-category") for place in places]
    drawn = model.inputs.synthetic(3)
    assert read_back(model.posterior(drawn).log_probs) == [(CODE, 3), (CODE + 2, 2**64 - 1), (7, 3)]


def test_rows_are_drawn_within_bounds_that_doubles_cannot_hold(declare: Declare) -> None:
    model = declare(
        f"[features.n]\nallowed = [{CODE + 1}, {CODE + 3}]\n[features.u]\nplausible = [{CODE}, {2**64 - 1}]\n"
    )
    drawn = read_back(model.posterior(model.inputs.synthetic(5)).log_probs)
    assert all(CODE < n <= CODE + 3 and u >= CODE for n, u in drawn)


@pytest.mark.parametrize("key", ["pad", "fill"])
def test_what_doubles_cannot_hold_is_refused_in_the_rest_of_a_manifest(key: str) -> None:
    text = 'schema = 1\ntitle = "t"\n[graph]\noutput = "s"\noutput_kind = "logits"\nclasses = ["a", "b"]\n'
    with pytest.raises(ManifestInvalid, match="a double cannot hold this whole number exactly"):
        parse_manifest(f'{text}[[inputs]]\nname = "x"\n{key} = {EXACT + 1}\n')


# ------------------------------------------------------------------------------------------------------ joining rows


def test_rows_with_and_without_integers_are_never_joined(columns: Model) -> None:
    plain, exact = np.array([[1.0, 2.0]]), rows_of(columns, [(CODE, 2)])
    assert not alike(plain, exact)
    assert not alike(rows_of(columns, [(1, CODE)]), exact)
    with pytest.raises(TypeError, match="must be alike"):
        join([plain, exact])
    both = join([exact, rows_of(columns, [(CODE + 1, 3)])])
    assert read_back(columns.posterior(both).log_probs) == [(CODE, 2), (CODE + 1, 3)]

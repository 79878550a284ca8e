from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from service.bundle.manifest import MANIFEST_FILE, parse_manifest
from service.bundle.repository import Repository
from service.errors import (
    BundleDamaged,
    DraftExists,
    GraphError,
    ManifestInvalid,
    ServiceError,
)
from service.fitting.publish import publish_draft
from service.importer.declared import Declared
from service.importer.import_model import import_model
from service.runtime.model import load_model

IDENTITY = ([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])
FLOATS = (TensorProto.FLOAT, [None, 2])

Write = Callable[..., Path]


@pytest.fixture
def graph_of(tmp_path: Path) -> Write:
    """Writes nodes from input `x` to some outputs, all of shape (rows, 2) by default."""

    def write(
        nodes: list[onnx.NodeProto],
        *outputs: str,
        shape: tuple[int, list[int | None]] = FLOATS,
        constants: tuple[onnx.TensorProto, ...] = (),
    ) -> Path:
        graph = helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", *shape)],
            [helper.make_tensor_value_info(name, *FLOATS) for name in outputs],
            list(constants),
        )
        path = tmp_path / "graph.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
        return path

    return write


@pytest.fixture
def empty(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "models")


def manifest_text(repository: Repository, name: str = "m") -> str:
    return (repository.root / name / "draft" / MANIFEST_FILE).read_text()


@pytest.mark.parametrize(
    ("activation", "output", "kind"),
    [
        (None, "scores", "logits"),
        ("Softmax", "activated", "probabilities"),
        ("LogSoftmax", "activated", "log_probabilities"),
    ],
)
def test_what_the_operators_prove_is_written_down_with_the_proof(
    activation: str | None, output: str, kind: str, linear_graph: Write, empty: Repository
) -> None:
    imported = import_model(empty, "m", linear_graph(*IDENTITY, activation=activation), Declared())
    text = manifest_text(empty)
    manifest = parse_manifest(text)
    assert (manifest.graph.output, manifest.graph.output_kind, manifest.graph.classes) == (output, kind, ("0", "1"))
    assert f'output_kind = "{kind}" # its last operator is {activation or "Gemm"}' in text
    assert f'output = "{output}" # the only floating-point tensor' in text
    assert "# nothing names them: numbered in output order" in text
    assert [c.subject for c in imported.conclusions] == ["output", "output_kind", "task", "classes"]


def test_what_the_user_declares_is_written_down_as_declared(linear_graph: Write, empty: Repository) -> None:
    declared = Declared("scores", "logits", "multiclass", ("no", "yes"), ("age", "pulse"))
    import_model(empty, "m", linear_graph(*IDENTITY), declared)
    text = manifest_text(empty)
    assert text.count("# declared at import") == 4
    assert "# named at import" in text
    manifest = parse_manifest(text)
    assert manifest.graph.classes == ("no", "yes")
    assert manifest.columns == ("age", "pulse")


def test_a_draft_holds_the_graph_byte_for_byte_and_loads(linear_graph: Write, empty: Repository) -> None:
    path = linear_graph(*IDENTITY)
    draft = import_model(empty, "m", path, Declared()).draft
    assert (draft / "model.onnx").read_bytes() == path.read_bytes()
    assert load_model(empty.draft("m")).status == "uncalibrated"


def test_columns_without_names_are_numbered(linear_graph: Write, empty: Repository) -> None:
    import_model(empty, "m", linear_graph(*IDENTITY), Declared())
    assert parse_manifest(manifest_text(empty)).columns == ("x0", "x1")


@pytest.mark.parametrize("names", ['a"b', "ä ö", "a\\b", "x = 1 # y"])
def test_odd_names_survive_the_manifest(names: str, linear_graph: Write, empty: Repository) -> None:
    declared = Declared(classes=(names, "other"), features=(names, "other"))
    import_model(empty, "m", linear_graph(*IDENTITY), declared)
    assert parse_manifest(manifest_text(empty)).graph.classes == (names, "other")


@pytest.mark.parametrize("labels", [("fine", "sick"), (0, 1), ("a", "b", "c")])
def test_a_scikit_learn_classifier_needs_no_flags(
    labels: tuple[str | int, ...], empty: Repository, tmp_path: Path
) -> None:
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression

    rows = np.random.default_rng(0).normal(size=(90, 3)).astype(np.float32)
    fitted = LogisticRegression().fit(rows, np.array(labels)[np.arange(90) % len(labels)])
    onnx.save(to_onnx(fitted, rows[:1], options={"zipmap": False}, target_opset=17), tmp_path / "m.onnx")
    import_model(empty, "m", tmp_path / "m.onnx", Declared())
    manifest = parse_manifest(manifest_text(empty))
    assert manifest.graph.classes == tuple(map(str, labels))
    assert manifest.graph.output_kind == "probabilities"
    assert "# the graph's class labels" in manifest_text(empty)
    answered = np.exp(load_model(empty.draft("m")).posterior(rows.astype(np.float64)).log_probs)
    np.testing.assert_allclose(answered, fitted.predict_proba(rows), atol=1e-5)


def test_a_zipmap_is_dropped_with_a_note(empty: Repository, tmp_path: Path) -> None:
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression

    rows = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    fitted = LogisticRegression().fit(rows, np.arange(60) % 2)
    onnx.save(to_onnx(fitted, rows[:1], target_opset=17), tmp_path / "m.onnx")
    imported = import_model(empty, "m", tmp_path / "m.onnx", Declared())
    note = "the ZipMap after 'probabilities' was dropped: that tensor is an output now"
    assert note in {c.evidence for c in imported.conclusions}
    assert note in manifest_text(empty)
    answered = np.exp(load_model(empty.draft("m")).posterior(rows.astype(np.float64)).log_probs)
    np.testing.assert_allclose(answered, fitted.predict_proba(rows), atol=1e-5)


def test_several_outputs_are_refused_by_name(graph_of: Write, empty: Repository) -> None:
    path = graph_of([helper.make_node("Softmax", ["x"], ["p"]), helper.make_node("LogSoftmax", ["x"], ["q"])], "p", "q")
    with pytest.raises(GraphError, match=r"--output p\|q"):
        import_model(empty, "m", path, Declared())
    import_model(empty, "m", path, Declared(output="q"))
    assert parse_manifest(manifest_text(empty)).graph.output_kind == "log_probabilities"


def test_an_output_the_graph_lacks_is_refused_beside_those_it_has(linear_graph: Write, empty: Repository) -> None:
    with pytest.raises(GraphError, match=r"--output: .* \(it has scores\)"):
        import_model(empty, "m", linear_graph(*IDENTITY), Declared(output="logits"))


def test_an_unknown_kind_is_refused_with_the_flag(linear_graph: Write, empty: Repository) -> None:
    with pytest.raises(GraphError, match=r"is unknown .*Tanh.*--output-kind"):
        import_model(empty, "m", linear_graph(*IDENTITY, activation="Tanh"), Declared())


@pytest.mark.parametrize("declared", [None, "probabilities"])
def test_the_sigmoid_of_one_column_is_the_second_class_probability(
    declared: str | None, linear_graph: Write, empty: Repository
) -> None:
    path = linear_graph([[1.0], [0.0]], [0.0], activation="Sigmoid")
    import_model(empty, "m", path, Declared(output_kind=declared, classes=("no", "yes")))
    found = np.exp(load_model(empty.draft("m")).posterior(np.array([[np.log(3.0), 0.0]])).log_probs)
    np.testing.assert_allclose(found, [[0.25, 0.75]], atol=1e-6)


def test_what_a_run_shows_to_be_probabilities_needs_no_operator(graph_of: Write, empty: Repository) -> None:
    nodes = [helper.make_node("Softmax", ["x"], ["p"]), helper.make_node("Clip", ["p"], ["s"])]
    import_model(empty, "m", graph_of(nodes, "s"), Declared())
    assert "16 synthetic rows lie in [0, 1] and sum to 1" in manifest_text(empty)


def test_probabilities_that_are_none_are_refused_even_where_declared(linear_graph: Write, empty: Repository) -> None:
    with pytest.raises(GraphError, match="--output-kind probabilities: 'scores' has other values"):
        import_model(empty, "m", linear_graph(*IDENTITY), Declared(output_kind="probabilities"))


def test_an_operator_that_a_run_contradicts_is_refused(graph_of: Write, empty: Repository) -> None:
    two = helper.make_tensor("t", TensorProto.FLOAT, [1], [2.0])
    twice = helper.make_node("Constant", [], ["two"], value=two)
    nodes = [helper.make_node("Softmax", ["x"], ["p"]), twice, helper.make_node("Mul", ["p", "two"], ["s"])]
    with pytest.raises(GraphError, match=r"should be probabilities .*, but is not"):
        import_model(empty, "m", graph_of(nodes, "s"), Declared())


def test_a_softmax_over_the_rows_is_refused_by_its_name(graph_of: Write, empty: Repository) -> None:
    path = graph_of([helper.make_node("Softmax", ["x"], ["s"], axis=0)], "s")
    with pytest.raises(GraphError, match="depends on the rows beside it: Softmax works across the row axis"):
        import_model(empty, "m", path, Declared())


def test_a_graph_that_answers_differently_each_time_is_refused(graph_of: Write, empty: Repository) -> None:
    nodes = [helper.make_node("RandomNormalLike", ["x"], ["r"]), helper.make_node("Add", ["x", "r"], ["s"])]
    with pytest.raises(GraphError, match="differs between two runs"):
        import_model(empty, "m", graph_of(nodes, "s"), Declared())


def test_a_graph_whose_answers_are_not_finite_is_refused(graph_of: Write, empty: Repository) -> None:
    zero = numpy_helper.from_array(np.zeros(2, dtype=np.float32), "zero")
    path = graph_of([helper.make_node("Div", ["x", "zero"], ["s"])], "s", constants=(zero,))
    with pytest.raises(GraphError, match="is not finite on synthetic rows"):
        import_model(empty, "m", path, Declared(output_kind="logits"))


def test_a_graph_that_answers_for_all_rows_at_once_is_refused(graph_of: Write, empty: Repository) -> None:
    path = graph_of([helper.make_node("ReduceSum", ["x"], ["s"], keepdims=1)], "s")
    with pytest.raises(GraphError, match=r"has shape \[1, 1\] for 16 rows"):
        import_model(empty, "m", path, Declared(output_kind="logits"))


def test_a_fixed_batch_is_run_as_it_is(graph_of: Write, empty: Repository) -> None:
    path = graph_of([helper.make_node("Softmax", ["x"], ["s"])], "s", shape=(TensorProto.FLOAT, [4, 2]))
    (_, kind, *_) = import_model(empty, "m", path, Declared()).conclusions
    assert kind.value == "probabilities"


def test_an_unknown_width_is_refused_with_the_flag(graph_of: Write, empty: Repository) -> None:
    path = graph_of([helper.make_node("Softmax", ["x"], ["s"])], "s", shape=(TensorProto.FLOAT, [None, None]))
    with pytest.raises(GraphError, match="--features a,b"):
        import_model(empty, "m", path, Declared())
    import_model(empty, "m", path, Declared(features=("age", "pulse", "weight")))
    assert parse_manifest(manifest_text(empty)).columns == ("age", "pulse", "weight")


@pytest.mark.parametrize("features", [("a",), ("a", "b", "c")])
def test_features_are_counted(features: tuple[str, ...], linear_graph: Write, empty: Repository) -> None:
    with pytest.raises(GraphError, match=f"--features names {len(features)} columns; the graph takes 2"):
        import_model(empty, "m", linear_graph(*IDENTITY), Declared(features=features))


@pytest.mark.parametrize("classes", [("a",), ("a", "b", "c")])
def test_classes_are_counted(classes: tuple[str, ...], linear_graph: Write, empty: Repository) -> None:
    with pytest.raises(GraphError, match=f"--classes names {len(classes)} classes; the output has 2"):
        import_model(empty, "m", linear_graph(*IDENTITY), Declared(classes=classes))


def test_a_class_named_twice_is_refused(linear_graph: Write, empty: Repository) -> None:
    with pytest.raises(ManifestInvalid, match="'a' is named twice"):
        import_model(empty, "m", linear_graph(*IDENTITY), Declared(classes=("a", "a")))


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """A graph that calls its classes `fine` and `sick`, in this order."""
    node = helper.make_node(
        "LinearClassifier",
        ["x"],
        ["label", "p"],
        domain="ai.onnx.ml",
        classlabels_strings=["fine", "sick"],
        coefficients=[-1.0, 0.0, 1.0, 0.0],
        intercepts=[0.0, 0.0],
        post_transform="SOFTMAX",
    )
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", *FLOATS)],
        [
            helper.make_tensor_value_info("label", TensorProto.STRING, [None]),
            helper.make_tensor_value_info("p", *FLOATS),
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "labelled.onnx")
    return tmp_path / "labelled.onnx"


def test_classes_in_another_order_than_the_graph_s_are_refused(labelled: Path, empty: Repository) -> None:
    with pytest.raises(ManifestInvalid, match="in another order: fine, sick"):
        import_model(empty, "m", labelled, Declared(classes=("sick", "fine")))


def test_classes_under_other_names_are_the_user_s_to_give(labelled: Path, empty: Repository) -> None:
    import_model(empty, "m", labelled, Declared(classes=("gesund", "krank")))
    assert parse_manifest(manifest_text(empty)).graph.classes == ("gesund", "krank")


def test_classes_turned_round_in_the_draft_are_refused_at_publication(labelled: Path, empty: Repository) -> None:
    draft = import_model(empty, "m", labelled, Declared()).draft
    text = manifest_text(empty)
    (draft / MANIFEST_FILE).write_text(text.replace('["fine", "sick"]', '["sick", "fine"]'))
    with pytest.raises(ManifestInvalid, match="in another order"):
        publish_draft(empty, "m")
    assert empty.versions("m") == []


def external(folder: Path, location: str) -> Path:
    folder.mkdir()
    weights = numpy_helper.from_array(np.eye(2, dtype=np.float32), "w")
    (folder / "weights.bin").write_bytes(weights.raw_data)
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    entry = weights.external_data.add()
    entry.key, entry.value = "location", location
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["s"])],
        "g",
        [helper.make_tensor_value_info("x", *FLOATS)],
        [helper.make_tensor_value_info("s", *FLOATS)],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    return folder / "m.onnx"


def test_external_weights_travel_with_their_graph(empty: Repository, tmp_path: Path) -> None:
    import_model(empty, "m", external(tmp_path / "source", "weights.bin"), Declared())
    version = publish_draft(empty, "m").version
    bundle = empty.bundle("m", version)
    assert (bundle.path / "weights.bin").read_bytes() == (tmp_path / "source" / "weights.bin").read_bytes()
    assert load_model(bundle).posterior(np.array([[0.0, np.log(3.0)]])).logits.tolist() == [
        [0.0, pytest.approx(1.0986123)]
    ]
    (bundle.path / "weights.bin").write_bytes(b"\x00" * 16)
    with pytest.raises(BundleDamaged, match=r"weights\.bin does not match"):
        empty.bundle("m", version)


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/hostname"])
def test_external_weights_outside_the_folder_are_refused(location: str, empty: Repository, tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="no regular file"):
        import_model(empty, "m", external(tmp_path / "source", location), Declared())
    assert not empty.root.exists()


def test_a_graph_and_weights_behind_symbolic_links_are_followed(empty: Repository, tmp_path: Path) -> None:
    """Hub caches keep files under their hashes, and links to them in another folder."""
    graph, snapshot = external(tmp_path / "blobs", "weights.bin"), tmp_path / "snapshot"
    snapshot.mkdir()
    for link, target in (("model.onnx", graph), ("weights.bin", graph.parent / "weights.bin")):
        blob = target.rename(target.with_name(f"{link}-hash"))
        (snapshot / link).symlink_to(blob)
    import_model(empty, "m", snapshot / "model.onnx", Declared())
    bundle = empty.bundle("m", publish_draft(empty, "m").version)
    assert not any(file.is_symlink() for file in bundle.path.iterdir())
    assert load_model(bundle).posterior(np.array([[0.0, np.log(3.0)]])).logits.tolist() == [
        [0.0, pytest.approx(1.0986123)]
    ]


@pytest.mark.parametrize("target", ["nowhere", ".", "/dev/zero"])
def test_a_link_to_no_regular_file_is_refused(target: str, empty: Repository, tmp_path: Path) -> None:
    graph = external(tmp_path / "source", "weights.bin")
    (graph.parent / "weights.bin").unlink()
    (graph.parent / "weights.bin").symlink_to(target)
    with pytest.raises(GraphError, match="no regular file"):
        import_model(empty, "m", graph, Declared())


def test_an_import_never_overwrites_a_draft_without_force(linear_graph: Write, empty: Repository) -> None:
    path = linear_graph(*IDENTITY)
    draft = import_model(empty, "m", path, Declared()).draft
    (draft / MANIFEST_FILE).write_text("my edits")
    with pytest.raises(DraftExists, match="--force"):
        import_model(empty, "m", path, Declared())
    assert (draft / MANIFEST_FILE).read_text() == "my edits"
    import_model(empty, "m", path, Declared(), force=True)
    assert parse_manifest(manifest_text(empty))


def test_an_import_that_fails_leaves_nothing_behind(graph_of: Write, empty: Repository) -> None:
    path = graph_of([helper.make_node("Sin", ["x"], ["s"])], "s")
    with pytest.raises(ServiceError, match="--output-kind"):
        import_model(empty, "m", path, Declared())
    assert not empty.root.exists()

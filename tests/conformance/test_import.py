"""Every real export is understood without code: what it holds, from what evidence, and that its numbers bear it out."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from service.bundle.repository import Repository
from service.errors import GraphError
from service.importer.analysis import Analysis, analyse
from service.importer.declared import Declared
from service.importer.import_model import import_model
from service.importer.input_plan import DTYPES, PlannedInput
from service.importer.manifest_text import manifest_text
from service.importer.sandbox import SandboxLimits
from tests.conformance.case import Case, softmax, two
from tests.conformance.exporters import EXPORTERS

SOFTMAX, SIGMOID, GEMM = "its last operator is Softmax", "its last operator is Sigmoid", "its last operator is Gemm"
NORMALIZER, SUMS = "its last operator is Normalizer", "16 synthetic rows lie in [0, 1] and sum to 1"
SOFTMAXED = "TreeEnsembleClassifier with post_transform SOFTMAX"
SQUASHED = "TreeEnsembleClassifier with post_transform LOGISTIC, and 16 synthetic rows sum to 1"
MARGINS = "LinearClassifier with post_transform NONE, and synthetic rows leave [0, 1]: raw margins"
PER_LABEL = "columns that do not sum to 1: one probability per label"

KINDS: dict[str, tuple[str, str]] = {
    "sklearn-zipmap": ("probabilities", NORMALIZER),
    "sklearn-zipmap-strings": ("probabilities", NORMALIZER),
    "sklearn-zipmap-binary": ("probabilities", "LinearClassifier with post_transform LOGISTIC, and 16 synthetic"),
    "sklearn-tensor": ("probabilities", NORMALIZER),
    "sklearn-columns": ("probabilities", NORMALIZER),
    "sklearn-columns-strings": ("probabilities", NORMALIZER),
    "sklearn-class-labels-output": ("probabilities", NORMALIZER),
    "sklearn-raw-scores": ("logits", MARGINS),
    "sklearn-raw-scores-binary": ("logits", MARGINS),
    "sklearn-linear-svc": ("logits", MARGINS),
    "sklearn-double": ("probabilities", SOFTMAX),
    "sklearn-forest": ("probabilities", SUMS),
    "sklearn-missing": ("probabilities", NORMALIZER),
    "sklearn-column-transformer": ("probabilities", NORMALIZER),
    "sklearn-text": ("probabilities", "LinearClassifier with post_transform LOGISTIC, and 16 synthetic rows sum to 1"),
    "sklearn-multi-output": ("sigmoid_probabilities", PER_LABEL),
    "sklearn-one-vs-rest": ("sigmoid_probabilities", PER_LABEL),
    "sklearn-mlp-multilabel": ("sigmoid_probabilities", PER_LABEL),
    "sklearn-forest-multilabel": ("sigmoid_probabilities", "pairs of absent and present that sum to 1"),
    "xgboost-binary": ("probabilities", SQUASHED),
    "xgboost-multiclass": ("probabilities", SOFTMAXED),
    "lightgbm-zipmap": ("probabilities", SOFTMAXED),
    "lightgbm-binary": ("probabilities", SQUASHED),
    "catboost-binary": ("probabilities", SQUASHED),
    "catboost-strings": ("probabilities", SOFTMAXED),
    "catboost-missing": ("probabilities", SOFTMAXED),
    "torch-static-batch": ("logits", GEMM),
    "torch-external-data": ("logits", GEMM),
    "torch-dynamic-batch": ("logits", GEMM),
    "torch-script": ("logits", GEMM),
    "torch-softmax": ("probabilities", SOFTMAX),
    "torch-log-softmax": ("log_probabilities", "its last operator is LogSoftmax"),
    "torch-one-logit": ("logits", GEMM),
    "torch-one-probability": ("probabilities", "one column is the probability of the second of two classes"),
    "torch-flat-probability": ("probabilities", "one column is the probability of the second of two classes"),
    "torch-multilabel": ("sigmoid_probabilities", SIGMOID),
    "torch-float16": ("logits", GEMM),
    "torch-heads": ("logits", GEMM),
    "torch-image": ("logits", "its last operator is Conv"),
    "torch-image-bytes": ("logits", "its last operator is Conv"),
    "torch-segmentation": ("logits", "its last operator is Conv"),
    "torch-tokens": ("logits", GEMM),
    "torch-tagger": ("logits", "its last operator is MatMul"),
    "torch-int8": ("probabilities", SOFTMAX),
    "no-shapes": ("probabilities", SOFTMAX),
    "old-opset": ("probabilities", SOFTMAX),
    "keras-softmax": ("probabilities", SOFTMAX),
    "keras-sigmoid": ("probabilities", SIGMOID),
}
OUTPUTS = {
    "sklearn-raw-scores-binary": "the second column is the second class' logit",
    "sklearn-forest-multilabel": "[3, rows, 2]: the second column of every label, rows first",
    "torch-heads": "declared at import",
    "torch-image": "[16, 4, 1, 1]: axes of length 1 were dropped",
    "torch-segmentation": "[16, 4, 4, 5]: pixels as positions, row by row",
    "torch-tagger": "longer rows have more answers",
}

Exported = Callable[[str], Case]


def probabilities(kind: str, scores: Any) -> Any:
    """What an output of a declared kind says."""
    values = scores.astype(np.float64)
    if kind == "sigmoid_probabilities":
        return values
    if kind == "logits" and values.reshape(len(values), -1).shape[1] == 1:
        return two(1.0 / (1.0 + np.exp(-values)))
    if kind == "probabilities":
        return two(values) if values.reshape(len(values), -1).shape[1] == 1 else values
    return softmax(values)


def feed(filled: tuple[PlannedInput, ...], instance: Any) -> dict[str, Any]:
    """Arrays of one row, as the manifest says that it is to be filled."""
    cells = list(instance) if isinstance(instance, list) else []
    feeds = {}
    for f in filled:
        dtype = object if f.input.type == "STRING" else DTYPES[f.input.type]
        if f.features is not None:
            taken, cells = cells[: len(f.features)], cells[len(f.features) :]
            value: Any = [np.nan if cell is None else cell for cell in taken]
        elif f.mask:
            value = [1] * len(next(iter(instance.values())))
        else:
            value = instance[f.input.name] if isinstance(instance, dict) else instance
        feeds[f.input.name] = np.array([value], dtype=dtype)
    return feeds


def answer(found: Analysis, case: Case) -> list[Any]:
    """Probabilities of every row, alone, by the graph that the manifest speaks of."""
    graph = case.path.with_suffix(".draft.onnx")
    graph.write_bytes(case.path.read_bytes() if found.graph is None else found.graph)
    session = ort.InferenceSession(graph)
    concluded = {c.subject: str(c.value) for c in found.conclusions}
    rows = [session.run([concluded["output"]], feed(found.inputs, row))[0] for row in case.instances]
    return [probabilities(concluded["output_kind"], scores)[0] for scores in rows]


@pytest.mark.parametrize("name", EXPORTERS)
def test_a_real_export_is_understood_and_its_numbers_bear_it_out(name: str, exported: Exported) -> None:
    case = exported(name)
    found = analyse(case.path, Declared(**case.flags), SandboxLimits())
    concluded = {c.subject: c for c in found.conclusions}
    kind, evidence = KINDS[name]
    assert (concluded["output_kind"].value, concluded["task"].value) == (kind, case.task)
    assert evidence in concluded["output_kind"].evidence
    assert OUTPUTS.get(name, "the only floating-point tensor") in concluded["output"].evidence
    assert concluded["classes"].value == case.classes
    for row, answered in enumerate(answer(found, case)):
        expected = case.expected[row]
        expected = expected[~np.isnan(expected)].reshape(answered.shape)
        np.testing.assert_allclose(answered, expected, atol=case.tolerance, err_msg=f"row {row}")


INPUTS = {
    "sklearn-tensor": [{"name": "X", "features": ["x0", "x1", "x2", "x3"]}],
    "sklearn-column-transformer": [{"name": "age"}, {"name": "lactate"}, {"name": "ward"}],
    "sklearn-text": [{"name": "text"}],
    "torch-image-bytes": [{"name": "pixels"}],
    "torch-tagger": [{"name": "input_ids", "pad": 0}, {"name": "attention_mask", "mask": True}],
    "no-shapes": [{"name": "x", "features": ["a", "b", "c", "d"]}],
}


@pytest.mark.parametrize("name", INPUTS)
def test_the_manifest_says_what_fills_every_input(name: str, exported: Exported) -> None:
    case = exported(name)
    manifest = tomllib.loads(manifest_text(name, analyse(case.path, Declared(**case.flags), SandboxLimits())))
    assert [{k: v for k, v in entry.items() if k != "allowed"} for entry in manifest["inputs"]] == INPUTS[name]
    assert ("allowed" in manifest["inputs"][0]) == (name == "torch-tagger")  # ids of a vocabulary


def test_missing_values_are_let_in_where_the_graph_takes_them(exported: Exported) -> None:
    case = exported("catboost-missing")
    text = manifest_text("m", analyse(case.path, Declared(missing="nan"), SandboxLimits()))
    assert tomllib.loads(text)["features"] == {f"x{i}": {"missing": "nan"} for i in range(4)}


def test_missing_values_are_refused_where_the_graph_answers_nothing(exported: Exported) -> None:
    with pytest.raises(GraphError, match="--missing nan: with a value missing in input 'X' the output is not finite"):
        analyse(exported("sklearn-tensor").path, Declared(missing="nan"), SandboxLimits())


def test_categories_that_the_graph_fails_without_are_written_down(exported: Exported) -> None:
    case = exported("sklearn-column-transformer")
    manifest = tomllib.loads(manifest_text("m", analyse(case.path, Declared(), SandboxLimits())))
    assert manifest["features"]["ward"] == {"categories": ["er", "icu", "ward"]}
    assert all(manifest["features"][name]["plausible"] for name in ("age", "lactate"))  # of the scaler


@pytest.mark.parametrize("flags", [{"expose_logits": True}, {"expose_features": "auto"}, {}])
def test_a_draft_holds_the_graph_and_its_weights_and_is_all_that_import_leaves(
    flags: dict[str, Any], exported: Exported, tmp_path: Path
) -> None:
    case = exported("torch-softmax" if flags.get("expose_logits") else "torch-external-data")
    draft = import_model(Repository(tmp_path / "models"), "m", case.path, Declared(**flags)).draft
    weights = [] if flags.get("expose_logits") else [f"{case.path.name}.data"]
    assert sorted(path.name for path in draft.iterdir()) == sorted(["manifest.toml", "model.onnx", *weights])
    output = tomllib.loads((draft / "manifest.toml").read_text())["graph"]["output"]
    session = ort.InferenceSession(draft / "model.onnx")
    rows = np.array(case.instances[:1], dtype=np.float32)
    (scores,) = session.run([output], {session.get_inputs()[0].name: rows})
    np.testing.assert_allclose(softmax(scores), case.expected[:1], atol=case.tolerance)
    assert list(Path(draft).parent.iterdir()) == [draft]


def test_the_guide_shows_every_export() -> None:
    guide = Path(__file__).parents[2].joinpath("docs/guide/own-models.md").read_text(encoding="utf-8")
    assert [name for name in EXPORTERS if f"`{name}`" not in guide] == []

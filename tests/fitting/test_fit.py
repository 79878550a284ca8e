import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest

from service.bundle.repository import Repository
from service.errors import BundleError, BundleNotFound, FitError, ManifestInvalid, NoSignal
from service.fitting.fit import FitRequest, fit
from service.runtime.model import load_model
from tests.fitting.fitted import BOTH, EVEN, Save, Toy, Truth, fitted, temperature


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_labels_without_signal_publish_nothing_and_leave_the_draft(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(400)
    repository = toy()
    before = tree(repository.root)
    with pytest.raises(NoSignal, match="Nothing was published"):
        fitted(repository, save(X=x, y=1 - y))
    assert tree(repository.root) == before


def test_separable_rows_are_published_and_say_so(toy: Toy, truth: Truth, save: Save) -> None:
    x, _ = truth(200)
    repository = toy()
    result = fitted(repository, save(X=x, y=x.argmax(axis=1)))
    assert result.record.status == "separable"
    assert any("these rows are separable" in text for text in result.record.provenance.warnings)
    assert result.record.support == 1.0 / 201.0
    assert 0.0 < temperature(result.record) < 1.0
    assert load_model(repository.bundle("toy", result.version)).status == "separable"


@pytest.mark.parametrize(
    ("tail", "rows", "needed"),
    [
        ("", 18, 19),
        ("[ood]\nfalse_alarm = 0.01\n", 98, 99),
        (f'{BOTH}gate = ["nll"]\n', 36, 19),
        (BOTH, 76, 39),
    ],
)
def test_a_false_alarm_rate_that_the_rows_cannot_support_publishes_nothing(
    *, tail: str, rows: int, needed: int, toy: Toy, truth: Truth, save: Save
) -> None:
    x, y = truth(rows + 1)
    repository = toy(2, tail)
    before = tree(repository.root)
    with pytest.raises(FitError, match=f"needs at least {needed} rows, there are .*Nothing was published"):
        fitted(repository, save(X=x[:-1], y=y[:-1]))
    assert tree(repository.root) == before
    assert fitted(repository, save(X=x, y=y)).version == 1


@pytest.mark.parametrize("group", [None, [7, 7, 7, 7, 7]])
def test_a_single_unit_cannot_be_fitted(group: list[int] | None, toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(5)
    repository = toy()
    data = save(X=x[:1], y=[0]) if group is None else save(X=x, y=y, group=group)
    with pytest.raises(FitError, match="at least two"):
        fitted(repository, data)
    assert repository.versions("toy") == []


def test_a_class_whose_rows_all_weigh_nothing_is_refused(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(200)
    with pytest.raises(FitError, match="'bob' has rows, but none with a weight"):
        fitted(toy(2, EVEN), save(X=x, y=y, weight=(y == 0) * 1.0))


def test_a_model_without_a_draft_cannot_be_fitted(repository: Repository, save: Save) -> None:
    with pytest.raises(BundleNotFound, match="has no draft"):
        fit(repository, "breast-cancer", FitRequest(save(X=np.zeros((2, 30)), y=[0, 1])))


def test_a_draft_with_a_stray_file_is_not_fitted(toy: Toy, truth: Truth, save: Save) -> None:
    repository = toy()
    (repository.root / "toy" / "draft" / ".manifest.toml.swp").touch()
    x, y = truth(200)
    with pytest.raises(BundleError, match="is no part of a bundle"):
        fitted(repository, save(X=x, y=y))


def test_classes_in_another_order_than_the_graph_s_are_not_fitted(
    toy: Toy, truth: Truth, save: Save, tmp_path: Path
) -> None:
    import onnx

    node = onnx.helper.make_node(
        "LinearClassifier",
        ["x"],
        ["label", "scores"],
        domain="ai.onnx.ml",
        classlabels_strings=["bob", "ann"],
        coefficients=[1.0, 0.0, 0.0, 1.0],
        intercepts=[0.0, 0.0],
    )
    floats = (onnx.TensorProto.FLOAT, [None, 2])
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [onnx.helper.make_tensor_value_info("x", *floats)],
        [onnx.helper.make_tensor_value_info("scores", *floats)],
    )
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("ai.onnx.ml", 3)]
    repository = toy()
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "turned.onnx")
    shutil.copy(tmp_path / "turned.onnx", repository.root / "toy" / "draft" / "model.onnx")
    x, y = truth(200)
    with pytest.raises(ManifestInvalid, match="in another order: bob, ann"):
        fitted(repository, save(X=x, y=y))


def test_a_new_false_alarm_rate_is_written_into_the_manifest_and_the_thresholds(
    toy: Toy, truth: Truth, save: Save
) -> None:
    x, y = truth(400)
    repository = toy(2, "[ood] # how strict\nfalse_alarm = 0.05 # once\n")
    result = fitted(repository, save(X=x, y=y), false_alarm=0.2)
    bundle = repository.bundle("toy", result.version)
    assert bundle.manifest.ood.false_alarm == 0.2
    assert result.record.scores["nll"].false_alarm == 0.2
    assert "[ood] # how strict" in (bundle.path / "manifest.toml").read_text()
    assert load_model(bundle).status == "ok"
    assert (load_model(bundle).posterior(x).scores[:, 0] > result.record.scores["nll"].threshold).sum() == 79


def test_a_new_false_alarm_rate_finds_its_place_in_a_manifest_without_one(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(400)
    repository = toy()
    version = fitted(repository, save(X=x, y=y), false_alarm=0.2).version
    text = (repository.bundle("toy", version).path / "manifest.toml").read_text()
    assert tomllib.loads(text)["ood"] == {"false_alarm": 0.2}


def test_a_fit_that_fails_does_not_edit_the_manifest(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(50)
    repository = toy()
    before = tree(repository.root)
    with pytest.raises(FitError):
        fitted(repository, save(X=x, y=y), false_alarm=0.01)
    assert tree(repository.root) == before


def test_two_fits_of_the_same_rows_give_the_same_digest(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(300)
    data = save(X=x, y=y)
    digests = []
    for _ in range(2):
        repository = toy(2, BOTH)
        digests.append(repository.bundle("toy", fitted(repository, data, seed=4).version).digest)
    assert digests[0] == digests[1]


def test_another_seed_takes_other_halves_and_folds(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(300)
    data = save(X=x, y=y)
    one, two = (fitted(toy(2, BOTH), data, seed=seed).record for seed in (0, 1))
    assert temperature(one) == temperature(two)
    assert one.provenance.after_out_of_fold["log_loss"] != two.provenance.after_out_of_fold["log_loss"]
    assert one.scores["mahalanobis"].threshold != two.scores["mahalanobis"].threshold

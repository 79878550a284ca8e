"""The command on labels and on sequences."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from service.cli.main import command
from service.errors import DataError, FitError, ServiceError
from service.fitting.cost_warnings import never_taken
from service.fitting.fit import FitRequest, fit
from service.fitting.publish import publish_draft

Make = Callable[..., Any]


@pytest.fixture
def drawn(
    label_workshop: Make, sequence_workshop: Make, labels_drawn: Make, sequences_drawn: Make
) -> Callable[[str], Any]:
    """A workshop of a task with `cal.npz` in it."""

    def make(task: str) -> Any:
        if task == "multilabel":
            workshop = label_workshop()
            x, y, _ = labels_drawn(400, 0)
        else:
            workshop = sequence_workshop()
            x, y = sequences_drawn(60, 0)
        workshop.rows("cal", X=x, y=y)
        return workshop

    return make


def run(workshop: Any, verb: str, *more: object) -> Result:
    arguments = [verb, workshop.name, "--models", str(workshop.repository.root), *map(str, more)]
    return CliRunner().invoke(command, arguments)


PRINTED = {
    "multilabel": ("whole set right", "policy care, label burn", "multilabel_cross_entropy"),
    "sequence": ("smoother: hmm", "along the cheapest path", "sequence_cross_entropy"),
}


@pytest.mark.parametrize("task", PRINTED)
def test_fit_and_evaluate_say_what_there_is_to_say(task: str, drawn: Callable[[str], Any], tmp_path: Path) -> None:
    workshop = drawn(task)
    data = workshop.folder / "cal.npz"
    fitted = run(workshop, "fit", "--data", data)
    assert fitted.exit_code == 0, fitted.output
    assert "per_label" in fitted.output or "temperature" in fitted.output
    done = run(workshop, "evaluate", "--data", data, "--losses", PRINTED[task][2], "--json", tmp_path / "found.json")
    assert done.exit_code == 0, done.output
    for fragment in PRINTED[task]:
        assert fragment in done.output
    found = json.loads((tmp_path / "found.json").read_text())
    assert set(found) == {"model", "version", "digest", "calibration", "origin", "evaluation"}
    assert set(found["evaluation"]["losses"]) == {PRINTED[task][2]}


@pytest.mark.parametrize("task", PRINTED)
def test_an_evaluation_is_also_a_page(task: str, drawn: Callable[[str], Any], tmp_path: Path) -> None:
    workshop, page = drawn(task), tmp_path / "page.html"
    data = workshop.folder / "cal.npz"
    run(workshop, "fit", "--data", data)
    done = run(workshop, "evaluate", "--data", data, "--html", page)
    assert done.exit_code == 0, done.output
    text = page.read_text()
    assert {"multilabel": "Label burn: ", "sequence": "Structure of the sequences"}[task] in text
    assert "Are probabilities the observed frequencies?" in text


@pytest.mark.parametrize("task", PRINTED)
@pytest.mark.parametrize(
    ("verb", "more", "fragment"),
    [
        ("evaluate", ("--horizon", 10), "--horizon looks ahead from rows of one class"),
        ("evaluate", ("--losses", "hinge"), "is none of"),
    ],
)
def test_what_is_of_single_classes_alone_is_refused_in_one_sentence(
    task: str, verb: str, more: tuple[object, ...], fragment: str, drawn: Callable[[str], Any]
) -> None:
    workshop = drawn(task)
    data = workshop.folder / "cal.npz"
    assert run(workshop, "fit", "--data", data).exit_code == 0
    refused = run(workshop, verb, "--data", data, *more)
    assert isinstance(refused.exception, ServiceError)
    assert fragment in str(refused.exception)
    assert "\n" not in str(refused.exception)


@pytest.mark.parametrize("task", PRINTED)
def test_ood_data_chooses_no_score_for_them(task: str, drawn: Callable[[str], Any]) -> None:
    workshop = drawn(task)
    data = workshop.folder / "cal.npz"
    with pytest.raises(FitError, match="--ood-data compares scores of one class"):
        fit(workshop.repository, workshop.name, FitRequest(data, ood_data=data))


@pytest.mark.parametrize("task", PRINTED)
def test_a_new_price_needs_no_new_rows(task: str, drawn: Callable[[str], Any]) -> None:
    workshop = drawn(task)
    first = run(workshop, "fit", "--data", workshop.folder / "cal.npz")
    assert first.exit_code == 0
    assert run(workshop, "draft").exit_code == 0
    manifest = workshop.repository.draft(workshop.name).path / "manifest.toml"
    manifest.write_text(manifest.read_text().replace("= 9 }", "= 8 }").replace("= 4 }", "= 3 }"))
    assert publish_draft(workshop.repository, workshop.name).why_uncalibrated is None


def test_an_action_that_is_never_worth_taking_is_named_with_its_label(label_workshop: Make) -> None:
    more = "[policies.p.labels.burn.costs]\na = { absent = 0, present = 1 }\nb = { absent = 1, present = 1 }\n"
    (sentence,) = never_taken(label_workshop(more=more).repository.draft("complaints").manifest)
    assert sentence.startswith("policy 'p', label 'burn': action 'b' is never taken")


def test_a_real_export_of_one_sigmoid_a_label_is_calibrated_and_answers(tmp_path: Path) -> None:
    from skl2onnx import to_onnx
    from sklearn.datasets import make_multilabel_classification
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    from service.bundle.repository import Repository
    from service.bundle.writer import create_draft
    from service.prediction.bulk import posterior_of
    from service.runtime.model import load_model

    x, y = make_multilabel_classification(1500, n_features=8, n_classes=3, random_state=0)
    x = x.astype(np.float32)
    trained = OneVsRestClassifier(LogisticRegression(max_iter=1000)).fit(x[:500], y[:500])
    graph = tmp_path / "model.onnx"
    graph.write_bytes(to_onnx(trained, x[:1], options={"zipmap": False}).SerializeToString())
    text = (
        'schema = 1\ntitle = "t"\n[graph]\noutput = "probabilities"\noutput_kind = "sigmoid_probabilities"\n'
        'task = "multilabel"\nclasses = ["a", "b", "c"]\n[[inputs]]\nname = "X"\n'
        f"features = {json.dumps([f'f{i}' for i in range(8)])}\n"
    )
    repository = Repository(tmp_path / "models")
    repository.root.mkdir()
    create_draft(repository, "real", {"model.onnx": graph, "manifest.toml": text})
    np.savez(tmp_path / "cal.npz", X=x[500:], y=y[500:])
    result = fit(repository, "real", FitRequest(tmp_path / "cal.npz"))
    model = load_model(repository.bundle("real", result.version))
    rows = x[500:].astype(np.float64)
    theirs = trained.predict_proba(x[500:])
    ours = 1.0 / (1.0 + np.exp(-model.raw(rows).logits))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
    shares = np.exp(posterior_of(model, rows).log_probs[..., 1])
    np.testing.assert_allclose(shares.mean(axis=0), y[500:].mean(axis=0), rtol=0, atol=0.01)


def test_scoring_sequences_is_refused_before_anything_is_written(drawn: Callable[[str], Any], tmp_path: Path) -> None:
    from service.runtime.model import load_model
    from service.scoring.score import score
    from service.scoring.score_request import ScoreRequest

    workshop = drawn("sequence")
    model = load_model(workshop.repository.draft("motion"))
    with pytest.raises(DataError, match="score writes one line per row"):
        score(model, ScoreRequest(workshop.folder / "cal.npz", tmp_path / "out.csv"))
    assert not list(tmp_path.glob("out*"))

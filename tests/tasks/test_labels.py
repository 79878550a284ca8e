"""Labels from manifest to evaluation, against a truth that is known."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import expit

from service.bundle.manifest import parse_manifest
from service.core.assessment.metrics import log_loss
from service.core.numerics import Array
from service.data.dataset import Dataset, read_dataset
from service.errors import DataError, FitError, ManifestInvalid, NoSignal
from service.evaluation.classification_problem import LabelledAnswer
from service.evaluation.evaluate import answer_of, evaluate
from service.evaluation.report import EvaluationReport
from service.fitting.fit import FitResult
from service.fitting.labelled_outputs import LabelledOutputs
from service.fitting.multilabel import calibrate_labels
from service.prediction.bulk import posterior_of
from service.runtime.model import Model, Raw, load_model

LABELS = ("ache", "burn", "chill")
Make = Callable[..., Any]
Draw = Callable[..., Any]


def served(workshop: Any, result: FitResult) -> Model:
    return load_model(workshop.repository.bundle(workshop.name, result.version))


def presence(model: Model, x: Array) -> Array:
    return np.exp(posterior_of(model, x.astype(np.float64)).log_probs[..., 1])


@pytest.mark.parametrize("kind", ["sigmoid_logits", "sigmoid_probabilities"])
def test_every_label_gets_its_own_truth_back(label_workshop: Make, labels_drawn: Draw, kind: str) -> None:
    workshop = label_workshop(sharpness=2.0, shift=0.7, kind=kind)
    x, y, _ = labels_drawn(8000, 0)
    result = workshop.fit(workshop.rows("cal", X=x, y=y))
    fresh, _, truth = labels_drawn(2000, 1)
    assert np.abs(presence(served(workshop, result), fresh) - truth).mean() < 0.012
    assert [label.chain for label in result.record.labels.values()] == [("platt",)] * 3


def test_after_calibration_means_agree_with_frequencies_within_four_standard_errors(
    label_workshop: Make, labels_drawn: Draw
) -> None:
    workshop = label_workshop(sharpness=3.0, shift=-1.0)
    x, y, _ = labels_drawn(8000, 0)
    model = served(workshop, workshop.fit(workshop.rows("cal", X=x, y=y)))
    fresh, labels, truth = labels_drawn(8000, 1)
    gap = np.abs((presence(model, fresh) - labels).mean(axis=0))
    assert (gap < 4.0 * np.sqrt((truth * (1 - truth)).mean(axis=0) / 8000)).all()


def reported(model: Any, rows: Any, losses: tuple[str, ...] = ()) -> EvaluationReport:
    return evaluate(LabelledAnswer(answer_of(model, posterior_of(model, rows.rows)), rows.labels), losses=losses).report


def test_the_product_of_labels_is_reported_to_be_wrong(label_workshop: Make, labels_drawn: Draw) -> None:
    workshop = label_workshop()
    x, y, _ = labels_drawn(4000, 0)
    data = workshop.rows("cal", X=x, y=y)
    model = served(workshop, workshop.fit(data))
    rows = read_dataset(data, model.manifest)
    found = reported(model, rows).as_json()["structure"]["exact_match"]
    assert found["product_is_wrong"]
    assert found["low"] <= found["observed"] <= found["high"] + 0.02


def test_the_report_is_that_of_each_label_as_two_classes(label_workshop: Make, labels_drawn: Draw) -> None:
    workshop = label_workshop()
    x, y, _ = labels_drawn(3000, 0)
    data = workshop.rows("cal", X=x, y=y)
    model = served(workshop, workshop.fit(data))
    rows = read_dataset(data, model.manifest)
    posterior = posterior_of(model, rows.rows)
    found = reported(model, rows, losses=("multilabel_cross_entropy",))
    own = {name: log_loss(posterior.log_probs[:, m], y[:, m]) for m, name in enumerate(LABELS)}
    assert {name: found.parts[name].probabilities.metrics["log_loss"] for name in LABELS} == pytest.approx(own)
    assert found.metrics["log_loss"] == pytest.approx(np.mean(list(own.values())))
    assert found.losses == {"multilabel_cross_entropy": pytest.approx(sum(own.values()))}
    assert {name: found.parts[name].class_counts["present"] for name in LABELS} == dict(
        zip(LABELS, y.sum(axis=0).tolist(), strict=True)
    )


def test_expected_and_realised_costs_are_of_each_label_and_agree(label_workshop: Make, labels_drawn: Draw) -> None:
    workshop = label_workshop()
    x, y, _ = labels_drawn(8000, 0)
    model = served(workshop, workshop.fit(workshop.rows("cal", X=x, y=y)))
    fresh, labels, _ = labels_drawn(8000, 1)
    rows = read_dataset(workshop.rows("test", X=fresh, y=labels), model.manifest)
    found = reported(model, rows).parts
    for label in ("ache", "burn"):
        policy = found[label].policies["care"]
        assert policy.realised_cost == pytest.approx(policy.expected_cost, abs=0.04)
    burn = found["burn"].policies["care"]
    assert burn.realised_cost < burn.constant_cost
    assert (burn.overruled, found["ache"].policies["care"].overruled > 0) == (0, True)  # burn has no such action
    assert "care" not in found["chill"].policies


def test_flags_keep_their_rate_and_see_out_of_distribution_inputs(label_workshop: Make, labels_drawn: Draw) -> None:
    more = '[ood]\nscores = ["joint_energy", "max_label", "mahalanobis"]\ngate = ["mahalanobis"]\nfalse_alarm = 0.05\n'
    workshop = label_workshop(more=more)
    x, y, _ = labels_drawn(2000, 0)
    model = served(workshop, workshop.fit(workshop.rows("cal", X=x, y=y)))
    fresh, _, _ = labels_drawn(4000, 1)
    here = posterior_of(model, fresh.astype(np.float64))
    assert here.flagged is not None
    assert here.flags is not None
    assert float(here.flagged.mean()) == pytest.approx(0.05, abs=0.02)
    assert here.flags.mean(axis=0) == pytest.approx([0.05, 0.05, 0.05], abs=0.02)
    away = posterior_of(model, np.full((10, 1), 30.0))
    assert away.flagged is not None
    assert away.flagged.all()


@pytest.mark.parametrize(
    ("training", "steps"),
    [
        (
            'loss = "weighted"\nclass_weights = { ache = 20.0, burn = 20.0, chill = 20.0 }\n',
            "inverse of multilabel_cross_entropy",
        ),
        ('loss = "focal"\ngamma = 2.0\n', "inverse of sigmoid_focal"),
    ],
    ids=["weighted", "focal"],
)
def test_the_inverse_of_a_declared_loss_is_used_where_it_fits_the_rows(
    label_workshop: Make, labels_drawn: Draw, training: str, steps: str
) -> None:
    from service.core.inverse import PositiveWeight, SigmoidFocal

    workshop = label_workshop(sharpness=1.0, more=f"[training]\n{training}")
    x, _, _ = labels_drawn(8000, 0)
    model = load_model(workshop.repository.draft("complaints"))
    log_odds = model.raw(x.astype(np.float64)).logits
    inverse = PositiveWeight(20.0) if "weight" in training else SigmoidFocal(2.0)
    # Rows that look to this model as the loss would have made them: their truth is what the inverse says.
    seen = 1.0 / (1.0 + np.exp(-inverse.apply(log_odds)))
    labels = (np.random.default_rng(5).random(seen.shape) < seen).astype(np.intp)
    result = workshop.fit(workshop.rows("cal", X=x, y=labels), calibrator="auto")
    chains = [label.chain[0] for label in result.record.labels.values()]
    assert chains == [steps] * 3
    assert np.abs(presence(served(workshop, result), x) - seen).max() < 0.04


def test_a_label_takes_the_map_that_its_rows_afford(label_workshop: Make, labels_drawn: Draw) -> None:
    workshop = label_workshop(more="")
    x, y, _ = labels_drawn(300, 0)
    y[:, 1], y[:, 2] = 0, 0
    y[np.argsort(-x[:, 0])[:8], 2] = 1
    record = workshop.fit(workshop.rows("cal", X=x, y=y)).record
    assert {name: label.chain for name, label in record.labels.items()} == {
        "ache": ("platt",),
        "burn": ("identity",),
        "chill": ("platt",),
    }
    assert any("burn: of one state only" in warning for warning in record.provenance.warnings)
    assert record.source.prevalence is None


def test_auto_gives_isotonic_regression_a_chance_only_to_labels_with_many_rows(
    label_workshop: Make, labels_drawn: Draw
) -> None:
    workshop = label_workshop(more="")
    x, y, _ = labels_drawn(4000, 0)
    record = workshop.fit(workshop.rows("cal", X=x, y=y), calibrator="auto").record
    tried = {name: "isotonic" in label.candidates for name, label in record.labels.items()}
    assert tried == {"ache": True, "burn": True, "chill": False}
    assert all(label.chain != ("identity",) for label in record.labels.values())


def test_a_separable_label_is_mixed_and_its_neighbours_are_not(label_workshop: Make, labels_drawn: Draw) -> None:
    workshop = label_workshop(more="")
    x, y, _ = labels_drawn(400, 0)
    y[:, 1] = x[:, 0] < -0.6  # its logit falls with x
    result = workshop.fit(workshop.rows("cal", X=x, y=y, group=np.arange(400) // 2))
    model = load_model(workshop.repository.bundle("complaints", result.version))
    assert {name: label.status for name, label in result.record.labels.items()} == {
        "ache": "ok",
        "burn": "separable",
        "chill": "ok",
    }
    assert (result.record.status, model.calibration["support"]) == ("separable", 1.0 / 201.0)
    assert any("burn: these rows are separable" in warning for warning in result.record.provenance.warnings)
    far = presence(model, np.array([[40.0], [-40.0]]))
    np.testing.assert_allclose(np.minimum(far, 1.0 - far)[:, 1], 0.5 / 201.0, rtol=1e-6)
    assert np.minimum(far, 1.0 - far)[:, [0, 2]].min() < 1e-6


def test_labels_may_stand_in_columns_of_their_own(label_workshop: Make, labels_drawn: Draw) -> None:
    workshop = label_workshop()
    x, y, _ = labels_drawn(400, 0)
    path = workshop.folder / "cal.csv"
    lines = [",".join(map(str, (float(a), *row))) for a, row in zip(x[:, 0], y.tolist(), strict=True)]
    path.write_text("\n".join(["dose," + ",".join(LABELS), *lines]) + "\n")
    from_columns = workshop.fit(path).record
    assert from_columns.provenance.class_counts == dict(zip(LABELS, y.sum(axis=0).tolist(), strict=True))


def test_a_label_without_a_column_among_others_that_have_one_is_named(label_workshop: Make) -> None:
    workshop = label_workshop()
    path = workshop.folder / "cal.csv"
    path.write_text(f"dose,{LABELS[0]},{LABELS[2]}\n1.0,0,1\n")
    with pytest.raises(DataError, match=f"columns of some labels, and none of '{LABELS[1]}'"):
        workshop.fit(path)


def test_two_fits_of_the_same_rows_are_the_same_to_the_last_bit(label_workshop: Make, labels_drawn: Draw) -> None:
    x, y, _ = labels_drawn(500, 0)
    texts = []
    for _ in range(2):
        workshop = label_workshop()
        texts.append(workshop.fit(workshop.rows("cal", X=x, y=y), calibrator="auto").record.to_json())
    assert texts[0] == texts[1]


REFUSED_ROWS: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "labels in another order": (lambda y: 1 - y, NoSignal, "label 'ache': its logit is on average no larger"),
    "one column": (lambda y: y[:, 0], DataError, "every row has 3 zeros and ones"),
    "a label too few": (lambda y: y[:, :2], DataError, "labels are 400 by 2"),
    "a two": (lambda y: np.where(np.arange(len(y))[:, None] == 7, 2, y), DataError, "row 7 .* is neither 0 nor 1"),
    "rows too many": (lambda y: np.vstack([y, y]), DataError, "'X' has 400 and 'y' has 800"),
}


@pytest.mark.parametrize(("spoil", "error", "fragment"), REFUSED_ROWS.values(), ids=REFUSED_ROWS.keys())
def test_rows_that_do_not_fit_are_refused_in_one_sentence_and_nothing_is_published(
    spoil: Callable[[Any], Any], error: type[Exception], fragment: str, label_workshop: Make, labels_drawn: Draw
) -> None:
    workshop = label_workshop()
    x, y, _ = labels_drawn(400, 0)
    with pytest.raises(error, match=fragment) as refused:
        workshop.fit(workshop.rows("cal", X=x, y=spoil(y)))
    assert "\n" not in str(refused.value)
    assert workshop.repository.versions("complaints") == []


def test_a_calibrator_that_does_not_exist_is_refused(label_workshop: Make, labels_drawn: Draw) -> None:
    workshop = label_workshop()
    x, y, _ = labels_drawn(100, 0)
    with pytest.raises(FitError, match="--calibrator is one of auto, identity"):
        workshop.fit(workshop.rows("cal", X=x, y=y), calibrator="wizard")


def test_an_uncalibrated_version_says_what_the_model_says(label_workshop: Make, labels_drawn: Draw) -> None:
    workshop = label_workshop(sharpness=1.0)
    model = load_model(workshop.repository.draft("complaints"))
    x, _, truth = labels_drawn(50, 0)
    np.testing.assert_allclose(presence(model, x), truth, rtol=0, atol=1e-6)
    assert model.status == "uncalibrated"


def test_a_record_of_other_labels_is_refused(label_workshop: Make, labels_drawn: Draw) -> None:
    workshop = label_workshop()
    x, y, _ = labels_drawn(300, 0)
    result = workshop.fit(workshop.rows("cal", X=x, y=y))
    bundle = workshop.repository.bundle("complaints", result.version)
    turned = {name: bundle.record.labels[name] for name in reversed(LABELS)}
    from dataclasses import replace

    from service.errors import BundleDamaged

    with pytest.raises(BundleDamaged, match="labels are not the manifest's, in its order"):
        load_model(replace(bundle, record=bundle.record.model_copy(update={"labels": turned})))


HEAD = """\
schema = 1
title = "t"
[graph]
output = "s"
output_kind = "{kind}"
task = "{task}"
classes = ["a", "b"]
{graph}
[[inputs]]
name = "x"
{tail}
"""
COSTS = "[policies.p.costs]\nwait = { a = 0, b = 1 }\ngo = { a = 1, b = 0 }\n"
LABEL = "[policies.p.labels.a.costs]\nwait = { absent = 0, present = 1 }\ngo = { absent = 1, present = 0 }\n"
REFUSED_MANIFESTS = {
    "labels with a softmax": ("multilabel", "logits", "", "", "graph: output_kind 'logits' is of classes"),
    "a sequence of sigmoids": ("sequence", "sigmoid_logits", "", "", "graph: output_kind 'sigmoid_logits' belongs"),
    "classes along the rows": ("sequence", "logits", "class_axis = 0", "", "class_axis must be -1, or count from 1"),
    "labels along axis 2": ("multilabel", "sigmoid_logits", "class_axis = 2", "", "class_axis must be -1 or 1"),
    "costs of classes for labels": ("multilabel", "sigmoid_logits", "", COSTS, "policies.p.labels.LABEL.costs is mis"),
    "costs of labels for classes": ("multiclass", "logits", "", LABEL, "policies.p.costs is missing"),
    "costs of both": ("multilabel", "sigmoid_logits", "", COSTS + LABEL, "policies.p.costs: a multilabel model"),
    "a policy without costs": ("sequence", "logits", "", "[policies.p]\nswitch = 1.0\n", "policies.p.costs is missing"),
    "an unknown name among labels": (
        "multilabel",
        "sigmoid_logits",
        "",
        LABEL.replace("labels.a", "labels.z"),
        "policies.p.labels: 'z' is not one of a, b",
    ),
    "a state that is none": (
        "multilabel",
        "sigmoid_logits",
        "",
        LABEL.replace("absent = 0", "gone = 0"),
        "policies.p.labels.a.costs.wait: 'gone' is not one of absent, present",
    ),
    "a single action for a label": (
        "multilabel",
        "sigmoid_logits",
        "",
        "[policies.p.labels.a.costs]\nwait = { absent = 0, present = 1 }\n",
        "policies.p.labels.a.costs",
    ),
    "a switch between rows": ("multiclass", "logits", "", f"[policies.p]\nswitch = 1.0\n{COSTS}", "policies.p.switch"),
    "a negative switch": ("sequence", "logits", "", f"[policies.p]\nswitch = -1.0\n{COSTS}", "policies.p.switch"),
    "an on_ood that no label has": (
        "multilabel",
        "sigmoid_logits",
        "",
        f'[policies.p]\non_ood = "ask"\n{LABEL}',
        "on_ood: 'ask' is not one of flag, wait, go",
    ),
    "a softmax score of labels": ("multilabel", "sigmoid_logits", "", '[ood]\nscores = ["nll"]\n', "reads a softmax"),
    "a feature score of a sequence": (
        "sequence",
        "logits",
        "",
        '[ood]\nscores = ["mahalanobis"]\n',
        "a sequence has a class at every position",
    ),
    "a score that compares classes": (
        "multilabel",
        "sigmoid_logits",
        "",
        '[ood]\nscores = ["vim"]\n',
        "'vim' compares classes that exclude each other",
    ),
    "a loss of classes for labels": (
        "multilabel",
        "sigmoid_logits",
        "",
        '[training]\nloss = "label_smoothing"\nepsilon = 0.1\n',
        "training.loss: a multilabel model has one of cross_entropy, weighted, focal",
    ),
    "an alpha above one": (
        "multilabel",
        "sigmoid_logits",
        "",
        '[training]\nloss = "focal"\ngamma = 2.0\nalpha = { a = 0.5, b = 3.0 }\n',
        "training.alpha: a label's alpha lies between 0 and 1",
    ),
    "a share of one": (
        "multilabel",
        "sigmoid_logits",
        "",
        "[sites.ward]\nprevalence = { a = 1.0, b = 0.5 }\n",
        "sites.ward.prevalence: the share of 'a' must lie between 0 and 1",
    ),
    "a share for half the labels": (
        "multilabel",
        "sigmoid_logits",
        "",
        "[sites.ward]\nprevalence = { a = 0.5 }\n",
        "sites.ward.prevalence: class 'b' is missing",
    ),
}


@pytest.mark.parametrize(
    ("task", "kind", "graph", "tail", "fragment"), REFUSED_MANIFESTS.values(), ids=REFUSED_MANIFESTS.keys()
)
def test_a_manifest_that_does_not_fit_its_task_is_refused_in_one_line(
    task: str, kind: str, graph: str, tail: str, fragment: str
) -> None:
    with pytest.raises(ManifestInvalid) as refused:
        parse_manifest(HEAD.format(task=task, kind=kind, graph=graph, tail=tail))
    assert fragment in str(refused.value)
    assert "\n" not in str(refused.value)


def test_shares_of_labels_need_not_sum_to_one() -> None:
    tail = "[sites.ward]\nprevalence = { a = 0.9, b = 0.8 }\n"
    manifest = parse_manifest(HEAD.format(task="multilabel", kind="sigmoid_logits", graph="", tail=tail))
    assert manifest.sites["ward"].prevalence == {"a": 0.9, "b": 0.8}


@pytest.mark.parametrize(
    ("task", "kind", "scores"),
    [("multilabel", "sigmoid_logits", ("joint_energy",)), ("sequence", "logits", ("nll",))],
)
def test_a_manifest_that_names_no_score_gets_its_task_s(task: str, kind: str, scores: tuple[str, ...]) -> None:
    for tail in ("", "[ood]\nfalse_alarm = 0.1\n"):
        assert parse_manifest(HEAD.format(task=task, kind=kind, graph="", tail=tail)).ood.scores == scores


# -------------------------------------------------------------------------------------------------------- rare labels


def outputs_of(data: Dataset, log_odds: Array) -> LabelledOutputs:
    return LabelledOutputs(data, Raw(np.empty((len(data), 0)), log_odds, np.empty((len(data), 0)), None))


def rare(n: int, expected: float, seed: int, *, intercept: float | None = None) -> tuple[Array, Array, float]:
    """Log-odds of a model that is too sharp and shifted by two, presences, and the intercept of the truth."""
    grid = np.random.default_rng(99).normal(size=100_000)
    if intercept is None:
        intercept = float(brentq(lambda a: expit(a + 1.5 * grid).mean() - expected / n, -25.0, 5.0))
    rng = np.random.default_rng(seed)
    truth = intercept + 1.5 * rng.normal(size=n)
    return 1.3 * truth + 2.0, (rng.random(n) < expit(truth)).astype(np.intp), intercept


@pytest.mark.parametrize("positives", [5, 10, 15])
def test_a_rare_label_is_neither_over_nor_underestimated(positives: int, label_workshop: Make) -> None:
    manifest = label_workshop(more="").repository.draft("complaints").manifest
    n, ratios, lost, intercept = 400, [], [], None
    for seed in range(30):
        columns = [rare(n, positives, 3 * seed + m, intercept=intercept) for m in range(3)]
        intercept = columns[0][2]
        odds, y = (np.stack([column[i] for column in columns], axis=1) for i in (0, 1))
        data = Dataset(odds, y, None, None, "sha256:0")
        found = calibrate_labels(manifest, outputs_of(data, odds), method=None, seed=0)
        far = rare(4000, positives, 1000 + seed, intercept=intercept)[0]
        truth = expit((far - 2.0) / 1.3)
        for m in np.flatnonzero(y.sum(axis=0)):
            answered = found.calibrator.apply(np.repeat(far[:, None], 3, axis=1))[:, m]
            ratios.append(np.exp(answered[:, 1]).mean() / (positives / n))
            best = np.log(np.stack([1.0 - truth, truth], axis=1))
            lost.append(np.mean(np.sum(np.exp(best) * (best - answered), axis=1)))
    assert all(label.chain == ("platt",) for label in found.labels.values())
    assert 0.93 <= np.mean(ratios) <= 1.12
    assert np.mean(lost) <= 0.005

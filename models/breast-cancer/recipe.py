"""How `breast-cancer` was made: data, splits, training, export, calibration and card, all from one seed.

Run it with the development environment (`make install`)::

    .venv/bin/python models/breast-cancer/recipe.py --models DIR   # publishes into DIR, beside a card
    .venv/bin/python models/breast-cancer/recipe.py --data DIR     # writes train.csv, calibration.csv and test.csv
"""

import argparse
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx.utils
import polars as pl
import tomlkit
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from service.bundle.manifest import MANIFEST_FILE
from service.bundle.repository import Repository
from service.core.assessment.metrics import log_loss
from service.core.pipeline import Posterior
from service.data.dataset import read_dataset
from service.evaluation.classification_problem import LabelledAnswer
from service.evaluation.evaluate import answer_of, evaluate
from service.evaluation.report import EvaluationReport
from service.fitting.fit import FitRequest, FitResult, fit
from service.importer.declared import Declared
from service.importer.import_model import import_model
from service.prediction.bulk import posterior_of
from service.runtime.model import Model, load_model

NAME = "breast-cancer"
SEED = 0
CLASSES = ("benign", "malignant")
OPSET = 17  # old enough for any ONNX Runtime in use
CARD_METRICS = ("accuracy_score", "log_loss", "brier_loss", "calibration_error", "classwise_calibration_error")
IMPLAUSIBLE = 10.0  # factor that no pair of measurements of one lesion can be apart

Matrix = npt.NDArray[np.float64]
Labels = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Split:
    """Rows of one purpose; no row is in two."""

    rows: Matrix
    labels: Labels


def load_splits() -> tuple[tuple[str, ...], dict[str, Split]]:
    """Feature names, and half of the rows for training, a quarter each for calibration and test, stratified."""
    data = load_breast_cancer()
    rows, labels = data.data.astype(np.float64), 1 - data.target  # scikit-learn codes malignant as 0
    rest, test, rest_labels, test_labels = train_test_split(
        rows, labels, test_size=0.25, stratify=labels, random_state=SEED
    )
    train, calibration, train_labels, calibration_labels = train_test_split(
        rest, rest_labels, test_size=1 / 3, stratify=rest_labels, random_state=SEED
    )
    parts = {
        "train": Split(train, train_labels),
        "calibration": Split(calibration, calibration_labels),
        "test": Split(test, test_labels),
    }
    return tuple(str(name) for name in data.feature_names), parts


def train_classifier(split: Split) -> Pipeline:
    """A small neural network on standardised features, trained until it no longer improves."""
    network = MLPClassifier((32, 16), max_iter=1000, random_state=SEED)
    return make_pipeline(StandardScaler(), network).fit(split.rows, split.labels)


def export(classifier: Pipeline) -> onnx.ModelProto:
    """The classifier as a graph whose one output is the logit of `malignant`: what skl2onnx feeds to its sigmoid."""
    from skl2onnx import to_onnx  # noqa: PLC0415  # it imports slowly, and --data does not need it

    sample = np.zeros((1, classifier.n_features_in_), dtype=np.float32)
    converted: onnx.ModelProto = to_onnx(classifier, sample, options={"zipmap": False}, target_opset=OPSET)
    (sigmoid,) = (node for node in converted.graph.node if node.op_type == "Sigmoid")
    logit = sigmoid.input[0]
    converted.graph.output.append(onnx.helper.make_tensor_value_info(logit, onnx.TensorProto.FLOAT, [None, 1]))
    names = [entry.name for entry in converted.graph.input]
    model = onnx.utils.Extractor(converted).extract_model(names, [logit])
    onnx.checker.check_model(model)
    return model


def write_data(folder: Path, features: tuple[str, ...], splits: dict[str, Split]) -> None:
    """One CSV per split, with the class name in column y."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, split in splits.items():
        frame = pl.DataFrame(split.rows, schema=list(features), orient="row")
        frame.with_columns(y=pl.Series([CLASSES[k] for k in split.labels])).write_csv(folder / f"{name}.csv")


def declare(text: str, features: tuple[str, ...], splits: dict[str, Split]) -> str:
    """The importer's manifest with what it cannot know: ranges, sites, OOD gate, costs."""
    document = tomlkit.parse(text)
    document["title"] = "Breast mass from a fine-needle aspirate: benign or malignant"
    train = splits["train"]
    shares = np.bincount(train.labels) / len(train.labels)
    document["training"] = {
        "loss": "cross_entropy",
        "prevalence": dict(zip(CLASSES, shares.tolist(), strict=True)),
    }
    document["features"] = {
        name: {"plausible": list(bounds)} for name, bounds in zip(features, plausible(splits), strict=True)
    }
    document["ood"] = {
        "scores": ["nll", "mahalanobis"],
        "space": "inputs",
        "false_alarm": 0.05,
        "gate": ["mahalanobis", "range"],
    }
    document["sites"] = {"screening": {"prevalence": {"benign": 0.98, "malignant": 0.02}}}
    document["policies"] = {
        "biopsy": {
            "default": True,
            "on_ood": "defer",
            "costs": {
                "dismiss": {"benign": 0, "malignant": 50},
                "biopsy": {"benign": 1, "malignant": 1},
                "defer": {"benign": 3, "malignant": 3},
            },
        }
    }
    return tomlkit.dumps(document)


def plausible(splits: dict[str, Split]) -> list[tuple[float, float]]:
    """Half the observed span beyond either end of every feature, never below zero, to three digits."""
    rows = np.concatenate([split.rows for split in splits.values()])
    low, high = rows.min(axis=0), rows.max(axis=0)
    margin = 0.5 * (high - low)
    return [(float(f"{max(0.0, a):.3g}"), float(f"{b:.3g}")) for a, b in zip(low - margin, high + margin, strict=True)]


def make(models: Path) -> FitResult:
    """Train, export, import, declare, calibrate, publish, and write the card."""
    features, splits = load_splits()
    repository = Repository(models)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_data(folder, features, splits)
        graph = folder / "model.onnx"
        onnx.save(export(train_classifier(splits["train"])), graph)
        declared = Declared(output_kind="logits", classes=CLASSES, features=features)
        draft = import_model(repository, NAME, graph, declared).draft
        manifest = draft / MANIFEST_FILE
        manifest.write_text(declare(manifest.read_text(), features, splits))
        request = FitRequest(folder / "calibration.csv", train_data=folder / "train.csv", seed=SEED)
        result = fit(repository, NAME, request)
        model = load_model(repository.bundle(NAME, result.version))
        test = read_dataset(folder / "test.csv", model.manifest)
    simple = simple_log_loss(splits["train"], splits["test"])
    card = write_card(model, splits, *reports(model, test.numbers, test.labels), simple)
    (models / NAME / "README.md").write_text(card)
    return result


def simple_log_loss(train: Split, test: Split) -> float:
    """Log loss on the test rows of a baseline: logistic regression with scikit-learn's defaults."""
    simple = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(train.rows, train.labels)
    return log_loss(simple.predict_log_proba(test.rows), test.labels)


def reports(model: Model, rows: Matrix, labels: Labels) -> tuple[EvaluationReport, EvaluationReport]:
    """Quality on the test rows, beside rows shuffled between patients and rows that no patient has."""
    posterior = posterior_of(model, rows)
    shuffled = np.random.default_rng(SEED).permuted(rows, axis=0)
    return _report(model, posterior, labels, shuffled), _report(model, posterior, labels, rows * IMPLAUSIBLE)


def _report(model: Model, posterior: Posterior, labels: Labels, ood_rows: Matrix) -> EvaluationReport:
    labelled = LabelledAnswer(answer_of(model, posterior), labels, ood_posterior=posterior_of(model, ood_rows))
    return evaluate(labelled).report


def write_card(
    model: Model, splits: dict[str, Split], shuffled: EvaluationReport, enlarged: EvaluationReport, simple: float
) -> str:
    """The model card, every number from this run."""
    record = model.bundle.record
    if record is None:
        raise ValueError("the model was not calibrated")
    low, limit = record.calibrator.interval["temperature"]
    high = math.inf if limit is None else limit
    policy = shuffled.parts["rows"].policies["biopsy"]
    flag_rate, nll = shuffled.ood.flag_rate or 0.0, shuffled.ood.scores["nll"]
    return CARD.format(
        version=model.version,
        digest=model.bundle.digest,
        splits="\n".join(_split_row(name, split) for name, split in splits.items()),
        metrics="\n".join(_metric_row(name, shuffled) for name in CARD_METRICS),
        simple=f"{simple:.4f}",
        temperature=f"{record.calibrator.params['temperature']:.3f}",
        interval=f"{low:.2f} to {high:.2f}",
        verdict="includes 1: its confidence was about right" if low <= 1.0 <= high else VERDICTS[low > 1.0],
        test_rows=shuffled.rows,
        false_alarms=round(flag_rate * shuffled.rows),
        false_alarm_rate=f"{100 * flag_rate:.1f}",
        range_rate=f"{100 * shuffled.ood.range_rate:.1f}",
        gate_here=_percent(flag_rate),
        gate_shuffled=_percent(shuffled.ood.ood_flag_rate),
        nll_shuffled=_percent(nll.ood_flag_rate),
        auroc_nll=f"{nll.auroc:.3f}",
        auroc_mahalanobis=f"{shuffled.ood.scores['mahalanobis'].auroc:.3f}",
        gate_enlarged=_percent(enlarged.ood.ood_flag_rate),
        nll_enlarged=_percent(enlarged.ood.scores["nll"].ood_flag_rate),
        nll_here=_percent(nll.flag_rate),
        realised=f"{policy.realised_cost:.3f}",
        expected=f"{policy.expected_cost:.3f}",
        label_cost=f"{policy.label_cost:.3f}",
        constant=f"{policy.constant_cost:.3f}",
        constant_action=policy.constant_action,
        overruled=policy.overruled,
        actions=", ".join(f"{action} {own.taken}" for action, own in policy.actions.items()),
    )


def _split_row(name: str, split: Split) -> str:
    benign, malignant = np.bincount(split.labels)
    return f"| {name} | {len(split.labels)} | {benign} | {malignant} |"


def _metric_row(name: str, report: EvaluationReport) -> str:
    return f"| `{name}` | {report.uncalibrated_metrics[name]:.4f} | {report.metrics[name]:.4f} |"


def _percent(rate: float | None) -> str:
    return f"{100 * (rate or 0.0):.0f} %"


VERDICTS = {
    True: "lies above 1: as trained, it was too sure of itself",
    False: "lies below 1: as trained, it was not sure enough",
}

CARD = """\
# breast-cancer

Classifies a breast mass from measurements of cell nuclei in a digitised fine-needle aspirate: `benign` or `malignant`.
This card is written by [`recipe.py`](recipe.py); every number in it is that run's own.

Version {version}, digest `{digest}`.

## Data

Breast Cancer Wisconsin (Diagnostic), 569 masses with 30 measurements each: mean, standard error and worst of ten
properties of the nuclei. W. H. Wolberg, W. N. Street and O. L. Mangasarian, University of Wisconsin, 1995; UCI Machine
Learning Repository, <https://doi.org/10.24432/C5DW2B>, licence CC BY 4.0. The rows are taken from scikit-learn, which
bundles them; the published version holds none of them. The source states no units, so the manifest has none.

| split | rows | benign | malignant |
|---|---|---|---|
{splits}

Stratified, one fixed seed, no row in two splits. The classifier learned from `train`; the temperature and the
thresholds from `calibration`; the Mahalanobis score from `train`, its threshold from `calibration`; everything below
is measured on `test`.

## Model

A small neural network (32 and 16 units) on standardised features, scikit-learn's `MLPClassifier` trained until it no
longer improves, exported with skl2onnx as the logit of `malignant` (one column). Temperature {temperature}; its 95 %
interval, {interval}, {verdict}.

## Quality on the {test_rows} test rows

| metric | uncalibrated | served |
|---|---|---|
{metrics}

With so few rows a calibration error of several hundredths is what a perfect predictor would show as well. A logistic
regression with default settings has a log loss of {simple} on these rows: the network is shipped because it is what
people bring, not because these data need one.

Policy `biopsy` (a missed cancer costs 50, a biopsy 1, a deferral 3), cost per patient: {realised} realised against
{expected} expected. Acting on the most probable class would have cost {label_cost}, and the best single action for
all patients (`{constant_action}`) {constant}. Taken: {actions}; {overruled} of them handed over by a flag.

## Flags

The gate is `mahalanobis` on the standardised inputs at a false-alarm rate of 5 %, and the `range` rule. **Combined
false-alarm rate on the test rows: {false_alarms} of {test_rows}, {false_alarm_rate} %**; {range_rate} % lie outside a
plausible range.

| rows | flagged by the gate | flagged by `nll` |
|---|---|---|
| test rows | {gate_here} | {nll_here} |
| the same, every column shuffled between patients | {gate_shuffled} | {nll_shuffled} |
| the same, every value ten times as large | {gate_enlarged} | {nll_enlarged} |

Shuffled rows hold values that are each plausible and impossible together. What `nll` alone would have missed is the
difference between the two columns: it measures how ambiguous a row is to the classifier, and many impossible rows are
clear to this one. Its AUROC for the shuffled rows is {auroc_nll}, that of `mahalanobis` {auroc_mahalanobis}.

## Intended use and limits

To show and test Temperance on a real clinical task. Not a medical device: one centre, one technique, 1995, 569 masses
selected for surgery, no information on age, sex or ethnicity, no external validation. Its plausible ranges are half the
observed span beyond the data, never below zero, and not a clinician's. Site `screening` (2 % malignant) is a made-up
population that shows how a prevalence is declared.
"""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, help="repository to publish into")
    parser.add_argument("--data", type=Path, help="folder for the splits as CSV files")
    arguments = parser.parse_args()
    if arguments.data is not None:
        write_data(arguments.data, *load_splits())
        print(f"wrote train.csv, calibration.csv and test.csv to {arguments.data}")
    if arguments.models is not None:
        result = make(arguments.models)
        print(f"published {result.name} version {result.version} in {arguments.models}")
    if arguments.data is None and arguments.models is None:
        parser.error("say --models or --data")


if __name__ == "__main__":
    main()

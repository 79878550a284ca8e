"""A trained network becomes a version of the repository, through the product's own import, fit and evaluation."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import tomlkit

from service.bundle.manifest import MANIFEST_FILE
from service.bundle.repository import Repository
from service.core.assessment.reliability import class_event
from service.core.numerics import Array, Flags, log_softmax
from service.evaluation.evaluate import EvaluateRequest, Evaluation, evaluate_file
from service.evaluation.policy_report import PolicyReport
from service.evaluation.report import EvaluationReport
from service.fitting.fit import FitRequest, fit
from service.importer.declared import Declared
from service.importer.import_model import import_model
from service.prediction.bulk import posterior_of
from service.runtime.model import Model, load_model
from service.training.example_sets import Examples, Values
from service.training.export import export
from service.training.failures import TrainingFailed
from service.training.loop import Trained

OUTPUT_KINDS: Final = {"multiclass": "logits", "sequence": "logits", "multilabel": "sigmoid_logits"}


@dataclass(frozen=True, slots=True)
class Declaration:
    """What cannot be seen in a network: names, and what actions cost.

    Attributes
    ----------
    name : str
        Of the model in the repository.
    title : str
        What it classifies into what, for people.
    classes : sequence of str
        In the order of the outputs.
    features : sequence of str, optional
        Names of the columns of a table.
    outputs : sequence of str
        Names of the network's outputs; the first is that of the logits. Feature scores can look at another:
        ``sections={"ood": {"space": "features", …}}``.
    pad : float, optional
        Sequences: the number that fills the inputs of shorter rows.
    sections : mapping
        Further sections of the manifest by name, as `docs/reference/manifest.md` describes them.
    """

    name: str
    title: str
    classes: Sequence[str]
    features: Sequence[str] | None = None
    outputs: Sequence[str] = ("logits",)
    pad: float | None = None
    sections: Mapping[str, Any] = field(default_factory=dict)


def publish_trained(
    trained: Trained,
    declaration: Declaration,
    *,
    models: Path,
    calibration: Examples,
    train: Examples | None = None,
    ood: Values | None = None,
    calibrator: str | None = None,
    seed: int = 0,
) -> Model:
    """Export, import, declare, calibrate and publish; the manifest's `[training]` is the objective's own.

    Parameters
    ----------
    trained : Trained
    declaration : Declaration
    models : Path
        The repository.
    calibration : Examples
        Rows that the network was neither trained nor stopped on.
    train : Examples, optional
        Training rows, from which OOD scores with fitted state learn.
    ood : ndarray of shape (N, ...), optional
        Out-of-distribution rows.
    calibrator : str, optional
        As `temperance fit --calibrator`.
    seed : int
        Of the fit.

    Returns
    -------
    Model
        The version that was published, loaded.

    Raises
    ------
    ServiceError
        As `temperance import` and `temperance fit`; as `declared_manifest`.
    """
    repository = Repository(models)
    with tempfile.TemporaryDirectory(prefix="temperance-") as scratch:
        folder = Path(scratch)
        known = [calibration] if train is None else [calibration, train]
        draft = _imported(trained, declaration, repository, known, folder)
        manifest = draft / MANIFEST_FILE
        text = declared_manifest(manifest.read_text(encoding="utf-8"), trained, declaration)
        manifest.write_text(text, encoding="utf-8")
        request = FitRequest(
            _written(folder / "calibration.npz", calibration, declaration.classes),
            train_data=None if train is None else _written(folder / "train.npz", train, declaration.classes),
            ood_data=None if ood is None else _written_rows(folder / "ood.npz", ood),
            calibrator=calibrator,
            seed=seed,
        )
        version = fit(repository, declaration.name, request).version
    return load_model(repository.bundle(declaration.name, version))


def declared_manifest(text: str, trained: Trained, declaration: Declaration) -> str:
    """The importer's manifest, with what the training and its author know.

    Parameters
    ----------
    text : str
        `manifest.toml` of the draft.
    trained : Trained
    declaration : Declaration

    Raises
    ------
    TrainingFailed
        If a class has no training row: it has no share that could be declared.
    """
    shares = dict(zip(declaration.classes, trained.prevalence.tolist(), strict=True))
    if absent := [name for name, share in shares.items() if not share]:
        raise TrainingFailed(f"no training row has the class {absent[0]!r}; leave it out, or train with rows of it")
    document = tomlkit.parse(text)
    document["title"] = declaration.title
    document["training"] = {**trained.objective.declared(declaration.classes), "prevalence": shares}
    if declaration.pad is not None:
        document["inputs"][0]["pad"] = declaration.pad
    for name, section in declaration.sections.items():
        document[name] = _merged(document.get(name), section)
    return tomlkit.dumps(document)


def evaluation_of(model: Model, test: Examples, *, ood: Values | None = None) -> Evaluation:
    """What `temperance evaluate` finds on these rows, with what its charts are drawn of.

    Parameters
    ----------
    model : Model
    test : Examples
    ood : ndarray of shape (N, ...), optional
        Out-of-distribution rows.
    """
    with tempfile.TemporaryDirectory(prefix="temperance-") as scratch:
        folder = Path(scratch)
        data = _written(folder / "test.npz", test, model.manifest.graph.classes)
        ood_data = None if ood is None else _written_rows(folder / "ood.npz", ood)
        return evaluate_file(model, EvaluateRequest(data, ood_data=ood_data))


def report_of(model: Model, test: Examples, *, ood: Values | None = None) -> EvaluationReport:
    """The report of `evaluation_of`."""
    return evaluation_of(model, test, ood=ood).report


def facts_of(model: Model, report: EvaluationReport) -> dict[str, Any]:
    """What a card says of the published version, as `cards.write_card` takes it.

    Parameters
    ----------
    model : Model
    report : EvaluationReport
        Of the test rows.

    Returns
    -------
    dict
        ``version`` and ``digest``; ``chain``, the stages that are served, and ``params`` of the calibrator;
        ``test_rows``; ``test`` and ``as_trained``, metrics with and without that chain; ``flag_rate``; ``policies`` of
        a multiclass model.
    """
    rows, record = report.parts.get("rows"), model.bundle.record
    return {
        "version": model.version,
        "digest": model.bundle.digest,
        "chain": "" if record is None else ", ".join(record.chain),
        "params": {} if record is None else dict(record.calibrator.params),
        "test_rows": report.rows,
        "test": report.metrics,
        "as_trained": report.uncalibrated_metrics,
        "flag_rate": report.ood.flag_rate,
        "policies": {} if rows is None else {name: _costs_of(found) for name, found in rows.policies.items()},
    }


def events_of(model: Model, rows: Examples, k: int) -> dict[str, tuple[Array, Flags]]:
    """Probabilities of one class, ``as trained`` and ``served``, and whether it occurred; for a reliability picture.

    Parameters
    ----------
    model : Model
        Multiclass.
    rows : Examples
    k : int
        Index of the class.
    """
    posterior = posterior_of(model, rows.inputs)
    found = {"as trained": log_softmax(posterior.logits), "served": posterior.log_probs}
    return {name: class_event(log_probs, rows.labels, k) for name, log_probs in found.items()}


def _costs_of(found: PolicyReport) -> dict[str, Any]:
    return {
        "expected_cost": found.expected_cost,
        "realised_cost": found.realised_cost,
        "most_probable_cost": found.label_cost,
        "constant_cost": found.constant_cost,
        "constant_action": found.constant_action,
    }


def _imported(
    trained: Trained, declaration: Declaration, repository: Repository, parts: Sequence[Examples], folder: Path
) -> Path:
    graph, task = folder / "model.onnx", trained.objective.task
    dynamic = ("batch", "length") if task == "sequence" else ("batch",)
    export(trained.network, graph, parts[0].inputs, outputs=declaration.outputs, dynamic=dynamic)
    declared = Declared(
        output=declaration.outputs[0],
        output_kind=OUTPUT_KINDS[task],
        task=task,
        classes=tuple(declaration.classes),
        features=None if declaration.features is None else tuple(declaration.features),
        missing="nan" if any(np.isnan(part.inputs).any() for part in parts) else None,
    )
    return import_model(repository, declaration.name, graph, declared, force=True).draft


def _merged(before: Any, section: Any) -> Any:
    """The author's keys over the importer's; of features each key by itself."""
    if not (isinstance(before, Mapping) and isinstance(section, Mapping)):
        return section
    return {**before, **{key: _merged(before.get(key), value) for key, value in section.items()}}


def _written(path: Path, rows: Examples, classes: Sequence[str]) -> Path:
    """Rows as `temperance` reads them: classes by name, unless a row has several."""
    labels = np.array(classes)[rows.labels] if rows.labels.ndim == 1 else rows.labels
    groups = {} if rows.groups is None else {"group": rows.groups}
    np.savez(path, allow_pickle=False, X=rows.inputs, y=labels, **groups)
    return path


def _written_rows(path: Path, rows: Values) -> Path:
    np.savez(path, allow_pickle=False, X=rows)
    return path

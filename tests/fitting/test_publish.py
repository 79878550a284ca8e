from pathlib import Path

import onnx
import pytest

from service.bundle.manifest import MANIFEST_FILE
from service.bundle.record import RECORD_FILE
from service.bundle.repository import Repository
from service.errors import ManifestInvalid, ServiceError
from service.fitting.publish import publish_draft, why_uncalibrated
from service.runtime.model import load_model

SHIPPED = "breast-cancer"


def manifest_text(repository: Repository) -> str:
    return (repository.root / SHIPPED / "draft" / MANIFEST_FILE).read_text()


UNBOUND = {
    "nothing": ("", ""),
    "a price": ("malignant = 50", "malignant = 60"),
    "a plausible range": ("plausible = [0.0, 38.7]", "plausible = [0.0, 40.0]"),
    "a site": ("benign = 0.98\nmalignant = 0.02", "benign = 0.9\nmalignant = 0.1"),
    "a title": ("Breast mass", "Lump"),
    "a comment": ("schema = 1", "schema = 1 # the first"),
}


@pytest.mark.parametrize(("old", "new"), UNBOUND.values(), ids=UNBOUND.keys())
def test_what_no_calibration_depends_on_is_published_with_it(
    old: str, new: str, repository: Repository, draft: Path
) -> None:
    text = manifest_text(repository)
    assert old in text
    (draft / MANIFEST_FILE).write_text(text.replace(old, new))
    published = publish_draft(repository, SHIPPED)
    before, after = load_model(repository.bundle(SHIPPED, 1)), load_model(repository.bundle(SHIPPED, published.version))
    assert published.why_uncalibrated is None
    assert after.status == "ok"
    assert before.bundle.record is not None
    bound = {"content_sha256": None if after.bundle.record is None else after.bundle.record.content_sha256}
    assert after.bundle.record == before.bundle.record.model_copy(
        update=bound
    )  # of the self-test of other declarations
    assert after.chain.calibrator == before.chain.calibrator


BOUND = {
    "[graph] changed": ('task = "multiclass"', 'task = "multiclass"\nprobability_floor = 1e-6'),
    "[inputs] changed": ("mean radius", "average radius"),
    "[training] changed": ('loss = "cross_entropy"', 'loss = "focal"\ngamma = 2.0'),
    "[ood] changed": ('scores = ["nll", "mahalanobis"]', 'scores = ["mahalanobis"]'),
    "[training], [ood] changed": (
        'loss = "cross_entropy"\n\n[training.prevalence]\nbenign = 0.6267605633802817\nmalignant = 0.3732394366197183',
        'loss = "mixup"\n',
    ),
}


@pytest.mark.parametrize(("reason", "edit"), BOUND.items(), ids=BOUND.keys())
def test_what_a_calibration_depends_on_publishes_without_it_and_says_what_changed(
    reason: str, edit: tuple[str, str], repository: Repository, draft: Path
) -> None:
    text = manifest_text(repository)
    assert edit[0] in text
    text = text.replace(*edit)
    (draft / MANIFEST_FILE).write_text(text.replace("= 0.05", "= 0.1") if "], [" in reason else text)
    published = publish_draft(repository, SHIPPED)
    assert published.why_uncalibrated == reason
    bundle = repository.bundle(SHIPPED, published.version)
    assert (bundle.record, bundle.state, load_model(bundle).status) == (None, {}, "uncalibrated")


def test_a_changed_graph_publishes_without_the_calibration_and_says_so(repository: Repository, draft: Path) -> None:
    graph = onnx.load(draft / "model.onnx")
    graph.doc_string = "the same numbers, other bytes"
    onnx.save(graph, draft / "model.onnx")
    published = publish_draft(repository, SHIPPED)
    assert published.why_uncalibrated == "the graph changed"
    assert load_model(repository.bundle(SHIPPED, published.version)).status == "uncalibrated"


def test_a_draft_that_was_never_fitted_is_published_uncalibrated(repository: Repository, draft: Path) -> None:
    (draft / RECORD_FILE).unlink()
    assert why_uncalibrated(repository.draft(SHIPPED)) == "it was never fitted"
    version = publish_draft(repository, SHIPPED).version
    assert load_model(repository.bundle(SHIPPED, version)).status == "uncalibrated"


def test_publication_does_not_move_stable(repository: Repository, draft: Path) -> None:
    assert draft.is_dir()
    assert publish_draft(repository, SHIPPED).version == 2
    assert repository.aliases(SHIPPED) == {"stable": 1}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("malignant = 50", "malignant = nan"),
        ('output = "add_result2"', 'output = "other"'),
        ('name = "X"', 'name = "Y"'),
    ],
)
def test_a_draft_that_would_not_load_is_not_published_and_stays(
    old: str, new: str, repository: Repository, draft: Path
) -> None:
    (draft / MANIFEST_FILE).write_text(manifest_text(repository).replace(old, new))
    with pytest.raises(ManifestInvalid):
        publish_draft(repository, SHIPPED)
    assert repository.versions(SHIPPED) == [1]
    assert draft.is_dir()


def test_a_stray_file_is_not_published(repository: Repository, draft: Path) -> None:
    (draft / "manifest.toml~").write_text("an editor's backup")
    with pytest.raises(ServiceError, match=r"manifest\.toml~ is no part of a bundle"):
        publish_draft(repository, SHIPPED)
    assert repository.versions(SHIPPED) == [1]

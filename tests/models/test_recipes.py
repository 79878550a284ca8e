"""What holds of every shipped model: its recipe, its card, its files, and that it reproduces its numbers."""

import re
import subprocess

import pytest

from service.bundle.repository import Bundle, Repository
from service.runtime.model import load_model
from tests.models.recipes import MODELS, OLDEST, RECIPES, TAUGHT, metrics, recipe, splits

LINES = 150
MEGABYTE = 1_000_000
MOST_BYTES = {"a model": MEGABYTE, "all models": 6 * MEGABYTE, "a picture": 60_000}
OF_A_MODEL = ("recipe.py", "README.md", "aliases.toml")
OF_A_CARD = ("card.md.in", "metrics.json")
OF_A_VERSION = ("model.onnx", "manifest.toml", "calibration.json", "state.npz", "SHA256SUMS")
SECTIONS = ("data", "licence", "split", "intended use", "limits", "recipe.py", "did not")
TOLERANCE = 1e-4
"""Other processors round otherwise, and a row at the edge of a bin moves a calibration error."""

KINDS = {
    "table": {"breast-cancer", "thyroid", "mortality-5y", "cartpole-imitation"},
    "image": {"fashion-mnist", "fashion-mnist-student"},
    "multilabel": {"yeast-genes"},
    "sequence": {"protein-structure"},
}


def published(name: str) -> Bundle:
    """The version that answers."""
    repository = Repository(MODELS)
    return repository.bundle(name, repository.aliases(name)["stable"])


def files(name: str) -> set[str]:
    """Of a model, as committed; of a tree without git, all but bytecode."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "."],
        cwd=MODELS / name,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        return set(listed.stdout.splitlines())
    found = (path.relative_to(MODELS / name).as_posix() for path in (MODELS / name).rglob("*") if path.is_file())
    return {path for path in found if "__pycache__" not in path}


def bytes_of(name: str) -> int:
    """Size of a model's files."""
    return sum((MODELS / name / path).stat().st_size for path in files(name))


def kind(name: str) -> str:
    """What a row is, or a model answers of it."""
    manifest = published(name).manifest
    task = manifest.graph.task
    rows = "image" if manifest.inputs[0].features is None else "table"
    return rows if task == "multiclass" else task


def test_eight_models_of_four_kinds_are_shipped() -> None:
    assert {name: kind(name) for name in RECIPES} == {name: own for own, names in KINDS.items() for name in names}


@pytest.mark.parametrize("name", TAUGHT)
def test_a_recipe_is_a_page_long(name: str) -> None:
    assert len((MODELS / name / "recipe.py").read_text(encoding="utf-8").splitlines()) <= LINES


@pytest.mark.parametrize("name", RECIPES)
def test_every_file_of_a_model_is_expected(name: str) -> None:
    versions = set(Repository(MODELS).aliases(name).values())
    expected = {*OF_A_MODEL, *(f"{version}/{file}" for version in versions for file in OF_A_VERSION)}
    expected |= set() if name == OLDEST else set(OF_A_CARD)
    pictures = {path for path in files(name) if re.fullmatch(r"figures/[a-z0-9-]+\.svg", path)}
    assert files(name) - pictures == expected
    assert {path.name for path in MODELS.iterdir()} == {*RECIPES, ".gitattributes"}


def test_models_are_small_and_so_are_their_pictures() -> None:
    sizes = {name: bytes_of(name) for name in RECIPES}
    assert {name: size for name, size in sizes.items() if size > MOST_BYTES["a model"]} == {}
    assert sum(sizes.values()) <= MOST_BYTES["all models"]
    pictures = {str(path): path.stat().st_size for path in MODELS.glob("*/figures/*.svg")}
    assert {path: size for path, size in pictures.items() if size > MOST_BYTES["a picture"]} == {}


@pytest.mark.parametrize("name", RECIPES)
def test_no_file_names_a_path_of_the_machine_that_made_it(name: str) -> None:
    marks = (b"/site-packages/", b'File "', b"/service/training/", b"/tmp/", b"/home/")
    contents = {path: (MODELS / name / path).read_bytes() for path in files(name) if not path.endswith(".py")}
    assert {path for path, content in contents.items() if any(mark in content for mark in marks)} == set()


@pytest.mark.parametrize("name", TAUGHT)
def test_a_card_is_its_prose_with_the_numbers_of_its_run(name: str) -> None:
    from service.training.cards import card

    prose = (MODELS / name / "card.md.in").read_text(encoding="utf-8")
    assert (MODELS / name / "README.md").read_text(encoding="utf-8") == card(prose, metrics(name))


@pytest.mark.parametrize("name", TAUGHT)
def test_the_numbers_are_those_of_the_version_that_answers(name: str) -> None:
    bundle, found = published(name), metrics(name)
    assert (str(found["version"]), found["digest"]) == (str(bundle.version), bundle.digest)


@pytest.mark.parametrize("name", RECIPES)
def test_a_card_names_policies_data_licence_use_limits_and_the_recipe(name: str) -> None:
    text = (MODELS / name / "README.md").read_text(encoding="utf-8").lower()
    needed = [*published(name).manifest.policies, *(SECTIONS[:-1] if name == OLDEST else SECTIONS)]
    assert [words for words in needed if words.lower() not in text] == []


@pytest.mark.parametrize("name", TAUGHT)
def test_the_guide_shows_an_answer_of_the_version_that_answers(name: str) -> None:
    guide = (MODELS.parent / "docs" / "guide" / "models.md").read_text(encoding="utf-8")
    shown = re.findall(rf'"model": "{name}",\s+"version": "(\d+)", "digest": "(sha256:[0-9a-f]+)…"', guide)
    assert shown == [(str(published(name).version), str(published(name).digest)[: len("sha256:") + 8])]


@pytest.mark.parametrize("name", TAUGHT)
def test_every_picture_is_shown_by_the_card_and_every_link_leads_somewhere(name: str) -> None:
    text = (MODELS / name / "README.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"\]\((figures/[^)]+)\)", text))
    assert shown == {path for path in files(name) if path.startswith("figures/")}
    assert len(shown) >= 2
    targets: list[str] = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    assert [target for target in targets if not (MODELS / name / target).exists()] == []


@pytest.mark.parametrize("name", TAUGHT)
def test_the_manifest_declares_how_the_model_was_trained(name: str) -> None:
    manifest = published(name).manifest
    assert "training" in manifest.model_fields_set
    assert manifest.training.prevalence is not None
    assert published(name).record is not None


@pytest.mark.parametrize("name", RECIPES)
def test_every_version_that_an_alias_names_passes_its_self_test(name: str) -> None:
    repository = Repository(MODELS)
    for version in set(repository.aliases(name).values()):
        assert load_model(repository.bundle(name, version)).bundle.record is not None


@pytest.mark.parametrize("name", TAUGHT)
def test_the_published_version_reproduces_the_numbers_of_its_card(name: str) -> None:
    module = recipe(name)
    test = splits(module)["test"]
    from service.training.publication import report_of

    found = report_of(load_model(published(name)), test).metrics
    assert found == pytest.approx(metrics(name)["test"], rel=TOLERANCE, abs=TOLERANCE)

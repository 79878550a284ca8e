import shutil

import pytest

from service.bundle.repository import Repository
from service.bundle.writer import create_draft, draft_files, publish, set_alias
from service.errors import BundleDamaged, BundleNotFound, ModelNotFound, VersionNotServed
from service.runtime.registry import load_registry

NAME = "breast-cancer"


@pytest.fixture
def three_versions(repository: Repository) -> Repository:
    """Versions 1 (stable), 2 (canary) and 3 (no alias), all alike."""
    for _ in range(2):
        create_draft(repository, NAME, draft_files(repository.bundle(NAME, 1)))
        draft = repository.draft(NAME)
        publish(repository, draft, record=draft.record, state=draft.state)
    set_alias(repository, NAME, "canary", 2)
    return repository


def test_what_is_aliased_is_loaded_and_nothing_else(three_versions: Repository) -> None:
    registry = load_registry(three_versions)
    assert registry.names() == [NAME]
    served = registry.served(NAME)
    assert (served.published, served.aliases, list(served.models)) == ((1, 2, 3), {"canary": 2, "stable": 1}, [1, 2])
    assert [model.version for model in registry.all_models()] == ["1", "2"]


def test_a_request_without_a_version_goes_to_stable(three_versions: Repository) -> None:
    registry = load_registry(three_versions)
    assert registry.model(NAME).version == "1"
    assert registry.model(NAME, alias="canary").version == "2"
    assert registry.model(NAME, version=2).version == "2"


def test_two_aliases_of_a_version_share_one_model(three_versions: Repository) -> None:
    set_alias(three_versions, NAME, "canary", 1)
    registry = load_registry(three_versions)
    assert registry.model(NAME, alias="canary") is registry.model(NAME)


@pytest.mark.parametrize("address", [{"version": 3}, {"version": 9}, {"version": 0}, {"alias": "beta"}])
def test_a_version_that_is_not_served_is_refused_beside_those_that_are(
    address: dict[str, int | str], three_versions: Repository
) -> None:
    with pytest.raises(VersionNotServed, match=r"served are canary = 2, stable = 1"):
        load_registry(three_versions).model(NAME, **address)  # type: ignore[arg-type]  # one of either, by name


def test_an_unknown_model_is_refused_without_the_names_of_others(repository: Repository) -> None:
    with pytest.raises(ModelNotFound, match=r"no model has that name; the list of models shows the served ones$"):
        load_registry(repository).model("unknown")


def test_a_stable_that_was_taken_away_serves_only_what_is_named(three_versions: Repository) -> None:
    (three_versions.root / NAME / "aliases.toml").write_text("canary = 2\n")
    registry = load_registry(three_versions)
    assert registry.model(NAME, alias="canary").version == "2"
    with pytest.raises(VersionNotServed):
        registry.model(NAME)


def test_a_draft_alone_is_not_served(repository: Repository) -> None:
    create_draft(repository, "new", {"manifest.toml": "not even valid"})
    assert load_registry(repository).names() == [NAME]


def test_an_empty_repository_refuses_to_start(repository: Repository) -> None:
    shutil.rmtree(repository.root / NAME)
    with pytest.raises(BundleNotFound, match="no model is published"):
        load_registry(repository)


def test_a_damaged_version_stops_the_start(three_versions: Repository) -> None:
    (three_versions.root / NAME / "2" / "model.onnx").write_bytes(b"")
    with pytest.raises(BundleDamaged, match=r"2/model\.onnx does not match"):
        load_registry(three_versions)


def test_a_damaged_version_without_an_alias_does_not_stop_the_start(three_versions: Repository) -> None:
    (three_versions.root / NAME / "3" / "model.onnx").write_bytes(b"")
    assert load_registry(three_versions).names() == [NAME]


def test_versions_without_an_alias_stop_the_start(repository: Repository) -> None:
    (repository.root / NAME / "aliases.toml").unlink()
    with pytest.raises(BundleNotFound, match="versions but no alias"):
        load_registry(repository)

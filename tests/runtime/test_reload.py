import shutil

import pytest

from service.bundle.repository import Repository
from service.bundle.writer import create_draft, draft_files, publish, set_alias
from service.runtime.registry import Registry, load_registry
from service.runtime.reload import Reloader

NAME = "breast-cancer"


@pytest.fixture
def registry(repository: Repository) -> Registry:
    return load_registry(repository)


@pytest.fixture
def reloader(repository: Repository, registry: Registry) -> Reloader:
    return Reloader(repository, registry, 1)


def publish_again(repository: Repository) -> int:
    create_draft(repository, NAME, draft_files(repository.bundle(NAME, 1)))
    draft = repository.draft(NAME)
    return publish(repository, draft, record=draft.record, state=draft.state)


def test_nothing_is_done_while_nothing_changes(reloader: Reloader, registry: Registry) -> None:
    assert [reloader.poll() for _ in range(3)] == [False, False, False]
    assert registry.generation == 0


def test_a_change_is_acted_upon_once_it_looks_the_same_twice(
    reloader: Reloader, registry: Registry, repository: Repository
) -> None:
    set_alias(repository, NAME, "stable", publish_again(repository))
    assert [reloader.poll() for _ in range(3)] == [False, True, False]
    assert registry.model(NAME).version == "2"


def test_who_asks_does_not_wait(reloader: Reloader, registry: Registry, repository: Repository) -> None:
    set_alias(repository, NAME, "stable", publish_again(repository))
    assert reloader.reload()
    assert registry.model(NAME).version == "2"


def test_a_version_in_memory_is_not_loaded_again(
    reloader: Reloader, registry: Registry, repository: Repository
) -> None:
    before = registry.model(NAME)
    set_alias(repository, NAME, "canary", publish_again(repository))
    reloader.reload()
    assert registry.model(NAME) is before
    assert registry.model(NAME, alias="canary").version == "2"


def test_a_model_that_arrives_is_served(reloader: Reloader, registry: Registry, repository: Repository) -> None:
    shutil.copytree(repository.root / NAME, repository.root / "second")
    reloader.reload()
    assert registry.names() == [NAME, "second"]


def test_a_draft_is_no_deployment(reloader: Reloader, repository: Repository) -> None:
    create_draft(repository, "second", draft_files(repository.bundle(NAME, 1)))
    assert not reloader.reload()


@pytest.mark.parametrize("damage", ["stable = 9\n", "stable = [", ""])
def test_aliases_that_cannot_be_followed_leave_what_is_served_and_say_why(
    damage: str, reloader: Reloader, registry: Registry, repository: Repository
) -> None:
    aliases = repository.root / NAME / "aliases.toml"
    sound = aliases.read_text()
    aliases.write_text(damage)
    assert reloader.reload()
    assert registry.model(NAME).version == "1"
    assert NAME in str(registry.served(NAME).refusal)
    assert not reloader.reload()  # once; it is not tried again, nor said again, until something changes
    aliases.write_text(sound)
    reloader.reload()
    assert registry.served(NAME).refusal is None


def test_a_model_that_is_gone_from_the_disk_is_served_on(
    reloader: Reloader, registry: Registry, repository: Repository
) -> None:
    shutil.rmtree(repository.root / NAME)
    reloader.reload()
    assert registry.model(NAME).version == "1"
    assert registry.served(NAME).refusal is not None


def test_a_new_model_that_cannot_be_loaded_is_not_served(
    reloader: Reloader, registry: Registry, repository: Repository, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(repository.root / NAME, repository.root / "second")
    (repository.root / "second" / "1" / "model.onnx").write_bytes(b"")
    reloader.reload()
    assert registry.names() == [NAME]
    assert "not serving second" in caplog.text

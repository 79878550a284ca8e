import shutil
from collections.abc import Callable

import pytest

from service.bundle.repository import Repository
from service.bundle.writer import create_draft, draft_files, remove_alias, retire, set_alias
from service.errors import BundleNotFound, LoadFailed, ModelNotFound, VersionNotServed
from service.runtime.loader import Loader
from service.runtime.registry import Registry, load_registry
from service.runtime.reload import RETIRED, UNNAMED, Reloaded, Reloader
from tests.manual_clock import Clock

NAME = "breast-cancer"


@pytest.fixture
def registry(repository: Repository) -> Registry:
    return load_registry(repository)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reloader(repository: Repository, registry: Registry, clock: Clock) -> Reloader:
    return Reloader(Loader(repository), registry, clock=clock)


def test_nothing_is_done_while_nothing_changes(reloader: Reloader, registry: Registry) -> None:
    assert [reloader.poll() for _ in range(3)] == [[], [], []]
    assert registry.generation == 0


def test_an_alias_that_moves_is_followed_at_the_next_look(
    reloader: Reloader, registry: Registry, repository: Repository, publish_again: Callable[[], int]
) -> None:
    set_alias(repository, NAME, "stable", publish_again())
    assert [reloader.poll() for _ in range(3)] == [[Reloaded(NAME, None)], [], []]
    assert registry.model(NAME).version == "2"


def test_what_changes_between_the_start_and_the_first_look_is_followed(
    repository: Repository, publish_again: Callable[[], int]
) -> None:
    registry = load_registry(repository)
    set_alias(repository, NAME, "stable", publish_again())
    Reloader(Loader(repository), registry).poll()
    assert registry.model(NAME).version == "2"


def test_who_asks_does_not_wait(
    reloader: Reloader, registry: Registry, repository: Repository, publish_again: Callable[[], int]
) -> None:
    set_alias(repository, NAME, "stable", publish_again())
    assert reloader.reload()
    assert registry.model(NAME).version == "2"


def test_a_version_in_memory_is_not_loaded_again(
    reloader: Reloader, registry: Registry, repository: Repository, publish_again: Callable[[], int]
) -> None:
    before = registry.model(NAME)
    set_alias(repository, NAME, "canary", publish_again())
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
def test_aliases_that_cannot_be_followed_leave_what_is_served_with_the_reason(
    damage: str, reloader: Reloader, registry: Registry, repository: Repository
) -> None:
    aliases = repository.root / NAME / "aliases.toml"
    sound = aliases.read_text()
    aliases.write_text(damage)
    assert reloader.reload()
    assert registry.model(NAME).version == "1"
    assert NAME in str(registry.served(NAME).refusal)
    assert not reloader.poll()  # once; it is not tried again at once, while nothing changes
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


def test_an_unloaded_model_stays_away_until_a_load_is_requested(
    reloader: Reloader, registry: Registry, repository: Repository, publish_again: Callable[[], int]
) -> None:
    reloader.unload(NAME)
    assert registry.names() == []
    set_alias(repository, NAME, "stable", publish_again())
    assert [reloader.poll(), reloader.poll(), reloader.reload()] == [[], [], []]
    assert registry.names() == []
    reloader.load(NAME)
    assert registry.model(NAME).version == "2"
    assert not reloader.reload()  # what a load brought is no change any more


def test_an_unloaded_model_whose_load_fails_is_tried_again_when_something_changes(
    reloader: Reloader, registry: Registry, repository: Repository
) -> None:
    aliases = repository.root / NAME / "aliases.toml"
    sound = aliases.read_text()
    reloader.unload(NAME)
    aliases.write_text("stable = 9\n")
    with pytest.raises(LoadFailed, match="alias 'stable' does not name a published version"):
        reloader.load(NAME)
    assert registry.names() == []
    aliases.write_text(sound)
    reloader.reload()
    assert registry.model(NAME).version == "1"


def test_a_load_that_fails_leaves_what_is_served(
    reloader: Reloader, registry: Registry, repository: Repository, publish_again: Callable[[], int]
) -> None:
    version = publish_again()
    (repository.root / NAME / str(version) / "model.onnx").write_bytes(b"")
    set_alias(repository, NAME, "stable", version)
    with pytest.raises(LoadFailed, match=r"2/model\.onnx does not match its sum"):
        reloader.load(NAME)
    assert registry.model(NAME).version == "1"
    assert "does not match its sum" in str(registry.served(NAME).refusal)


@pytest.mark.parametrize("name", ["unknown", "..", "breast-cancer/1", "", "draft-alone"])
def test_what_is_not_published_is_neither_loaded_nor_unloaded(
    name: str, reloader: Reloader, repository: Repository
) -> None:
    create_draft(repository, "draft-alone", draft_files(repository.bundle(NAME, 1)))
    for ask in (reloader.load, reloader.unload):
        with pytest.raises(ModelNotFound, match="no model of that name is published") as raised:
            ask(name)
        assert "breast-cancer" not in raised.value.detail


def test_an_unload_twice_is_an_unload(reloader: Reloader, registry: Registry) -> None:
    reloader.unload(NAME)
    reloader.unload(NAME)
    assert registry.names() == []


def test_a_model_that_is_gone_from_the_disk_is_unloaded_all_the_same(
    reloader: Reloader, registry: Registry, repository: Repository
) -> None:
    shutil.rmtree(repository.root / NAME)
    reloader.unload(NAME)
    assert (registry.names(), reloader.listing()) == ([], [])


def states(reloader: Reloader) -> dict[int, str | None]:
    return {listed.version: listed.reason for listed in reloader.listing()}


def test_the_listing_gives_the_reason_why_a_version_is_not_served(
    reloader: Reloader, repository: Repository, publish_again: Callable[[], int]
) -> None:
    bad, unnamed = publish_again(), publish_again()
    assert states(reloader) == {1: None, bad: "no alias names this version", unnamed: "no alias names this version"}
    (repository.root / NAME / str(bad) / "model.onnx").write_bytes(b"")
    set_alias(repository, NAME, "stable", bad)
    assert "not been loaded yet" in str(states(reloader)[bad])
    reloader.reload()
    found = states(reloader)
    assert found[1] is None
    assert "does not match its sum" in str(found[bad])
    assert found[unnamed] == "no alias names this version"
    (repository.root / NAME / "aliases.toml").write_text("stable = [")
    reloader.reload()
    assert "is not TOML" in str(states(reloader)[unnamed])
    reloader.unload(NAME)
    assert {"unloaded on request" in str(reason) for reason in states(reloader).values()} == {True}


def test_a_retired_version_is_no_longer_served_with_the_reason(
    reloader: Reloader, registry: Registry, repository: Repository, publish_again: Callable[[], int]
) -> None:
    set_alias(repository, NAME, "canary", publish_again())
    reloader.reload()
    retire(repository, NAME, 2)
    assert [bool(reloader.poll()) for _ in range(3)] == [True, False, False]
    assert registry.model(NAME).version == "1"
    with pytest.raises(VersionNotServed, match="is retired"):
        registry.model(NAME, version=2)
    assert {listed.version: listed.reason for listed in reloader.listing()} == {1: None, 2: RETIRED}


def test_a_model_without_any_alias_left_is_no_longer_served_until_one_is_set(
    reloader: Reloader, registry: Registry, repository: Repository
) -> None:
    remove_alias(repository, NAME, "stable")
    reloader.reload()
    assert registry.names() == []
    assert [listed.reason for listed in reloader.listing()] == [UNNAMED]
    with pytest.raises(BundleNotFound, match="none has an alias"):
        load_registry(repository)
    with pytest.raises(LoadFailed, match="aliases were removed"):
        reloader.load(NAME)
    set_alias(repository, NAME, "stable", 1)
    reloader.reload()
    assert registry.names() == [NAME]


def test_a_model_whose_only_version_is_retired_is_gone_and_stays_listed(
    reloader: Reloader, registry: Registry, repository: Repository
) -> None:
    retire(repository, NAME, 1, purge=True)
    reloader.reload()
    assert registry.names() == []
    assert [listed.reason for listed in reloader.listing()] == [RETIRED]

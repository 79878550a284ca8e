import itertools
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.bundle.aliases import Alias
from service.bundle.repository import Bundle, Repository
from service.bundle.writer import create_draft, draft_files, remove_alias, retire, set_alias
from service.errors import BundleDamaged, BundleNotFound, LoadFailed, ManifestInvalid, ModelNotFound, VersionNotServed
from service.runtime.loader import Loader
from service.runtime.registry import Registry, load_registry
from service.runtime.reload import RETIRED, UNNAMED, Reloaded, Reloader
from tests.damaged_versions import DAMAGES, reseal
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


def test_a_load_that_failed_is_tried_again_after_ever_longer_pauses(
    reloader: Reloader, repository: Repository, clock: Clock
) -> None:
    (repository.root / NAME / "aliases.toml").write_text("stable = [")
    assert reloader.poll()
    began, tries = clock.now, []
    while clock.now < began + 400:
        clock.now += 0.5
        if reloader.poll():
            tries.append(clock.now - began)
    pauses = [after - before for before, after in itertools.pairwise([0.0, *tries])]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60]


def test_a_try_that_takes_long_is_repeated_less_often(repository: Repository, registry: Registry, clock: Clock) -> None:
    class Slow(Repository):
        def alias_entries(self, name: str) -> dict[str, Alias]:
            clock.now += 15
            raise BundleDamaged(f"{name} is slow")

    reloader = Reloader(Loader(Slow(repository.root)), registry, clock=clock)
    assert reloader.poll()
    assert not reloader.poll()
    clock.now += 149
    assert not reloader.poll()
    clock.now += 1
    assert reloader.poll()


def test_a_refusal_is_logged_once_and_counts_at_every_try(
    reloader: Reloader, repository: Repository, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    (repository.root / NAME / "aliases.toml").write_text("stable = [")
    tries = 0
    for _ in range(100):
        tries += len(reloader.poll())
        clock.now += 1
    assert tries > 5
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1


@pytest.mark.parametrize("error", [ValueError, MemoryError, RecursionError, PermissionError, KeyError])
def test_an_error_of_any_kind_refuses_one_model_and_others_follow_their_aliases(
    error: type[Exception], repository: Repository, publish_again: Callable[[], int], caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Repository):
        def bundle(self, name: str, version: int) -> Bundle:
            if name == "second" and version == 2:
                raise error("4711")
            return super().bundle(name, version)

    version = publish_again()
    shutil.copytree(repository.root / NAME, repository.root / "second")
    registry = load_registry(repository)
    reloader = Reloader(Loader(Failing(repository.root)), registry)
    for name in (NAME, "second"):
        set_alias(repository, name, "stable", version)
    assert [(one.name, one.refusal is None) for one in reloader.poll()] == [(NAME, True), ("second", False)]
    assert (registry.model(NAME).version, registry.model("second").version) == ("2", "1")
    assert registry.served(NAME).refusal is None
    (line,) = (record for record in caplog.records if record.levelname == "ERROR")
    assert line.exc_info is None
    assert len(line.getMessage().splitlines()) == 1
    set_alias(repository, "second", "stable", 1)
    reloader.poll()
    assert registry.served("second").refusal is None


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_version_that_is_damaged_under_renewed_sums_leaves_the_old_one_and_the_watch(
    damage: str, reloader: Reloader, registry: Registry, repository: Repository, publish_again: Callable[[], int]
) -> None:
    version = publish_again()
    DAMAGES[damage](repository.root / NAME / str(version))
    reseal(repository.root / NAME / str(version))
    set_alias(repository, NAME, "stable", version)
    (reloaded,) = reloader.poll()
    assert reloaded.refusal == registry.served(NAME).refusal
    assert registry.model(NAME).version == "1"
    set_alias(repository, NAME, "stable", publish_again())
    reloader.poll()
    assert registry.model(NAME).version == str(version + 1)


def test_a_repository_that_is_unreadable_for_a_moment_is_followed_again(
    reloader: Reloader, registry: Registry, repository: Repository, publish_again: Callable[[], int], tmp_path: Path
) -> None:
    set_alias(repository, NAME, "stable", publish_again())
    repository.root.rename(tmp_path / "away")
    (reloaded,) = reloader.poll()
    assert reloaded.refusal is not None
    assert registry.model(NAME).version == "1"
    (tmp_path / "away").rename(repository.root)
    assert reloader.poll() == [Reloaded(NAME, None)]
    assert (registry.model(NAME).version, registry.served(NAME).refusal) == ("2", None)


def denied_below(denied: Path, list_folder: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Lists every folder but one."""

    def listed(folder: Any) -> Any:
        if str(folder) == str(denied):
            raise PermissionError(13, "Permission denied", str(folder))
        return list_folder(folder)

    return listed


def test_a_folder_that_cannot_be_listed_refuses_its_model_alone(
    registry: Registry, repository: Repository, publish_again: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(repository.root / NAME, repository.root / "second")
    reloader = Reloader(Loader(repository), registry)
    reloader.poll()
    set_alias(repository, NAME, "stable", publish_again())
    for function in ("scandir", "listdir"):  # root may read everything, so that its mode is no test
        monkeypatch.setattr(os, function, denied_below(repository.root / "second", getattr(os, function)))
    assert [(one.name, one.refusal is None) for one in reloader.poll()] == [(NAME, True), ("second", False)]
    monkeypatch.undo()
    assert reloader.poll() == [Reloaded("second", None)]


def test_a_model_that_was_never_served_is_refused_until_it_is_complete_and_forgotten_when_it_is_gone(
    reloader: Reloader, registry: Registry, repository: Repository
) -> None:
    shutil.copytree(repository.root / NAME, repository.root / "second")
    graph = repository.root / "second" / "1" / "model.onnx"
    graph.rename(repository.root / "graph")
    reloader.poll()
    assert registry.names() == [NAME]
    assert "waiting for version 1" in registry.refused["second"]
    (repository.root / "graph").rename(graph)
    settle(reloader)
    assert (registry.names(), dict(registry.refused)) == ([NAME, "second"], {})
    reloader.unload("second")
    graph.unlink()
    with pytest.raises(LoadFailed, match=r"model\.onnx is missing"):
        reloader.load("second")
    shutil.rmtree(repository.root / "second")
    assert [listed.name for listed in reloader.listing()] == [NAME]
    assert list(registry.refused) == ["second"]  # a listing changes nothing: it runs beside the watch
    reloader.poll()
    assert dict(registry.refused) == {}


def test_a_refused_model_can_be_unloaded_and_loaded(
    reloader: Reloader, registry: Registry, repository: Repository
) -> None:
    shutil.copytree(repository.root / NAME, repository.root / "second")
    aliases = repository.root / "second" / "aliases.toml"
    sound = aliases.read_text()
    aliases.write_text("stable = [")
    reloader.poll()
    assert list(registry.refused) == ["second"]
    reloader.unload("second")
    assert list(registry.refused) == []
    aliases.write_text(sound)
    assert not reloader.poll()
    reloader.load("second")
    assert registry.names() == [NAME, "second"]


def test_a_start_that_is_not_strict_refuses_what_is_damaged_and_the_watch_brings_it_back(
    repository: Repository,
) -> None:
    shutil.copytree(repository.root / NAME, repository.root / "second")
    aliases = repository.root / "second" / "aliases.toml"
    sound = aliases.read_text()
    aliases.write_text("stable = [")
    with pytest.raises(ManifestInvalid, match="is not TOML"):
        load_registry(repository)
    registry = load_registry(repository, strict=False)
    assert (registry.names(), list(registry.refused)) == ([NAME], ["second"])
    reloader = Reloader(Loader(repository), registry)
    aliases.write_text(sound)
    reloader.poll()
    assert (registry.names(), list(registry.refused)) == ([NAME, "second"], [])


def settle(reloader: Reloader) -> None:
    """Two looks: at the second, what has changed looks the same twice."""
    reloader.poll()
    reloader.poll()


@pytest.mark.parametrize("seed", range(20))
def test_a_version_that_arrives_file_by_file_is_served_once_it_is_complete(
    seed: int, reloader: Reloader, registry: Registry, repository: Repository, publish_again: Callable[[], int]
) -> None:
    draw = random.Random(seed)  # noqa: S311  # no secret
    folder = repository.root / NAME / str(publish_again())
    arriving = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    shutil.rmtree(folder)
    parts = [(name, end) for name, content in arriving.items() for end in ends(len(content), draw)]
    names = draw.sample(list(arriving), len(arriving))
    parts.sort(key=lambda part: (names.index(part[0]), part[1]) if seed % 2 else part[1] / len(arriving[part[0]]))
    (folder.parent / "aliases.toml").write_text("stable = 2\n")
    reloader.poll()
    assert "waiting for version 2: " in str(registry.served(NAME).refusal)
    folder.mkdir()
    for name, end in parts:
        settle(reloader)
        assert registry.model(NAME).version == "1"
        assert str(registry.served(NAME).refusal).startswith("waiting for version 2: ")
        (folder / name).write_bytes(arriving[name][:end])
    settle(reloader)
    assert (registry.model(NAME).version, registry.served(NAME).refusal) == ("2", None)


def ends(size: int, draw: random.Random) -> list[int]:
    """Where a file ends as it arrives in one to three parts."""
    return [*sorted(draw.sample(range(1, size), draw.randrange(3))), size]


def test_a_copy_under_way_is_not_read_again_at_every_look(
    reloader: Reloader, repository: Repository, publish_again: Callable[[], int], clock: Clock
) -> None:
    graph = repository.root / NAME / str(publish_again()) / "model.onnx"
    graph.write_bytes(b"")
    set_alias(repository, NAME, "stable", 2)
    tries = 0
    for _ in range(120):  # a minute
        with graph.open("ab") as file:
            file.write(b"more")
        tries += len(reloader.poll())
        clock.now += 0.5
    assert tries == 6  # at once, and after 1, 2, 4, 8, 16 seconds: 32 more are after the minute


def test_links_that_are_exchanged_in_one_step_are_followed(
    tmp_path: Path, repository: Repository, publish_again: Callable[[], int]
) -> None:
    publish_again()
    for generation, stable in (("..one", 1), ("..two", 2)):
        shutil.copytree(repository.root, tmp_path / "volume" / generation)
        (tmp_path / "volume" / generation / NAME / "aliases.toml").write_text(f"stable = {stable}\n")
    shutil.rmtree(tmp_path / "volume" / "..one" / NAME / "2")
    volume = tmp_path / "volume"
    (volume / "..data").symlink_to("..one")
    (volume / NAME).symlink_to(f"..data/{NAME}")
    registry = load_registry(Repository(volume))
    reloader = Reloader(Loader(Repository(volume)), registry)
    (volume / "..data_tmp").symlink_to("..two")
    (volume / "..data_tmp").rename(volume / "..data")
    shutil.rmtree(volume / "..one")
    reloader.poll()
    assert (registry.model(NAME).version, registry.served(NAME).refusal) == ("2", None)

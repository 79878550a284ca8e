import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from service.bundle.repository import Repository
from service.bundle.writer import set_alias
from service.errors import BundleNotFound
from service.runtime.last_served import LastServed, ServedState, load_as_others
from service.runtime.loader import Loader
from service.runtime.registry import Registry, load_registry
from service.runtime.reload import Reloader

NAME = "breast-cancer"
BROKEN_ALIASES = ["stable = [", "stable = 9\n", f"stable = {'[' * 100_000}", ""]


@pytest.fixture
def last(tmp_path: Path, repository: Repository) -> LastServed:
    """What a service wrote down that started with the shipped models."""
    folder = tmp_path / "shared"
    folder.mkdir()
    last = LastServed(folder)
    last.keep_all(load_registry(repository))
    return last


def test_what_is_served_is_read_as_it_was_written(last: LastServed) -> None:
    assert last.states() == {NAME: ServedState({"stable": 1}, None)}


@pytest.mark.parametrize("broken", BROKEN_ALIASES)
def test_a_worker_that_is_replaced_serves_what_the_others_serve_with_the_reason(
    broken: str, last: LastServed, repository: Repository
) -> None:
    (repository.root / NAME / "aliases.toml").write_text(broken)
    with pytest.raises(Exception, match=NAME):
        load_registry(repository)
    registry = load_as_others(repository, last)
    assert registry.model(NAME).version == "1"
    assert NAME in str(registry.served(NAME).refusal)


def test_without_a_fault_it_serves_what_the_aliases_name_now(
    last: LastServed, repository: Repository, publish_again: Callable[[], int]
) -> None:
    set_alias(repository, NAME, "stable", publish_again())
    registry = load_as_others(repository, last)
    assert registry.model(NAME).version == "2"
    assert registry.served(NAME).refusal is None


def test_a_refusal_of_the_others_is_not_tried_before_the_worker_serves(
    last: LastServed, repository: Repository, publish_again: Callable[[], int]
) -> None:
    registry = load_registry(repository)
    registry.refuse(NAME, "it took 15 s")
    last.keep(registry, NAME)
    set_alias(repository, NAME, "stable", publish_again())
    replaced = load_as_others(repository, last)
    assert (replaced.model(NAME).version, replaced.served(NAME).refusal) == ("1", "it took 15 s")
    Reloader(Loader(repository), replaced, last=last).poll()
    assert replaced.model(NAME).version == "2"
    assert last.states() == {NAME: ServedState({"stable": 2}, None)}


def test_versions_whose_files_are_gone_are_refused_and_the_rest_is_served(
    last: LastServed, repository: Repository, publish_again: Callable[[], int]
) -> None:
    set_alias(repository, NAME, "canary", publish_again())
    last.keep_all(load_registry(repository))
    shutil.rmtree(repository.root / NAME / "2")
    registry = load_as_others(repository, last)
    assert registry.served(NAME).aliases == {"stable": 1}
    assert "canary" in str(registry.served(NAME).refusal)
    shutil.rmtree(repository.root / NAME / "1")
    assert list(load_as_others(repository, last).refused) == [NAME]


def test_a_model_that_others_refuse_is_refused(last: LastServed, repository: Repository) -> None:
    last.keep(Registry({}, {"second": "it is damaged"}), "second")
    assert load_as_others(repository, last).refused == {"second": "it is damaged"}


def test_a_model_that_is_served_no_longer_is_forgotten(last: LastServed) -> None:
    last.keep(Registry({}), NAME)
    assert last.states() == {}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"aliases": {}}', '{"other": 1}', "null"])
def test_a_damaged_file_is_as_none(text: str, last: LastServed, repository: Repository) -> None:
    (path,) = last.folder.rglob("*.json")
    path.write_text(text)
    assert last.states() == {}
    assert load_as_others(repository, last).model(NAME).version == "1"


def test_a_folder_that_is_gone_is_logged_and_stops_nothing(
    last: LastServed, repository: Repository, caplog: pytest.LogCaptureFixture
) -> None:
    registry = load_registry(repository)
    shutil.rmtree(last.folder)
    last.keep(registry, NAME)
    assert "could not be written down" in caplog.text


def test_nothing_at_all_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleNotFound, match="no model is published"):
        load_as_others(Repository(tmp_path / "empty"), LastServed(tmp_path))


def test_a_file_is_written_in_one_step(last: LastServed) -> None:
    (path,) = last.folder.rglob("*.json")
    assert json.loads(path.read_text()) == {"aliases": {"stable": 1}, "refusal": None}
    assert [file.name for file in path.parent.iterdir()] == [path.name]

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from service.bundle.repository import Bundle, Repository
from service.bundle.writer import remove_alias
from service.errors import BundleNotFound, LoadFailed, ServiceError
from service.runtime.loader import LONGEST_REASON, Loader, Served, Withdrawn
from service.runtime.proofs import Proofs
from tests.damaged_versions import DAMAGES, reseal

NAME = "breast-cancer"


class Refusing(Proofs):
    """Refuses versions by name, and keeps what it was given."""

    def __init__(self, refused: Mapping[str, str]) -> None:
        super().__init__()
        self.refused = refused
        self.given: list[list[tuple[str, int | None]]] = []

    def refusals(self, repository: Repository, versions: Iterable[Any]) -> dict[Any, str]:
        del repository
        self.given.append(list(versions))
        return {one: self.refused[one[0]] for one in self.given[-1] if one[0] in self.refused}


class Failing(Repository):
    """Fails while it reads the versions of one model."""

    def __init__(self, root: Path, error: Exception) -> None:
        super().__init__(root)
        self.error = error

    def bundle(self, name: str, version: int) -> Bundle:
        if name == "second":
            raise self.error
        return super().bundle(name, version)


@pytest.fixture
def two_models(repository: Repository) -> Repository:
    """The shipped model under two names."""
    shutil.copytree(repository.root / NAME, repository.root / "second")
    return repository


def test_all_new_versions_are_proven_at_once_before_any_is_loaded(two_models: Repository) -> None:
    proofs = Refusing({"second": "it never ends"})
    outcomes = Loader(two_models, 1, proofs).outcomes([NAME, "second"], {})
    assert proofs.given == [[(NAME, 1), ("second", 1)]]
    assert isinstance(outcomes[NAME], Served)
    assert isinstance(outcomes["second"], LoadFailed)
    assert str(outcomes["second"]) == "it never ends"


def test_what_is_in_memory_is_neither_proven_nor_loaded_again(two_models: Repository) -> None:
    proofs = Refusing({})
    first = Loader(two_models, 1, proofs).outcomes([NAME], {})[NAME]
    assert isinstance(first, Served)
    second = Loader(two_models, 1, proofs).outcomes([NAME], {NAME: first.models})[NAME]
    assert second == first
    assert len(proofs.given) == 1


def test_a_proof_that_fails_is_the_outcome_of_what_was_to_be_proven(two_models: Repository) -> None:
    class Broken(Proofs):
        def refusals(self, repository: Repository, versions: Iterable[Any]) -> dict[Any, str]:
            raise ValueError(f"a value of {repository} {versions}")

    outcomes = Loader(two_models, 1, Broken()).outcomes([NAME], {})
    assert "(ValueError)" in str(outcomes[NAME])
    assert "a value" not in str(outcomes[NAME])


@pytest.mark.parametrize("error", [ValueError, MemoryError, RecursionError, KeyError, OSError, ZeroDivisionError])
def test_an_error_of_any_kind_is_the_outcome_of_its_model_alone(error: type[Exception], two_models: Repository) -> None:
    loader = Loader(Failing(two_models.root, error("4711")))
    outcomes = loader.outcomes([NAME, "second"], {})
    assert isinstance(outcomes[NAME], Served)
    assert isinstance(outcomes["second"], error)


@pytest.mark.parametrize("error", [ValueError("4711\n4711"), MemoryError(), KeyError("4711"), RecursionError("4711")])
def test_an_error_that_nothing_foresaw_states_its_kind_and_its_model_in_one_line(
    error: Exception, repository: Repository
) -> None:
    reason = Loader(repository).reason(NAME, error)
    assert type(error).__name__ in reason
    assert str(repository.root / NAME) in reason
    assert "4711" not in reason
    assert len(reason.splitlines()) == 1


def test_a_reason_is_one_line_of_bounded_length(repository: Repository) -> None:
    reason = Loader(repository).reason(NAME, ServiceError("first\nsecond\r\n" + "x" * 10_000))
    assert reason.startswith("first second x")
    assert len(reason) == LONGEST_REASON


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damage_under_renewed_sums_is_refused_in_one_line_and_is_not_waited_for(
    damage: str, repository: Repository
) -> None:
    DAMAGES[damage](repository.root / NAME / "1")
    reseal(repository.root / NAME / "1")
    loader = Loader(repository)
    outcome = loader.outcomes([NAME], {})[NAME]
    assert isinstance(outcome, Exception)
    reason = loader.reason(NAME, outcome)
    assert len(reason.splitlines()) == 1
    assert str(repository.root / NAME) in reason
    assert "waiting" not in reason


def test_what_is_incomplete_is_waited_for(repository: Repository) -> None:
    loader, version = Loader(repository), repository.root / NAME / "1"
    (version / "SHA256SUMS").rename(version.parent / "sums")
    outcome = loader.outcomes([NAME], {})[NAME]
    assert isinstance(outcome, Exception)
    assert loader.reason(NAME, outcome) == f"waiting for version 1: {version / 'SHA256SUMS'} is missing"


def test_a_model_without_any_alias_left_is_withdrawn_and_one_without_a_list_is_an_error(two_models: Repository) -> None:
    remove_alias(two_models, NAME, "stable")
    (two_models.root / "second" / "aliases.toml").unlink()
    outcomes = Loader(two_models).outcomes([NAME, "second"], {})
    assert outcomes[NAME] == Withdrawn()
    assert isinstance(outcomes["second"], BundleNotFound)
    assert "has versions but no alias" in str(outcomes["second"])


def test_versions_that_others_serve_are_loaded_where_they_can_be(two_models: Repository) -> None:
    found = Loader(two_models).loadable({NAME: {"stable": 1, "canary": 9}, "second": {"stable": 9}})
    assert (found[NAME].aliases, list(found[NAME].models)) == ({"stable": 1}, [1])
    assert (found["second"].aliases, found["second"].models) == ({}, {})


@pytest.mark.parametrize("text", ["stable = 3\nold = 1\n", "stable = 3\ntwice = 3\nold = 1\nno = true\nnot = -1\n"])
def test_aliased_versions_are_read_whether_or_not_they_exist(text: str, repository: Repository) -> None:
    (repository.root / NAME / "aliases.toml").write_text(text)
    assert Loader(repository).aliased(NAME) == [1, 3]


@pytest.mark.parametrize("text", ["stable = [", f"stable = {'[' * 100_000}", "", f"{'.'.join('a' * 100_000)} = 1"])
def test_aliases_that_cannot_be_read_name_no_version(text: str, repository: Repository) -> None:
    (repository.root / NAME / "aliases.toml").write_text(text)
    assert Loader(repository).aliased(NAME) == []

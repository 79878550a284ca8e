"""`temperance pull` as people and programs see it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import Result

from service.bundle.repository import Repository
from tests.cli.printed import SHIPPED, printed_json

DIGEST = "sha256:"


def test_a_pull_prints_what_came_and_which_aliases_are_set(
    invoke: Callable[..., Result], repository: Repository, tmp_path: Path
) -> None:
    models = ("--models", tmp_path / "here")
    first = invoke("pull", repository.root, SHIPPED, *models)
    assert f"{SHIPPED} version 1: pulled, sha256:" in first.stdout
    assert f"{SHIPPED}: aliases set: stable = 1" in first.stdout
    again = invoke("pull", repository.root, *models)
    assert f"{SHIPPED} version 1: was here already, sha256:" in again.stdout
    assert f"{SHIPPED}: aliases left as they are: stable = 1" in again.stdout
    assert (first.stderr, again.stderr) == ("", "")


def test_aliases_of_the_source_that_differ_are_printed_with_the_commands_that_change_them(
    invoke: Callable[..., Result], repository: Repository, publish_again: Callable[[], int], tmp_path: Path
) -> None:
    models = ("--models", tmp_path / "here")
    assert invoke("pull", repository.root, *models).exit_code == 0
    publish_again()
    assert invoke("alias", SHIPPED, "stable", "2", "--models", repository.root).exit_code == 0
    printed = invoke("pull", repository.root, *models).stdout
    assert "note: the source has other aliases of breast-cancer; --aliases set takes them" in printed
    found: Any = printed_json(invoke("pull", repository.root, *models, "--aliases", "set", "--json"))
    digests = [version["digest"] for version in found["models"][0].pop("versions")]
    assert all(digest.startswith(DIGEST) for digest in digests)
    assert found["models"] == [{"name": SHIPPED, "aliases": {"stable": 2}, "aliases_set": True, "differ": False}]


def test_a_version_that_does_not_load_gets_no_alias_where_it_is_verified(
    fails: Callable[..., str], repository: Repository, tmp_path: Path
) -> None:
    from tests.damaged_versions import reseal

    version = repository.root / SHIPPED / "1"
    (version / "model.onnx").write_bytes(b"no graph")
    for name in ("calibration.json", "state.npz"):
        (version / name).unlink()
    reseal(version)
    assert "1" in fails("pull", repository.root, "--verify", "--models", tmp_path / "here")
    here = Repository(tmp_path / "here")
    assert (here.versions(SHIPPED), here.aliases(SHIPPED)) == ([1], {})


def test_bad_usage_and_bad_sources_end_with_one_line(
    invoke: Callable[..., Result], fails: Callable[..., str], tmp_path: Path
) -> None:
    models = ("--models", tmp_path)
    assert invoke("pull", tmp_path, "--digest", "sha256:1", *models).exit_code == 2
    assert "NAME or NAME/VERSION" in fails("pull", tmp_path, "../x", *models)
    assert "holds no model" in fails("pull", tmp_path, *models)
    assert "begins with one of https://" in fails("pull", "gopher://x", *models)

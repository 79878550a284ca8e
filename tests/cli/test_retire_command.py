from collections.abc import Callable
from typing import Any

from click.testing import Result

from service.bundle.repository import Repository
from tests.cli.printed import SHIPPED, printed_json


def test_a_version_is_retired_and_an_alias_removed_by_command(
    invoke: Callable[..., Result], fails: Callable[..., str], repository: Repository, publish_again: Callable[[], int]
) -> None:
    models = ("--models", repository.root)
    assert publish_again() == 2
    assert invoke("alias", SHIPPED, "canary", "2", *models).exit_code == 0
    gone = invoke("retire", SHIPPED, "2", "--purge", *models)
    assert "version 2 is retired: its weights are deleted." in gone.stdout
    assert "Removed alias: canary." in gone.stdout
    assert "retired versions: 2" in invoke("inspect", SHIPPED, *models).stdout
    assert "retired 2" in invoke("list", *models).stdout
    listed: Any = printed_json(invoke("list", *models, "--json"))
    assert listed["models"][0]["retired"] == [2]
    assert "version 2: retired, manifest and record match" in invoke("verify", SHIPPED, *models).stdout
    for verb in (("alias", SHIPPED, "stable", "2"), ("evaluate", SHIPPED, "--data", "x.csv", "--version", "2")):
        assert "is retired" in fails(*verb, *models)
    removed = invoke("alias", SHIPPED, "stable", "--remove", *models)
    assert f"`temperance alias {SHIPPED} stable VERSION --models {repository.root}`" in removed.stdout
    seen = invoke("inspect", SHIPPED, *models)
    assert seen.exit_code == 0
    assert "versions 1; no alias; retired 2" in seen.stdout
    assert f"`temperance alias {SHIPPED} stable VERSION --models {repository.root}`" in seen.stdout
    assert invoke("retire", SHIPPED, "1", *models).exit_code == 0
    standing: Any = printed_json(invoke("inspect", SHIPPED, "--json", *models))
    assert standing == {"name": SHIPPED, "versions": [], "aliases": {}, "retired": [1, 2]}
    assert "is no model (models here" in fails("inspect", "absent", *models)
    assert invoke("alias", SHIPPED, "stable", *models).exit_code == 2
    assert invoke("alias", SHIPPED, "stable", "1", "--remove", *models).exit_code == 2

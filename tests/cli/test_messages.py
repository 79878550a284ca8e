import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from service.bundle.repository import Repository
from tests.cli.printed import IDENTITY, SHIPPED

DEAR = """
[policies.p.costs]
go = { "0" = 0, "1" = 5 }
stay = { "0" = 1, "1" = 6 }
"""


@pytest.mark.parametrize("verb", ["publish", "fit"])
def test_an_action_that_costs_never_choose_is_warned_about_beside_the_output(
    verb: str,
    invoke: Callable[..., Result],
    linear_graph: Callable[..., Path],
    rows: Callable[..., Path],
    tmp_path: Path,
) -> None:
    models = ("--models", tmp_path / "models")
    invoke("import", linear_graph(*IDENTITY), "--name", "m", "--output-kind", "logits", *models)
    manifest = tmp_path / "models" / "m" / "draft" / "manifest.toml"
    manifest.write_text(manifest.read_text() + DEAR)
    done = invoke(verb, "m", *(("--data", rows("cal")) if verb == "fit" else ()), "--json", *models)
    assert json.loads(done.stdout)["version"] == 1
    assert done.stderr == "warning: policy 'p': action 'stay' is never taken: 'go' costs no more in any class\n"


def test_commands_in_messages_name_the_repository_that_was_named(
    invoke: Callable[..., Result], fails: Callable[..., str], repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"--models {repository.root}`"
    assert place in fails("fit", SHIPPED, "--data", "x.csv", "--models", repository.root)
    monkeypatch.setenv("TEMPERANCE_MODELS", str(repository.root))
    assert "--models" not in fails("fit", SHIPPED, "--data", "x.csv")
    assert invoke("draft", SHIPPED).exit_code == 0
    assert "--force" in fails("draft", SHIPPED)
    assert invoke("draft", SHIPPED, "--force").exit_code == 0
    published = invoke("publish", SHIPPED)
    assert f"aliases: stable = 1): `temperance alias {SHIPPED} stable 2` deploys it" in published.stdout

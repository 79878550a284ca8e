from collections.abc import Callable

from click.testing import Result

from service.bundle.repository import Repository
from tests.cli.printed import SHIPPED


def test_a_draft_in_the_way_is_not_overwritten_by_another_draft(
    repository: Repository, fails: Callable[..., str], invoke: Callable[..., Result]
) -> None:
    assert invoke("draft", SHIPPED, "--models", repository.root).exit_code == 0
    assert "may hold edits" in fails("draft", SHIPPED, "--models", repository.root)

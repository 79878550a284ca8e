from collections.abc import Callable

from click.testing import Result

from service.bundle.repository import Repository
from tests.cli.printed import SHIPPED, printed_json


def test_inspect_says_what_the_state_of_scores_takes(invoke: Callable[..., Result], repository: Repository) -> None:
    models = ("--models", repository.root)
    sizes = printed_json(invoke("inspect", SHIPPED, *models, "--json"))["state_bytes"]
    assert set(sizes) == {"nll", "mahalanobis"}  # type: ignore[call-overload]
    total = sum(sizes.values()) / 2**20  # type: ignore[attr-defined]
    assert f"state of scores: {total:.2f} MiB of at most 32 (nll " in invoke("inspect", SHIPPED, *models).output

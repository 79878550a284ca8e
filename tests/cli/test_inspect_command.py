from collections.abc import Callable

from click.testing import Result

from service.bundle.repository import Repository
from service.fitting.publish import publish_draft
from tests.cli.printed import SHIPPED, printed_json


def test_inspect_says_what_the_state_of_scores_takes(invoke: Callable[..., Result], repository: Repository) -> None:
    models = ("--models", repository.root)
    sizes = printed_json(invoke("inspect", SHIPPED, *models, "--json"))["state_bytes"]
    assert set(sizes) == {"nll", "mahalanobis"}  # type: ignore[call-overload]
    total = sum(sizes.values()) / 2**20  # type: ignore[attr-defined]
    assert f"state of scores: {total:.2f} MiB of at most 32 (nll " in invoke("inspect", SHIPPED, *models).output


def test_inspect_names_the_training_loss_and_its_inverse(
    invoke: Callable[..., Result], repository: Repository, toy: Callable[..., Repository]
) -> None:
    printed = invoke("inspect", SHIPPED, "--models", repository.root).output
    assert "training: cross_entropy, prevalence\n" in printed
    focal = toy(2, '[training]\nloss = "focal"\ngamma = 2.0\n')
    publish_draft(focal, "toy")
    assert (
        "training: focal, gamma 2, its inverse is not applied\n"
        in invoke("inspect", "toy", "--models", focal.root).output
    )
    as_json = printed_json(invoke("inspect", "toy", "--models", focal.root, "--json"))
    assert as_json["inverse"] == {"name": "focal", "applied": False, "labels": None}


def test_inspect_says_that_training_is_not_declared(
    invoke: Callable[..., Result], toy: Callable[..., Repository]
) -> None:
    repository = toy(2)
    publish_draft(repository, "toy")
    assert "training: not declared\n" in invoke("inspect", "toy", "--models", repository.root).output

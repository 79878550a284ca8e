from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.torch_threads import on_one_thread
from tests.training.small_images import bars_of_light, lying

if TYPE_CHECKING:
    from service.evaluation.evaluate import Evaluation


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Of every network in the test."""
    with on_one_thread():
        yield


@pytest.fixture(scope="session")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> "Evaluation":
    """A published network on small images, evaluated beside images of another kind."""
    pytest.importorskip("torch")
    from service.training.image_networks import fully_connected  # needs torch
    from service.training.loop import Settings, train
    from service.training.objectives import LabelSmoothing
    from service.training.publication import Declaration, evaluation_of, publish_trained

    rows = bars_of_light()
    start, settings = fully_connected(rows.inputs, 3, features=8), Settings(epochs=4, learning_rate=0.01)
    trained = train(start, LabelSmoothing(0.2), rows, bars_of_light(60, seed=1), settings)
    ood = {"scores": ["nll", "energy", "mahalanobis"], "space": "features", "gate": ["mahalanobis"]}
    classes, outputs = ("left", "middle", "right"), ("logits", "features")
    declaration = Declaration("bars", "A bar of light", classes, outputs=outputs, sections={"ood": ood})
    held = bars_of_light(200, seed=2)
    models = tmp_path_factory.mktemp("models")
    model = publish_trained(trained, declaration, models=models, calibration=held, train=rows)
    return evaluation_of(model, bars_of_light(200, seed=3), ood=lying())

from typing import Any

import numpy as np
import onnxruntime
import pytest

torch: Any = pytest.importorskip("torch")

from service.training.export import export
from service.training.image_networks import convolutional, fully_connected
from service.training.loop import Settings, train
from service.training.objectives import CrossEntropy
from service.training.ood_comparison import logits_and_features
from tests.training.small_images import bars_of_light

pytestmark = pytest.mark.usefixtures("one_thread")
NETWORKS = {"convolutional": convolutional, "fully connected": fully_connected}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_logits_are_the_last_layer_of_the_features(name):
    rows = bars_of_light(20)
    network = NETWORKS[name](rows.inputs, 3, features=6)
    logits, features = logits_and_features(network, rows.inputs)
    assert features.shape == (20, 6)
    head = network.head
    expected = features @ head.weight.detach().double().numpy().T + head.bias.detach().double().numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_seed_gives_the_same_initial_weights_and_leaves_torch_as_it_was(name):
    rows = bars_of_light(20)
    torch.manual_seed(5)
    first, second, other = (NETWORKS[name](rows.inputs, 3, seed=seed) for seed in (1, 1, 2))
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))
    pairs = [
        [torch.equal(a, b) for a, b in zip(first.parameters(), one.parameters(), strict=True)]
        for one in (second, other)
    ]
    assert all(pairs[0])
    assert not any(pairs[1])


@pytest.mark.parametrize("name", NETWORKS)
def test_brightness_and_contrast_of_the_training_images_do_not_matter(name):
    images = bars_of_light(20).inputs
    plain, dim = NETWORKS[name](images, 3), NETWORKS[name](0.1 * images + 0.5, 3)
    np.testing.assert_allclose(
        logits_and_features(plain, images)[0], logits_and_features(dim, 0.1 * images + 0.5)[0], atol=1e-4
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_the_exported_graph_gives_both_outputs_for_batches_of_every_size(name, tmp_path):
    rows = bars_of_light(7)
    network = NETWORKS[name](rows.inputs, 3, features=6)
    export(network, tmp_path / "graph.onnx", rows.inputs, outputs=("logits", "features"))
    session = onnxruntime.InferenceSession(tmp_path / "graph.onnx", providers=["CPUExecutionProvider"])
    expected = logits_and_features(network, rows.inputs)
    for size in (1, 7):
        found = session.run(["logits", "features"], {"x": rows.inputs[:size]})
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other[:size], atol=1e-5)


def test_both_networks_learn_where_the_light_is():
    rows, validation = bars_of_light(), bars_of_light(60, seed=1)
    for network in (convolutional(rows.inputs, 3, features=8), fully_connected(rows.inputs, 3)):
        trained = train(network, CrossEntropy(), rows, validation, Settings(epochs=8, batch=32, learning_rate=0.01))
        assert (trained.outputs(validation.inputs).argmax(axis=1) == validation.labels).mean() > 0.9

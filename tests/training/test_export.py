import logging
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

torch: Any = pytest.importorskip("torch")

from service.training.export import export
from service.training.loop import outputs_of
from service.training.networks import mlp
from tests.training.problems import blobs, chains

BATCHES = (1, 7, 300)


def answers(path, rows):
    session = onnxruntime.InferenceSession(path)
    return session.run(None, {session.get_inputs()[0].name: rows})


class Image(torch.nn.Module):
    """A small convolution, its features beside its logits."""

    def __init__(self):
        super().__init__()
        self.seen = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(2))
        self.normal, self.head = torch.nn.BatchNorm1d(16), torch.nn.Linear(16, 3)

    def forward(self, inputs):
        features = self.normal(self.seen(inputs).flatten(1))
        return self.head(features), features


class Tagger(torch.nn.Module):
    """A convolution along sequences, three classes at every position."""

    def __init__(self):
        super().__init__()
        self.along, self.head = torch.nn.Conv1d(2, 6, 3, padding=1), torch.nn.Linear(6, 3)

    def forward(self, inputs):
        return self.head(torch.relu(self.along(inputs.transpose(1, 2))).transpose(1, 2))


class Tokens(torch.nn.Module):
    """A mean of embeddings: inputs are whole numbers."""

    def __init__(self):
        super().__init__()
        self.words, self.head = torch.nn.Embedding(50, 6), torch.nn.Linear(6, 3)

    def forward(self, inputs):
        return self.head(self.words(inputs).mean(dim=1))


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    network = mlp(blobs(), 3, hidden=(8,), dropout=0.5)
    path = tmp_path_factory.mktemp("table") / "model.onnx"
    export(network, path, blobs().inputs, inputs=("rows",))
    return network, path


def test_the_graph_of_a_table_answers_what_the_network_answers_at_any_batch(table):
    network, path = table
    for rows in BATCHES:
        inputs = blobs(rows).inputs
        (found,) = answers(path, inputs)
        np.testing.assert_allclose(found, outputs_of(network, inputs), atol=1e-5)


def test_tensors_have_their_names_and_the_batch_is_open(table):
    graph = onnx.load(table[1]).graph
    assert [tensor.name for tensor in graph.input] == ["rows"]
    assert [tensor.name for tensor in graph.output] == ["logits"]
    batch, columns = graph.input[0].type.tensor_type.shape.dim
    assert (batch.dim_param, columns.dim_value) == ("batch", 4)


def test_it_is_one_file_without_external_data(table):
    path = table[1]
    assert [found.name for found in path.parent.iterdir()] == ["model.onnx"]
    assert not any(tensor.external_data for tensor in onnx.load(path, load_external_data=False).graph.initializer)


def test_the_file_names_no_path_of_the_machine_that_made_it(table):
    model = onnx.load(table[1])
    for weights in model.graph.initializer:
        weights.ClearField("raw_data")
    assert b"/" not in model.SerializeToString()


def test_the_exporter_says_nothing_and_loggers_are_as_before(table, tmp_path, caplog, capfd):
    log = logging.getLogger("torch.onnx._internal.exporter._registration")
    with caplog.at_level(logging.WARNING):
        export(table[0], tmp_path / "model.onnx", blobs().inputs)
    assert not log.disabled
    assert (caplog.text, *capfd.readouterr()) == ("", "", "")


def test_images_answer_logits_and_features(tmp_path):
    network, rng = Image(), np.random.default_rng(0)
    images = rng.normal(size=(300, 1, 8, 8)).astype(np.float32)
    network(torch.from_numpy(images))  # moves the running means of the normalisation away from zero
    export(network, tmp_path / "model.onnx", images, outputs=("logits", "features"))
    for rows in BATCHES:
        found = answers(tmp_path / "model.onnx", images[:rows])
        expected = network.eval()(torch.from_numpy(images[:rows]))
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs.detach().numpy(), atol=1e-5)


def test_sequences_have_any_length_too(tmp_path):
    network = Tagger()
    export(network, tmp_path / "model.onnx", chains().inputs, dynamic=("batch", "length"))
    for rows, length in zip(BATCHES, (1, 5, 40), strict=True):
        inputs = chains(rows, length=length).inputs
        (found,) = answers(tmp_path / "model.onnx", inputs)
        np.testing.assert_allclose(found, outputs_of(network, inputs), atol=1e-5)


def test_inputs_may_be_whole_numbers(tmp_path):
    network, tokens = Tokens(), np.random.default_rng(0).integers(0, 50, (300, 9))
    export(network, tmp_path / "model.onnx", tokens)
    for rows in BATCHES:
        (found,) = answers(tmp_path / "model.onnx", tokens[:rows])
        np.testing.assert_allclose(found, outputs_of(network, tokens[:rows]), atol=1e-5)

from typing import Any

import numpy as np
import pytest

torch: Any = pytest.importorskip("torch")

from service.core.numerics import log_softmax
from service.errors import ServiceError
from service.training.example_sets import Examples
from service.training.failures import MissingData, TrainingFailed
from service.training.loop import Settings, Trained, outputs_of, train, validation_log_loss
from service.training.networks import mlp
from service.training.objectives import (
    CrossEntropy,
    LabelSmoothing,
    Mixup,
    MultilabelCrossEntropy,
    SequenceCrossEntropy,
    Weighted,
)
from tests.training.problems import blobs, chains, flags

pytestmark = pytest.mark.usefixtures("one_thread")

PLAIN = CrossEntropy()
QUICK = Settings(epochs=6, batch=64, learning_rate=0.02)


def trained(objective=PLAIN, settings=QUICK, *, seed=0, dropout=0.0, **options) -> Trained:
    """A small network on the blobs; its initial weights are always the same."""
    rows = blobs()
    network = mlp(rows, 3, hidden=(8,), dropout=dropout)
    return train(network, objective, rows, blobs(100, seed=1), settings, seed=seed, **options)


@pytest.mark.parametrize("objective", [CrossEntropy(), Mixup(0.2)], ids=str)
def test_a_seed_gives_one_network_and_another_seed_another(objective):
    torch.manual_seed(11)
    first = trained(objective, dropout=0.2)
    torch.manual_seed(12)
    again, other = trained(objective, dropout=0.2), trained(objective, seed=1, dropout=0.2)
    rows = blobs(20, seed=2).inputs
    np.testing.assert_array_equal(first.outputs(rows), again.outputs(rows))
    assert first.history == again.history
    assert np.abs(first.outputs(rows) - other.outputs(rows)).max() > 1e-3


def test_draws_outside_of_a_run_go_on_as_if_there_were_none():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    trained()
    assert torch.equal(torch.rand(3), expected)


def test_it_learns_the_blobs_nearly_as_well_as_is_possible():
    rows, test = blobs(2000), blobs(2000, seed=3)
    found = train(mlp(rows, 3, hidden=(8,)), CrossEntropy(), rows, blobs(300, seed=1), QUICK)
    outputs = found.outputs(test.inputs)
    logits = 2.0 * test.inputs[:, :3]  # the logits of Bayes' rule for blobs of variance one at distance two
    best = validation_log_loss(CrossEntropy(), logits.astype(np.float64), test.labels)
    assert validation_log_loss(CrossEntropy(), outputs, test.labels) < best + 0.03


def test_the_network_is_that_of_the_epoch_with_the_lowest_validation_log_loss():
    found = trained(settings=Settings(epochs=30, batch=16, learning_rate=0.1, patience=30))
    losses = [epoch.validation_log_loss for epoch in found.history]
    assert found.best_epoch == int(np.argmin(losses)) < len(losses) - 1  # it goes on to overfit
    validation = blobs(100, seed=1)
    measured = validation_log_loss(CrossEntropy(), found.outputs(validation.inputs), validation.labels)
    assert measured == pytest.approx(min(losses), rel=1e-9)
    assert not found.network.training


def test_a_run_ends_when_no_epoch_was_better_for_a_while():
    found = trained(settings=Settings(epochs=200, batch=16, learning_rate=0.1, patience=3))
    assert len(found.history) == found.best_epoch + 4 < 200


def test_the_learning_rate_falls_to_zero_along_a_cosine(monkeypatch):
    rates = []

    class Watched(torch.optim.AdamW):
        def step(self, *arguments, **options):
            rates.append(self.param_groups[0]["lr"])
            return super().step(*arguments, **options)

    monkeypatch.setattr(torch.optim, "AdamW", Watched)
    trained(settings=Settings(epochs=4, batch=100, learning_rate=0.01))
    expected = 0.005 * (1.0 + np.cos(np.pi * np.arange(12) / 12))
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


def test_progress_goes_over_the_epochs():
    seen: list[int] = []

    def track(numbers):
        for number in numbers:
            seen.append(number)
            yield number

    trained(track=track)
    assert seen == list(range(6))


# ------------------------------------------------------------------------------------------- what validation looks at


def test_validation_looks_at_the_posterior_after_the_declared_inverse():
    posteriors = np.array([[0.9, 0.1], [0.3, 0.7]])
    labels = np.array([0, 1])
    expected = -np.log([0.9, 0.7]).mean()
    weighted = posteriors * np.array([1.0, 9.0])
    smoothed = 0.9 * posteriors + 0.05
    for objective, outputs in ((CrossEntropy(), posteriors), (Weighted((1.0, 9.0)), weighted)):
        assert validation_log_loss(objective, np.log(outputs), labels) == pytest.approx(expected)
    assert validation_log_loss(LabelSmoothing(0.1), np.log(smoothed), labels) == pytest.approx(expected)
    assert validation_log_loss(CrossEntropy(), np.log(smoothed), labels) != pytest.approx(expected)


def test_validation_counts_labels_and_unpadded_positions_alike():
    odds = np.array([[0.0, 2.0], [1.0, -1.0]])
    expected = np.log1p(np.exp([[0.0, -2.0], [1.0, -1.0]])).mean()
    assert validation_log_loss(MultilabelCrossEntropy(), odds, np.array([[1, 1], [0, 0]])) == pytest.approx(expected)
    logits, labels = np.random.default_rng(0).normal(size=(2, 3, 4)), np.array([[1, 2, -1], [3, -1, -1]])
    log_probs = log_softmax(logits.reshape(-1, 4)).reshape(logits.shape)
    expected = -np.mean([log_probs[0, 0, 1], log_probs[0, 1, 2], log_probs[1, 0, 3]])
    assert validation_log_loss(SequenceCrossEntropy(1.0), logits, labels) == pytest.approx(expected)


# ----------------------------------------------------------------------------------------------------------- outputs


class Two(torch.nn.Module):
    """Logits, and the features below them."""

    def __init__(self):
        super().__init__()
        self.features, self.head = torch.nn.Linear(4, 5), torch.nn.Linear(5, 3)

    def forward(self, inputs):
        features = torch.relu(self.features(inputs))
        return self.head(features), features


def test_a_network_may_answer_features_beside_its_logits():
    found = train(Two(), CrossEntropy(), blobs(), blobs(50, seed=1), Settings(epochs=2))
    assert found.outputs(blobs().inputs).shape == (300, 3)


def test_outputs_are_double_whatever_the_number_of_rows():
    rows = blobs(2500).inputs
    network = mlp(blobs(), 3)
    outputs = outputs_of(network, rows)
    assert outputs.dtype == np.float64
    np.testing.assert_allclose(outputs[2400:], outputs_of(network, rows[2400:]), atol=1e-6)


@pytest.mark.parametrize(
    ("rows", "objective", "network", "expected"),
    [
        (blobs(), CrossEntropy(), mlp(blobs(), 3), np.bincount(blobs().labels) / 300),
        (flags(), MultilabelCrossEntropy(), mlp(flags(), 2), flags().labels.mean(axis=0)),
        (chains(), SequenceCrossEntropy(0.5), torch.nn.Linear(2, 2), None),
    ],
    ids=["multiclass", "multilabel", "sequence"],
)
def test_the_prevalence_is_that_of_the_training_rows(rows, objective, network, expected):
    if expected is None:
        expected = [(rows.labels == k).sum() / (rows.labels >= 0).sum() for k in range(2)]
    found = train(network, objective, rows, rows.take(np.arange(20)), Settings(epochs=1))
    np.testing.assert_allclose(found.prevalence, expected)


def test_padding_changes_nothing_that_is_learned():
    rows, settings = chains(40), Settings(epochs=3, batch=16)
    longer = Examples(
        np.pad(rows.inputs, ((0, 0), (0, 9), (0, 0)), constant_values=7.0),
        np.pad(rows.labels, ((0, 0), (0, 9)), constant_values=-1),
    )
    weights = []
    for part in (rows, longer):
        torch.manual_seed(0)
        network = torch.nn.Linear(2, 2)
        train(network, SequenceCrossEntropy(1.0), part, part, settings)
        weights.append(network.weight.detach().numpy())
    np.testing.assert_allclose(weights[1], weights[0], atol=1e-6)


def test_a_position_that_is_missing_inside_a_sequence_hides_none_behind_it():
    labels = np.array([[0, -1, 1], [1, -1, 0]])
    seen = []

    class Watching(torch.nn.Linear):
        def forward(self, inputs):
            seen.append(inputs.shape[1])
            return super().forward(inputs)

    rows = Examples(np.zeros((2, 3, 2), dtype=np.float32), labels)
    train(Watching(2, 2), SequenceCrossEntropy(), rows, rows, Settings(epochs=1))
    assert set(seen) == {3}


def test_a_last_batch_of_one_row_does_not_stop_batch_normalisation():
    network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 3))
    rows = blobs(129)
    assert train(network, CrossEntropy(), rows, rows, Settings(epochs=2, batch=64)).history


# ---------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("learning_rate", [1e6, 1e20, 1e30])
def test_a_run_that_diverges_stops_with_one_sentence(learning_rate):
    with pytest.raises(TrainingFailed, match=r"diverged.*smaller learning rate"):
        train(
            torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(6)), torch.nn.Linear(4, 3)),
            CrossEntropy(),
            blobs(),
            blobs(50, seed=1),
            Settings(epochs=20, learning_rate=learning_rate),
        )


def test_missing_values_that_the_network_does_not_take_stop_it_with_that_sentence():
    rows = blobs()
    rows.inputs[3, 1] = np.nan
    with pytest.raises(TrainingFailed, match="missing or huge values"):
        train(torch.nn.Linear(4, 3), CrossEntropy(), rows, blobs(50), QUICK)


@pytest.mark.parametrize("make", [blobs, flags, chains])
def test_rows_of_one_class_are_refused(make):
    rows = make()
    task: dict[str, Any] = {
        "blobs": CrossEntropy(),
        "flags": MultilabelCrossEntropy(),
        "chains": SequenceCrossEntropy(),
    }
    rows.labels[rows.labels >= 0] = 1
    network = torch.nn.Linear(rows.inputs.shape[-1], 3 if make is blobs else 2)
    with pytest.raises(TrainingFailed, match="same class"):
        train(network, task[make.__name__], rows, make(), QUICK)


def with_labels(labels):
    return Examples(np.zeros((len(labels), 4), dtype=np.float32), labels)


@pytest.mark.parametrize(
    ("objective", "labels", "sentence"),
    [
        (CrossEntropy(), np.array([0, 1, 3]), "from 0 to 2"),
        (CrossEntropy(), np.array([0, 1, -1]), "from 0 to 2"),
        (CrossEntropy(), np.array([0.0, 1.0, 2.0]), "whole numbers"),
        (CrossEntropy(), np.eye(3, dtype=np.int64), "shape"),
        (MultilabelCrossEntropy(), np.array([[0, 1, 2]]), "from 0 to 1"),
        (MultilabelCrossEntropy(), np.array([[0, 1]]), "shape"),
        (MultilabelCrossEntropy(), np.array([0, 1]), "shape"),
    ],
    ids=str,
)
def test_labels_that_do_not_fit_the_outputs_are_refused(objective, labels, sentence):
    sound = with_labels(np.eye(3, dtype=np.int64)) if objective.task == "multilabel" else blobs()
    for rows, validation in ((with_labels(labels), sound), (sound, with_labels(labels))):
        with pytest.raises(TrainingFailed, match=sentence):
            train(torch.nn.Linear(4, 3), objective, rows, validation, QUICK)


@pytest.mark.parametrize(
    "inputs",
    [blobs().inputs.astype(np.float64), blobs().inputs[:, :3], blobs().inputs > 0.0],
    ids=["wide", "few", "bool"],
)
def test_inputs_that_the_network_does_not_take_are_refused_with_their_type_and_shape(inputs):
    rows = Examples(inputs, blobs().labels)
    with pytest.raises(TrainingFailed, match=rf"{inputs.dtype} and shape \(300, {inputs.shape[1]}\).*float32"):
        train(torch.nn.Linear(4, 3), PLAIN, rows, rows, QUICK)


def test_weights_that_do_not_fit_the_outputs_are_refused_before_anything_is_trained():
    network = torch.nn.Linear(4, 3)
    before = network.weight.detach().clone()
    with pytest.raises(TrainingFailed, match="2 weights for 3 classes"):
        train(network, Weighted((1.0, 2.0)), blobs(), blobs(), QUICK)
    assert torch.equal(network.weight, before)


def test_sequences_of_padding_alone_are_refused():
    rows = chains()
    rows.labels[:] = -1
    with pytest.raises(TrainingFailed, match="all positions are padding"):
        train(torch.nn.Linear(2, 2), SequenceCrossEntropy(), rows, chains(), QUICK)


def test_failures_are_errors_of_the_service_so_that_commands_print_them_in_one_line():
    assert issubclass(TrainingFailed, ServiceError)
    assert issubclass(MissingData, ServiceError)

"""Taggers whose outputs are known: what each way of serving them is worth."""

import numpy as np
import pytest

pytest.importorskip("torch")

from torch import Tensor, nn

from service.core.assessment.metrics import log_loss
from service.core.numerics import Array, Indices
from service.core.smoothing import Transitions, forward_backward
from service.training.example_sets import Examples
from service.training.loop import Trained
from service.training.objectives import SequenceCrossEntropy
from service.training.sequence_measures import (
    lengths_of,
    log_probs_by_serving,
    measures_by_serving,
    most_probable,
    sequence_auroc,
    sequence_measures,
    sequence_split_table,
    switches,
)

STAY = np.array([[0.9, 0.1], [0.1, 0.9]])
HALF = np.full(2, 0.5)


def drawn(rows: int, *, seed: int) -> tuple[Array, Indices]:
    """Noisy measurements of a sticky chain of two states, and its states; sequences of 10 to 30 positions."""
    rng = np.random.default_rng(seed)
    states = np.cumsum(rng.random((rows, 30)) < 0.1, axis=1) % 2
    x = np.where(states, 1.0, -1.0) + rng.normal(scale=1.2, size=states.shape)
    states[np.arange(30) >= rng.integers(10, 31, rows)[:, None]] = -1
    return x, states


def likelihoods(x: Array) -> Array:
    """The posterior of every position by itself, as logits."""
    return np.stack([np.zeros_like(x), 2.0 * x / 1.44], axis=2)


def smoothed(x: Array) -> Array:
    """The posterior given the whole sequence, as a network would answer it that reads all of it."""
    logits = likelihoods(x)
    alone = logits - np.logaddexp.reduce(logits, axis=2)[..., None]
    chain = Transitions(HALF, STAY)
    return forward_backward(alone, lengths=np.full(len(x), x.shape[1]), prevalence=HALF, transitions=chain)


class Answers(nn.Module):
    """Logits are its inputs."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs


def answering(logits: Array, states: Indices) -> tuple[Trained, Examples]:
    return Trained(Answers(), SequenceCrossEntropy(), HALF, (), 0), Examples(logits, states)


def test_hmm_helps_a_tagger_that_reads_one_position_and_harms_one_that_has_read_all() -> None:
    rows = {part: drawn(300, seed=seed) for seed, part in enumerate(("calibration", "test"))}
    alone, whole = (
        measures_by_serving(
            *answering(outputs(rows["calibration"][0]), rows["calibration"][1]),
            answering(outputs(rows["test"][0]), rows["test"][1])[1],
        )
        for outputs in (likelihoods, smoothed)
    )
    assert alone["hmm | log_loss"] < alone["calibrated | log_loss"] - 0.05
    assert alone["hmm | accuracy"] > alone["calibrated | accuracy"] + 0.02
    assert whole["hmm | log_loss"] > whole["calibrated | log_loss"] + 0.02
    assert whole["calibrated | log_loss"] == pytest.approx(alone["hmm | log_loss"], abs=0.03)


def test_a_temperature_of_the_calibration_rows_is_undone_on_the_test_rows() -> None:
    (x, states), (other, true) = drawn(300, seed=0), drawn(300, seed=1)
    trained, calibration = answering(3.0 * likelihoods(x), states)
    served = log_probs_by_serving(trained, calibration, Examples(3.0 * likelihoods(other), true))
    present = true >= 0
    found = {name: log_loss(log_probs[present], true[present]) for name, log_probs in served.items()}
    exact = likelihoods(other)[present]
    truth = log_loss(exact - np.logaddexp.reduce(exact, axis=1)[:, None], true[present])
    assert found["calibrated"] == pytest.approx(truth, abs=0.01)
    assert found["as trained"] > truth + 0.2


def test_measures_are_those_of_unpadded_positions() -> None:
    labels = np.array([[0, 0, 1, 1], [1, 0, -1, -1]])
    log_probs = np.log(np.full((2, 4, 2), 0.5))
    log_probs[0, 2:, 1] = np.log(0.9)
    log_probs[0, 2:, 0] = np.log(0.1)
    log_probs[1, 2:, 1] = 7.0  # padding
    found = sequence_measures(log_probs, labels)
    assert found["accuracy"] == pytest.approx(5 / 6)
    assert found["switches"] == pytest.approx(1 / 6)
    assert switches(labels, labels) == pytest.approx(2 / 6)
    assert found["log_loss"] == pytest.approx((4 * np.log(2.0) - 2 * np.log(0.9)) / 6)
    assert 0.0 < found["overlap"] < 1.0


def test_a_sequence_has_the_mean_score_of_its_positions() -> None:
    sure, unsure = np.zeros((2, 3, 2)), np.zeros((2, 3, 2))
    sure[..., 1] = 5.0
    sure[:, 2] = 0.0  # padding
    trained, test = answering(sure, np.array([[1, 1, -1], [1, 1, -1]]))
    assert sequence_auroc("nll", trained, test, unsure) == 1.0
    assert sequence_auroc("nll", trained, test, sure) == 0.5


def test_an_event_is_the_most_probable_class_being_the_true_one() -> None:
    log_probs = np.log([[[0.7, 0.3], [0.4, 0.6], [0.5, 0.5]]])
    probabilities, occurred = most_probable(log_probs, Examples(np.zeros((1, 3)), np.array([[0, 0, -1]])))
    np.testing.assert_allclose(probabilities, [0.7, 0.6])
    assert occurred.tolist() == [True, False]


def test_a_table_of_splits_counts_groups_sequences_and_positions() -> None:
    part = Examples(np.zeros((3, 2)), np.array([[0, 1], [1, -1], [1, 1]]), np.array([4, 4, 9]))
    assert lengths_of(part).tolist() == [2, 1, 2]
    assert (
        sequence_split_table({"train": part}, ("rest", "move")).splitlines()[-1]
        == "| train | 2 | 3 | 5 | 0.200 | 0.800 |"
    )

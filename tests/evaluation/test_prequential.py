import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.bundle.repository import Repository
from service.core.assessment.coding import code_lengths
from service.core.calibration import CALIBRATORS
from service.core.inverse import Focal
from service.core.numerics import Array, Indices, log_softmax
from service.core.sequence import flat
from service.evaluation.classification_problem import LabelledAnswer
from service.evaluation.evaluate import EvaluateRequest, answer_of, evaluate_file
from service.evaluation.prequential import FIXED, PrequentialReport, compare_calibrators
from service.prediction.bulk import posterior_of
from service.runtime.model import Model, load_model
from tests.tasks.conftest import draw_labels, draw_sequences, label_draft, sequence_draft

Toy = Callable[..., Repository]
Truth = Callable[..., tuple[Array, Indices]]
Save = Callable[..., Path]


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A calibrated model of three labels."""
    workshop = label_draft(tmp_path_factory.mktemp("labels"))
    x, y, _ = draw_labels(1000, 0)
    workshop.fit(workshop.rows("labels", X=x, y=y))
    return load_model(workshop.repository.bundle("complaints", 1))


@pytest.fixture(scope="module")
def motion(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A calibrated model of sequences."""
    workshop = sequence_draft(tmp_path_factory.mktemp("sequences"))
    x, y = draw_sequences(200, 0)
    workshop.fit(workshop.rows("sequences", X=x, y=y))
    return load_model(workshop.repository.bundle("motion", 1))


def labelled(model: Model, rows: Array, labels: Indices, groups: Indices | None = None) -> LabelledAnswer:
    return LabelledAnswer(answer_of(model, posterior_of(model, rows)), labels, None, groups)


def compared(model: Model, rows: Array, labels: Indices, groups: Indices | None = None) -> PrequentialReport:
    return compare_calibrators(labelled(model, rows, labels, groups))


def test_calibrators_are_compared_on_request_alone(model: Model, truth: Truth, save: Save) -> None:
    x, y = truth(300, seed=1)
    data = save("test", X=x, y=y)
    assert evaluate_file(model, EvaluateRequest(data)).report.prequential is None
    found = evaluate_file(model, EvaluateRequest(data, prequential=True)).report
    assert found.prequential is not None
    assert json.loads(json.dumps(found.as_json(), allow_nan=False))["prequential"]["shortest"] in CALIBRATORS | {
        FIXED: 0
    }


def test_two_classes_are_coded_by_every_calibrator_and_by_the_version_s_own(model: Model, truth: Truth) -> None:
    x, y = truth(300, seed=1)
    found = compared(model, x, y)
    assert set(found.calibrators) == {*CALIBRATORS, FIXED}
    assert sum(found.blocks) == 300
    assert list(found.parts) == ["rows"]
    own, answer = found.calibrators[FIXED], labelled(model, x, y).answer
    assert own.parameters is None
    assert own.bits == pytest.approx(code_lengths(answer.posterior.log_probs, y).sum())
    assert found.calibrators["identity"].bits == pytest.approx(
        code_lengths(log_softmax(answer.posterior.logits), y).sum()
    )


def test_lengths_are_sorted_and_measured_against_the_shortest(model: Model, truth: Truth) -> None:
    found = compared(model, *truth(300, seed=1))
    lengths = [own.bits for own in found.calibrators.values()]
    assert lengths == sorted(lengths, key=lambda bits: bits or 0.0)
    best = found.calibrators[found.shortest]
    assert (best.excess, best.standard_error) == (0.0, 0.0)
    for own in found.calibrators.values():
        assert own.bits_per_label is not None
        assert best.bits_per_label is not None
        assert own.excess == pytest.approx(own.bits_per_label - best.bits_per_label, abs=1e-12)


def test_an_overconfident_model_s_rows_are_shorter_by_a_temperature(served: Callable[..., Model], truth: Truth) -> None:
    model = served(3, tail="")
    x, y = truth(800, 3, seed=1)
    found = compared(model, 3.0 * x, y)
    assert found.shortest == "temperature"
    identity = found.calibrators["identity"]
    assert identity.excess is not None
    assert identity.standard_error is not None
    assert identity.excess > 3.0 * identity.standard_error


def test_a_calibrator_of_two_classes_is_none_of_three(served: Callable[..., Model], truth: Truth) -> None:
    found = compared(served(3, tail=""), *truth(100, 3, seed=1))
    assert not {"platt", "beta"} & {*found.calibrators, *found.left_out}


def test_a_calibrator_with_more_parameters_than_rows_is_left_out_and_named(
    served: Callable[..., Model], truth: Truth
) -> None:
    found = compared(served(5, tail=""), *truth(23, 5, seed=1))
    assert "matrix" in found.left_out
    assert "matrix" not in found.calibrators


def test_an_uncalibrated_version_has_no_calibrator_of_its_own(toy: Toy, truth: Truth) -> None:
    found = compared(load_model(toy(2).draft("toy")), *truth(60))
    assert FIXED not in found.calibrators


def test_calibrators_see_what_the_recorded_inverse_makes_of_the_outputs(model: Model, truth: Truth) -> None:
    x, y = truth(200, seed=1)
    inverse = Focal(gamma=2.0)
    inverted = replace(model, chain=replace(model.chain, inverse=inverse))
    found = compared(inverted, x, y)
    raw = labelled(model, x, y).answer.posterior.logits
    expected = code_lengths(inverse.apply(log_softmax(raw)), y).sum()
    assert found.calibrators["identity"].bits == pytest.approx(expected)


def test_every_label_is_coded_and_the_whole_is_their_mean(complaints: Model) -> None:
    model = complaints
    x, y, _ = draw_labels(400, 1)
    found = compared(model, x, y)
    assert list(found.parts) == list(model.classes)
    assert set(found.calibrators) == {*CALIBRATORS, FIXED}
    for name, own in found.calibrators.items():
        assert own.bits_per_label == pytest.approx(np.mean([bits[name] for bits in found.parts.values()]))
        assert own.bits == pytest.approx(1200 * (own.bits_per_label or 0.0))
    assert found.parts["ache"][FIXED] == pytest.approx(
        code_lengths(labelled(model, x, y).answer.log_probs[:, 0], y[:, 0]).mean()
    )


def test_positions_of_a_sequence_are_coded_together_and_without_the_smoother(motion: Model) -> None:
    model = motion
    x, y = draw_sequences(40, 1)
    found = compared(model, x, y)
    assert list(found.parts) == ["positions"]
    assert [rows % 25 for rows in found.blocks] == [0, 0, 0]
    posterior = labelled(model, x, y).answer.posterior
    assert posterior.lengths is not None
    alone = code_lengths(flat(posterior.log_probs, posterior.lengths), y.ravel()).sum()
    assert found.calibrators[FIXED].bits == pytest.approx(alone)


def test_rows_of_a_group_are_one_draw(model: Model, truth: Truth) -> None:
    x, y = truth(60, seed=1)
    alone = compared(model, x, y)
    doubled = compared(model, np.repeat(x, 2, axis=0), np.repeat(y, 2), np.repeat(np.arange(60) * 5, 2))
    assert doubled.blocks == tuple(2 * rows for rows in alone.blocks)
    before, after = alone.calibrators["histogram"], doubled.calibrators["histogram"]
    assert before.standard_error is not None
    assert after.standard_error == pytest.approx(before.standard_error, rel=0.2)


def test_progress_counts_calibrators(model: Model, truth: Truth) -> None:
    counted: list[int] = []

    def track(steps: Iterable[int]) -> Iterator[int]:
        for step in steps:
            counted.append(step)
            yield step

    compare_calibrators(labelled(model, *truth(300, seed=1)), track=track)
    assert counted == list(range(len(CALIBRATORS)))

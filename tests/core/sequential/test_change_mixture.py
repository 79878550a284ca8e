import numpy as np

from service.core.sequential.change_mixture import advance, begin

WEIGHTS = np.log(np.full(3, 1 / 3))


def test_evidence_begins_at_one() -> None:
    assert abs(float(begin(WEIGHTS).log_value)) < 1e-12


def test_evidence_has_mean_one_after_any_number_of_rows_of_the_null() -> None:
    # Two outcomes, every path of eight rows: the mean over paths is exact.
    null, alternatives = np.array([0.3, 0.7]), np.array([[0.1, 0.9], [0.5, 0.5], [0.9, 0.1]])
    mean = 0.0
    for path in range(2**8):
        evidence, probability = begin(WEIGHTS), 1.0
        for t in range(8):
            y = path >> t & 1
            probability *= null[y]
            evidence = advance(evidence, np.log(alternatives[:, y] / null[y]), WEIGHTS)
        mean += probability * float(np.exp(evidence.log_value))
    assert abs(mean - 1.0) < 1e-12


def test_a_change_late_in_life_is_found_nearly_as_soon_as_an_early_one() -> None:
    ratios = np.log([2.0, 1.0, 0.5])
    waits = {}
    for sound in (0, 10_000):
        evidence = begin(WEIGHTS)
        for _ in range(sound):
            evidence = advance(evidence, np.log([0.5, 1.0, 0.5]), WEIGHTS)
        waits[sound] = 0
        while evidence.log_value < np.log(1000.0):
            evidence = advance(evidence, ratios, WEIGHTS)
            waits[sound] += 1
    assert waits[10_000] <= waits[0] + 20  # log2 of the weight of that time


def test_processes_side_by_side_are_as_alone() -> None:
    ratios = np.log([[2.0, 1.0, 0.5], [0.5, 1.0, 2.0]])
    both = advance(advance(begin(np.tile(WEIGHTS, (2, 1))), ratios, WEIGHTS), ratios, WEIGHTS)
    alone = [advance(advance(begin(WEIGHTS), r, WEIGHTS), r, WEIGHTS).log_value for r in ratios]
    assert np.allclose(both.log_value, alone)

"""SOV'99 against the tables of the papers, and against its definition written with sets."""

from itertools import pairwise

import numpy as np
import pytest

from service.core.assessment.segment_overlap import segment_overlap_score
from service.core.numerics import Indices

HELIX = "CHHHHHHHHHHC"
FOUR_CLASSES = "AABBBBBBCCCCCCDD"
TABLES = [
    # Zemla, Venclovas, Fidelis and Rost (1999), table 1
    (HELIX, "CHCHCHCHCHCC", 0.125),
    (HELIX, "CCCHHHHHCCCC", 0.632),
    (HELIX, "CHHHCHHHCHHC", 0.406),
    (HELIX, "CHHCCHHHHHCC", 0.523),
    (HELIX, "CCCHHHHHHCCC", 0.806),
    # Liu and Wang (2018), SOV_refine, tables 1 and 2, columns SOV'99
    (HELIX, "CCCHHHHCCCCC", 0.544),
    (HELIX, "CCCHHHHHHHCC", 0.903),
    (HELIX, "CCCHHHHHHHHC", 0.944),
    (FOUR_CLASSES, "AAAAABBBCCCDDDDD", 0.650),
    (FOUR_CLASSES, "AAAABBBBCCCCDDDD", 0.938),
    (FOUR_CLASSES, "AAABBBBBCCCCCDDD", 1.000),
]


def coded(text: str) -> Indices:
    return np.array([["CHEABD".index(letter) for letter in text]])


@pytest.mark.parametrize(("true", "predicted", "expected"), TABLES)
def test_the_published_examples_have_their_published_scores(true: str, predicted: str, expected: float) -> None:
    assert segment_overlap_score(coded(true), coded(predicted)) == pytest.approx(expected, abs=6e-4)


def test_it_is_the_definition_over_sets_of_positions() -> None:
    rng = np.random.default_rng(0)
    labels, predicted = (np.repeat(rng.integers(0, 3, (12, 15)), 2, axis=1) for _ in range(2))
    predicted[rng.random(predicted.shape) < 0.2] = 1
    lengths = rng.integers(1, 31, 12)
    labels[np.arange(30) >= lengths[:, None]] = -1
    assert segment_overlap_score(labels, predicted) == pytest.approx(by_sets(labels, predicted, lengths), rel=1e-12)


def test_the_true_segments_score_one_and_padding_is_never_read() -> None:
    labels = np.array([[0, 0, 1, 1, 2], [2, 1, -1, -1, -1]])
    predicted = np.where(labels < 0, 7, labels)
    assert segment_overlap_score(labels, predicted) == 1.0


def test_a_segment_ends_with_its_sequence() -> None:
    one_row = segment_overlap_score(np.array([[1, 1, 1, 1]]), np.array([[1, 1, 0, 0]]))
    two_rows = segment_overlap_score(np.array([[1, 1], [1, 1]]), np.array([[1, 1], [0, 0]]))
    assert one_row != two_rows
    assert two_rows == 0.5


def by_sets(labels: Indices, predicted: Indices, lengths: Indices) -> float:
    scored = counted = 0.0
    for y, p, n in zip(labels, predicted, lengths, strict=True):
        own = segments_of(p[:n])
        for k, s in segments_of(y[:n]):
            partners = [t for c, t in own if c == k and s & t]
            counted += len(s) * max(1, len(partners))
            for t in partners:
                both, either = len(s & t), len(s | t)
                scored += len(s) * (both + min(either - both, both, len(s) // 2, len(t) // 2)) / either
    return scored / counted


def segments_of(labels: Indices) -> list[tuple[int, set[int]]]:
    edges = [0, *(np.flatnonzero(np.diff(labels)) + 1), len(labels)]
    return [(int(labels[a]), set(range(a, b))) for a, b in pairwise(edges)]

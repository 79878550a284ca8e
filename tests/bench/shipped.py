"""Requests to the shipped model."""

from typing import Final

from sklearn.datasets import load_breast_cancer

DECIDE: Final = "/v1/models/breast-cancer:decide"
INFER: Final = "/v2/models/breast-cancer/infer"


def breast_rows(count: int) -> list[list[float]]:
    """Real rows; more than a hundred repeat."""
    rows: list[list[float]] = load_breast_cancer().data[:100].tolist()
    return [rows[i % len(rows)] for i in range(count)]

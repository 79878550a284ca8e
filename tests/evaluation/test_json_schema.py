import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from service.core.numerics import Array, Indices
from service.evaluation.json_schema import descriptions, json_schema
from service.evaluation.prevalence import MethodEstimate, PrevalenceEstimate, RowsEstimate, Share
from service.evaluation.report import Report
from service.runtime.model import Model
from tests.evaluation.conftest import evaluated


@dataclass
class Pair:
    """Two numbers.

    Attributes
    ----------
    left, right : float
        Of either side,
        in metres.
    name : str
    """

    left: float
    right: float
    name: str


def test_a_field_is_described_by_its_docstring_and_by_the_summary_where_that_says_nothing() -> None:
    both = "Of either side, in metres."
    assert descriptions(Pair) == {"left": both, "right": both, "name": "Two numbers."}


@pytest.mark.parametrize("ood", [False, True])
def test_a_report_fits_its_schema(
    ood: bool,  # noqa: FBT001  # a case
    model: Model,
    truth: Callable[..., tuple[Array, Indices]],
) -> None:
    x, y = truth(100, seed=3)
    report = evaluated(model, x, y, ood=2.0 * x if ood else None).report
    Draft202012Validator(json_schema(Report)).validate(json.loads(json.dumps(report.as_json())))


def test_an_estimate_fits_its_schema() -> None:
    method = MethodEstimate({"a": Share(0.5, 0.4, 0.6)}, differs=False, settled=True)
    found = PrevalenceEstimate(False, 2.0, 0.95, 3, RowsEstimate(10, method, method), None, "every row is flagged")
    Draft202012Validator(json_schema(PrevalenceEstimate)).validate(json.loads(json.dumps(asdict(found))))


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if "properties" in schema:
            yield schema
        for value in schema.values():
            yield from objects(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from objects(value)


@pytest.mark.parametrize("kind", [Report, PrevalenceEstimate])
def test_every_field_has_a_description(kind: type) -> None:
    found = list(objects(json_schema(kind)))
    assert len(found) >= 4
    for schema in found:
        for name, entry in schema["properties"].items():
            assert len(entry["description"]) > 3, name


def test_what_is_no_part_of_a_report_has_no_schema() -> None:
    with pytest.raises(TypeError, match="no part of a report"):
        json_schema(object)

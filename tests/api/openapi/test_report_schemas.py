"""Reports fit the schemas that are made of their types."""

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from service.evaluation.prevalence import MethodEstimate, PrevalenceEstimate, RowsEstimate, Share

Conforms = Callable[[Any, str], list[str]]


def test_an_estimate_without_unflagged_rows_fits_its_schema(conforms: Conforms) -> None:
    method = MethodEstimate({"a": Share(0.5, 0.4, 0.6)}, differs=False, settled=True)
    found = PrevalenceEstimate(False, 2.0, 0.95, 3, RowsEstimate(10, method, method), None, "every row is flagged")
    assert conforms(json.loads(json.dumps(asdict(found))), "PrevalenceEstimate") == []

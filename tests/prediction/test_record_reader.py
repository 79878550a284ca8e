"""Records are read by the code of the documentation, and quickly."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.prediction.record_reader import read_columns, read_layout
from service.record_errors import StoreDamaged
from service.runtime.registry import Registry
from service.store.entries import Document
from tests.every_task import Case
from tests.prediction.test_records import ORIGIN, read, recorded_case, schema_of

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "record.md"


def documented() -> Any:
    """The function of the page."""
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(block, names)  # noqa: S102  # our own page
    return names["read_record"]


@pytest.mark.parametrize(
    "case", [Case("letters", "decide"), Case("complaints", "decide"), Case("raw", "detect")], ids=str
)
def test_the_documented_reader_reads_a_record(case: Case, every_task: Registry) -> None:
    _, _, content = recorded_case(case, every_task)
    found = documented()(schema_of(content).content, content.columns)
    recorded = read(content)
    assert [*found] == [block.name for block in recorded.layout.rows]
    for name, values in found.items():
        np.testing.assert_array_equal(values.reshape(recorded.values(name).shape), recorded.values(name))


def test_the_documented_reader_reads_rows_of_sequences(every_task: Registry) -> None:
    _, _, content = recorded_case(Case("motion", "decide"), every_task)
    found = documented()(schema_of(content).content, content.columns)
    np.testing.assert_array_equal(found["lengths"][:, 0], read(content).values("lengths"))


def test_a_member_that_is_not_there_is_none(every_task: Registry) -> None:
    _, _, content = recorded_case(Case("letters", "detect"), every_task)
    recorded = read(content)
    assert recorded.get("decision.action") is None
    assert "decision.action" not in recorded
    with pytest.raises(KeyError):
        recorded.values("decision.action")


def test_names_of_rows_without_one_are_none(every_task: Registry) -> None:
    _, answer, content = recorded_case(Case("letters", "decide", {"policy": "ponder"}), every_task)
    recorded, flagged = read(content), answer.posterior.flagged
    assert flagged is not None
    least = recorded.texts("decision.overridden.action")
    assert [name is None for name in least] == (recorded.values("decision.overridden.action") < 0).tolist()
    assert np.isnan(recorded.values("decision.overridden.risk")[[name is None for name in least]]).all()


def test_columns_of_one_record_are_those_of_its_layout(every_task: Registry) -> None:
    _, _, content = recorded_case(Case("motion", "decide"), every_task)
    schema = schema_of(content)
    found, layout = read_columns(content.prediction(ORIGIN), schema), read_layout(schema)
    assert found.keys() == {
        *(block.name for block in (*layout.rows, *layout.positions)),
        *(pick.name for pick in layout.picks),
    }


def test_a_schema_of_something_else_has_no_layout(every_task: Registry) -> None:
    _, _, content = recorded_case(Case("letters", "decide"), every_task)
    schema = schema_of(content)
    with pytest.raises(KeyError):
        read_layout(Document(schema.digest, "schema", schema.content.replace(b"temperance", b"temperings")))


@pytest.mark.parametrize("size", [0, 4, 100, 400, 700])
@pytest.mark.parametrize("name", ["letters", "motion"])
def test_columns_that_are_cut_off_are_damage(every_task: Registry, name: str, size: int) -> None:
    _, _, content = recorded_case(Case(name, "decide"), every_task)
    prediction = content.prediction(ORIGIN)
    with pytest.raises(StoreDamaged, match="cannot be read"):
        read_columns(replace(prediction, columns=prediction.columns[:size]), schema_of(content))


def test_columns_of_another_schema_are_damage(every_task: Registry) -> None:
    _, _, content = recorded_case(Case("letters", "decide"), every_task)
    _, _, other = recorded_case(Case("complaints", "decide"), every_task)
    with pytest.raises(StoreDamaged, match="cannot be read"):
        read_columns(content.prediction(ORIGIN), schema_of(other))

"""Subjects and groups of `/v2`: inputs that no model sees."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from service.api.v2.requests import RequestReader
from service.api.v2.row_texts import without_texts
from service.api.v2.tensors import Tensor, texts
from service.errors import InvalidRequest
from service.runtime.model import Model
from service.runtime.numbers import NumberInputs

ROWS = np.zeros((2, 30))


def of(name: str, values: Any, datatype: str = "BYTES") -> Tensor:
    array = values if isinstance(values, np.ndarray) else texts(values)
    return Tensor(name, datatype, array, 1)


@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_subjects_and_groups_are_taken_from_the_inputs(shipped_model: Model, shape: tuple[int, ...]) -> None:
    x = Tensor("X", "FP64", ROWS, 0)
    sent = [x, of("subjects", texts(["p", "q"]).reshape(shape)), of("groups", ["north", "north"])]
    own, found = without_texts(sent, shipped_model.inputs)
    assert own == [x]
    assert found == {"subjects": ["p", "q"], "groups": ["north", "north"]}


@pytest.mark.parametrize(
    "bad",
    [
        of("subjects", ["p"]),
        of("subjects", ["p", "q", "r"]),
        of("subjects", ["p", ""]),
        of("subjects", ["p", "q" * 201]),
        of("subjects", ["p", None]),
        of("subjects", ["p", "\ud800"]),
        of("subjects", texts(["p", "q"]).reshape(1, 2)),
        of("groups", np.zeros(2), "FP64"),
    ],
)
def test_texts_that_are_not_one_for_every_row_are_refused(shipped_model: Model, bad: Tensor) -> None:
    with pytest.raises(InvalidRequest, match=r"inputs\.1\.") as refused:
        without_texts([Tensor("X", "FP64", ROWS, 0), bad], shipped_model.inputs)
    assert "q" * 201 not in str(refused.value)


def test_subjects_that_come_twice_are_refused(shipped_model: Model) -> None:
    with pytest.raises(InvalidRequest, match="earlier input"):
        without_texts([of("subjects", ["p"]), of("subjects", ["p"])], shipped_model.inputs)


def test_an_input_of_the_model_is_a_part_of_its_rows(shipped_model: Model) -> None:
    inputs = shipped_model.inputs
    assert isinstance(inputs, NumberInputs)
    own = replace(inputs, columns=("subjects", *inputs.columns[1:]))
    sent = [of("subjects", np.zeros(2), "FP64"), of("groups", ["a", "b"])]
    assert without_texts(sent, own) == ([sent[0]], {"groups": ["a", "b"]})


def test_a_request_holds_them_beside_its_rows(shipped_model: Model) -> None:
    body = (
        b'{"inputs": [{"name": "subjects", "datatype": "BYTES", "shape": [1], "data": ["p"]},'
        b'{"name": "X", "datatype": "FP64", "shape": [1, 30], "data": [' + b", ".join([b"1"] * 30) + b"]}]}"
    )
    request = RequestReader(shipped_model, most_rows=4).read(body.replace(b'"X"', _input_name(shipped_model)), None)
    assert (request.subjects, request.groups, len(request.rows)) == (["p"], None, 1)


def test_they_are_refused_as_parameters(shipped_model: Model) -> None:
    with pytest.raises(InvalidRequest, match="input of datatype BYTES"):
        RequestReader(shipped_model, most_rows=4).read(b'{"inputs": [], "parameters": {"subjects": ["p"]}}', None)


def _input_name(model: Model) -> bytes:
    return f'"{model.inputs.entries[0].name}"'.encode()

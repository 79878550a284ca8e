"""The bytes of a row do not depend on how it was sent, or with which others."""

import struct
from typing import Any

import numpy as np
import pytest

from service.api.v1.instances import InstanceReader
from service.api.v2.input_tensors import rows_of
from service.api.v2.tensors import Blobs, read_tensors
from service.core.numerics import Array
from service.prediction.row_bytes import row_bytes
from service.runtime.model import Model
from service.runtime.registry import Registry
from service.runtime.rows import Rows
from tests.api.v2.sent_tensors import BIG, ENCODINGS, INSTANCES, WAYS


def sent_as(registry: Registry, way: str, encoding: str) -> Rows:
    name, tensors = WAYS[way]
    entries = [ENCODINGS[encoding](tensor) for tensor in tensors]
    blobs = Blobs(b"".join(blob for _, blob in entries))
    return rows_of(read_tensors([entry for entry, _ in entries], blobs), registry.model(name).inputs)


def instances_of(model: Model, instances: list[Any]) -> Rows:
    return InstanceReader(model.inputs, most=100).parse(instances)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("way", WAYS)
def test_a_tensor_and_an_instance_of_the_same_values_have_the_same_bytes(
    kinds: Registry,
    way: str,
    encoding: str,
) -> None:
    name = WAYS[way][0]
    model = kinds.model(name)
    plain = row_bytes(instances_of(model, INSTANCES[name]), model.inputs)
    assert row_bytes(sent_as(kinds, way, encoding), model.inputs) == plain
    assert len(set(plain)) == len(plain)


@pytest.mark.parametrize("name", INSTANCES)
def test_a_row_alone_has_the_bytes_that_it_has_among_others(kinds: Registry, name: str) -> None:
    model = kinds.model(name)
    together = row_bytes(instances_of(model, INSTANCES[name]), model.inputs)
    alone = [row_bytes(instances_of(model, [row]), model.inputs)[0] for row in INSTANCES[name]]
    assert together == alone


def test_a_list_and_an_object_have_the_same_bytes(
    shipped_model: Model, test_rows: list[list[float]], features: list[str]
) -> None:
    named = [dict(zip(features, row, strict=True)) for row in test_rows[:5]]
    lists, objects = (instances_of(shipped_model, rows) for rows in (test_rows[:5], named))
    assert row_bytes(lists, shipped_model.inputs) == row_bytes(objects, shipped_model.inputs)


def test_a_number_is_what_the_graph_takes(shipped_model: Model) -> None:
    rows: Array = np.full((1, 30), 0.1)
    single = rows.astype(np.float32).astype(np.float64)
    assert row_bytes(rows, shipped_model.inputs) == row_bytes(single, shipped_model.inputs)
    assert row_bytes(rows, shipped_model.inputs)[0][:8] == struct.pack("<d", np.float32(0.1))


def test_zeros_and_missing_values_have_one_form(shipped_model: Model) -> None:
    payload = np.array([0xFFF8000000001234], dtype="<u8").view("<f8")[0]
    forms: list[Array] = [np.full((1, 30), value) for value in (-0.0, 0.0, payload, np.nan)]
    found = [row_bytes(form, shipped_model.inputs)[0] for form in forms]
    assert found == [bytes(240)] * 2 + [struct.pack("<d", np.nan) * 30] * 2


def test_integers_that_a_double_cannot_tell_apart_have_other_bytes(kinds: Registry) -> None:
    model, stay = kinds.model("stay"), INSTANCES["stay"][0]
    found = {row_bytes(instances_of(model, [{**stay, "code": BIG + i}]), model.inputs)[0] for i in range(-1, 3)}
    assert len(found) == 4

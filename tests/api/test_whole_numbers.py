"""64-bit integers of a request arrive in the graph as they were sent, whatever the encoding and the other requests."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.core.numerics import EXACT
from service.runtime.integers import INEXACT
from service.runtime.registry import Registry, load_registry
from tests.runtime.test_integers import CODE, PAIRS, bits_repository, read_back

URL = "http://temperance"
Pairs = list[tuple[int, int]]
ANY_TIME = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module", params=["columns", "flat", "tensor"])
def registry(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return load_registry(bits_repository(tmp_path_factory.mktemp("bits"), kind=request.param))


@pytest.fixture
async def client(client_of: Callable[..., httpx.AsyncClient], registry: Registry) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(registry) as running:
        yield running


def is_tensor(registry: Registry) -> bool:
    return "u" not in registry.model("bits").inputs.columns


def lists(pairs: Pairs, *, tensor: bool) -> list[Any]:
    return [[n, [[u]] if tensor else u] for n, u in pairs]


def objects(pairs: Pairs, *, tensor: bool) -> list[Any]:
    return [{"u": [[u]] if tensor else u, "n": n} for n, u in pairs]


def by_input(pairs: Pairs, *, tensor: bool) -> list[Any]:
    return [{"n": [n], "u": [[u]] if tensor else [u]} for n, u in pairs]


def decoded(document: dict[str, Any]) -> Pairs:
    told = [[row["probabilities"][str(k)] for k in range(9)] for row in document["predictions"]]
    return read_back(np.log(told))


async def asked(client: httpx.AsyncClient, instances: list[Any], verb: str = "predict", **parameters: Any) -> Pairs:
    body = {"instances": instances, "parameters": parameters} if parameters else {"instances": instances}
    answer = await client.post(f"/v1/models/bits:{verb}", json=body)
    assert answer.status_code == 200, answer.text
    return decoded(answer.json())


@pytest.mark.parametrize("form", [lists, objects, by_input])
async def test_v1_reads_integers_as_integers(
    form: Callable[..., list[Any]], client: httpx.AsyncClient, registry: Registry
) -> None:
    @given(pairs=PAIRS)
    @ANY_TIME
    def check(pairs: Pairs) -> None:
        found.append((form(pairs, tensor=is_tensor(registry)), pairs))

    found: list[tuple[list[Any], Pairs]] = []
    check()
    for instances, pairs in found:
        assert await asked(client, instances) == pairs
        assert await asked(client, instances, ids=[str(i) for i in range(len(pairs))]) == pairs


async def test_requests_that_are_joined_keep_their_integers(client: httpx.AsyncClient, registry: Registry) -> None:
    rng = np.random.default_rng(0)
    numbers = [(CODE + i, 2**63 + i) if i % 3 else (i, i) for i in range(60)]
    groups = [numbers[i : i + 1 + int(rng.integers(3))] for i in range(60)]
    sent = [asked(client, lists(pairs, tensor=is_tensor(registry))) for pairs in groups]
    assert await asyncio.gather(*sent) == groups


async def test_columns_answer_the_same(client: httpx.AsyncClient, registry: Registry) -> None:
    rows = lists([(CODE, 1), (CODE + 1, 2)], tensor=is_tensor(registry))
    body = {"instances": rows, "parameters": {"layout": "columns"}}
    answer = (await client.post("/v1/models/bits:predict", json=body)).json()
    assert read_back(np.log(answer["columns"]["probabilities"])) == [(CODE, 1), (CODE + 1, 2)]


async def test_decimals_that_are_whole_are_taken(client: httpx.AsyncClient, registry: Registry) -> None:
    tensor = is_tensor(registry)
    assert await asked(client, [[1.0, [[2.0]] if tensor else 2.0]]) == [(1, 2)]
    body = b'{"instances": [[1.0, %s], [%d, %s]]}' % (
        b"[[2.0]]" if tensor else b"2.0",
        CODE + 1,
        b"[[18446744073709551615]]" if tensor else b"18446744073709551615",
    )
    answer = await client.post("/v1/models/bits:predict", content=body, headers={"content-type": "application/json"})
    assert decoded(answer.json()) == [(1, 2), (CODE + 1, 2**64 - 1)]


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("1.5", "must be a whole number"),
        ("9223372036854775808", "does not fit int64"),
        ("-9223372036854775809", "does not fit int64"),
        ("18446744073709551616", "does not fit int64"),
        ("1e300", "does not fit int64"),
        ("999000021000000106.0", INEXACT),
        ("1e18", INEXACT),
        (f"{EXACT}.0", INEXACT),
    ],
)
async def test_what_is_no_integer_of_64_bits_is_a_422_with_its_place(
    text: str, detail: str, client: httpx.AsyncClient, registry: Registry
) -> None:
    unsigned = "[[1]]" if is_tensor(registry) else "1"
    body = f'{{"instances": [[1, {unsigned}], [{text}, {unsigned}]]}}'
    answer = await client.post("/v1/models/bits:predict", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert [(e["pointer"], e["detail"]) for e in answer.json()["errors"]] == [("/instances/1/0", f"'n' {detail}")]


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("-1", "does not fit uint64"),
        ("18446744073709551616", "does not fit uint64"),
        ("1e19", INEXACT),
        ("2.5", "must be a whole number"),
    ],
)
async def test_a_tensor_says_where_it_holds_no_integer(
    text: str, detail: str, client: httpx.AsyncClient, registry: Registry
) -> None:
    if not is_tensor(registry):
        pytest.skip("this model has columns alone")
    for sent in (f"[[{text}]]", f"[[1]]], [{CODE + 1}, [[{text}]]"):
        body = f'{{"instances": [[1, {sent}]]}}'
        answer = await client.post(
            "/v1/models/bits:predict", content=body, headers={"content-type": "application/json"}
        )
        assert answer.status_code == 422, answer.text
        (error,) = answer.json()["errors"]
        assert error["pointer"].endswith("/1/0/0")
        assert error["detail"].endswith(detail)


# ------------------------------------------------------------------------------------------------------------------ v2


def tensors(pairs: Pairs, *, flat: bool, binary: bool) -> tuple[dict[str, Any], bytes]:
    n, u = np.array([n for n, _ in pairs], dtype="<i8"), np.array([u for _, u in pairs], dtype="<u8")
    shape = [len(pairs)] if flat else [len(pairs), 1]
    entries: list[dict[str, Any]] = [
        {"name": "u", "shape": shape, "datatype": "UINT64"},
        {"name": "n", "shape": shape, "datatype": "INT64"},
    ]
    for entry, values in zip(entries, (u, n), strict=True):
        entry.update({"parameters": {"binary_data_size": values.nbytes}} if binary else {"data": values.tolist()})
    return {"inputs": entries, "outputs": [{"name": "logits"}]}, u.tobytes() + n.tobytes() if binary else b""


@pytest.mark.parametrize("binary", [False, True])
async def test_v2_reads_integers_as_integers(
    binary: bool,  # noqa: FBT001  # the encoding
    client: httpx.AsyncClient,
    registry: Registry,
) -> None:
    if is_tensor(registry):
        pytest.skip("/v2 takes columns alone")

    @given(pairs=PAIRS, flat=st.booleans())
    @ANY_TIME
    def check(pairs: Pairs, *, flat: bool) -> None:
        found.append((*tensors(pairs, flat=flat, binary=binary), pairs))

    found: list[tuple[dict[str, Any], bytes, Pairs]] = []
    check()
    for document, blob, pairs in found:
        text = json.dumps(document).encode()
        headers = {"inference-header-content-length": str(len(text))} if binary else {}
        answer = await client.post("/v2/models/bits/infer", content=text + blob, headers=headers)
        assert answer.status_code == 200, answer.text
        (output,) = answer.json()["outputs"]
        assert read_back(np.array(output["data"]).reshape(-1, 9)) == pairs


@pytest.mark.parametrize(
    ("datatype", "data", "reason"),
    [
        ("INT64", [1.5], "whole number"),
        ("INT64", [2**63], "does not fit int64"),
        ("INT64", [2**64], "does not fit int64"),
        ("INT64", [1e300], "must be given as a whole number"),
        ("INT64", [CODE, 1.0, 1.5], "must be given as a whole number"),
        ("FP64", [float(CODE)], "must be given as a whole number"),
        ("FP32", [1e30], "does not fit int64"),
        ("INT64", [10**400], "double"),
    ],
)
async def test_v2_refuses_what_is_no_integer_of_64_bits(
    datatype: str, data: list[float], reason: str, client: httpx.AsyncClient, registry: Registry
) -> None:
    if is_tensor(registry):
        pytest.skip("/v2 takes columns alone")
    inputs = [
        {"name": "n", "shape": [len(data), 1], "datatype": datatype, "data": data},
        {"name": "u", "shape": [len(data), 1], "datatype": "UINT64", "data": [1] * len(data)},
    ]
    answer = await client.post("/v2/models/bits/infer", json={"inputs": inputs})
    assert answer.status_code in (400, 422)
    assert reason in answer.json()["error"]


async def test_metadata_name_the_types(client: httpx.AsyncClient, registry: Registry) -> None:
    if is_tensor(registry):
        pytest.skip("/v2 takes columns alone")
    document = (await client.get("/v2/models/bits")).json()
    assert [(entry["name"], entry["datatype"]) for entry in document["inputs"]] == [("n", "INT64"), ("u", "UINT64")]

"""Good requests with one wrong thing each: no error repeats a number, a text or a key that was sent."""

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from service.runtime.registry import Registry

TEXT, DIGITS = "zq7canary", "918273"  # in every wrong value, and in nothing else
Path = tuple[str | int, ...]

WRONG: tuple[Any, ...] = (
    TEXT,
    TEXT * 500,
    f"\\ud7ff{TEXT}",
    918273,
    -918273,
    918273.918273,
    9182730000000000000000000000000,
    1.918273e300,
    [TEXT],
    [918273, TEXT],
    {TEXT: 918273},
    {TEXT: {TEXT: [918273]}},
    [[[918273]]],
    None,
    True,
)
COSTS = {"left": {"a": 0, "b.c": 1, "d": 2}, "right": {"a": 2, "b.c": 1, "d": 0}}
LETTERS = [[-1.0, -2.0, -0.5], [-0.1, -3.0, -4.0]]
MOTION = [[0.1] * 25]
V1: dict[str, dict[str, Any]] = {
    "letters:predict": {
        "instances": LETTERS,
        "parameters": {
            "site": "north",
            "coverage": 0.9,
            "top_k": 2,
            "ids": ["x", "y"],
            "subjects": ["p", "q"],
            "layout": "columns",
        },
    },
    "letters:predict by row": {
        "instances": [dict(zip("uvw", row, strict=True)) for row in LETTERS],
        "parameters": {"site": ["north", "south"]},
    },
    "letters:predict of a prevalence": {
        "instances": LETTERS,
        "parameters": {"prevalence": {"a": 0.5, "b.c": 0.25, "d": 0.25}},
    },
    "letters:detect": {"instances": LETTERS, "parameters": {"fdr": 0.1}},
    "letters:detect in a session": {
        "instances": LETTERS,
        "parameters": {
            "session": {
                "model": "letters",
                "version": "1",
                "false_alarms_per_1000_steps": 1.0,
                "statistic": 0.5,
                "steps": 3,
                "steps_since_in_distribution": 1,
                "alarm": False,
            }
        },
    },
    "letters:decide": {"instances": LETTERS, "parameters": {"policy": "walk"}},
    "letters:decide by costs": {"instances": LETTERS, "parameters": {"costs": COSTS}},
    "letters:decide by row": {
        "instances": LETTERS,
        "parameters": {"costs": [COSTS, COSTS], "prevalence": [{"a": 0.5, "b.c": 0.25, "d": 0.25}] * 2},
    },
    "letters:evaluate": {"instances": LETTERS, "labels": ["a", "d"], "parameters": {"labels_as": "names"}},
    "letters:estimate": {"instances": LETTERS, "parameters": {}},
    "complaints:decide": {"instances": [[0.5], [-1.0]], "parameters": {}},
    "motion:decide": {"instances": MOTION, "parameters": {"smoother": "hmm", "switch": 0.1}},
    "motion:predict": {"instances": MOTION, "parameters": {"smoother": "jsd", "strength": 1.0}},
}
V2: dict[str, dict[str, Any]] = {
    "letters": {
        "id": "x",
        "parameters": {"policy": "walk", "site": "north", "timeout": 5_000_000, "binary_data_output": False},
        "inputs": [{"name": "x", "shape": [2, 3], "datatype": "FP32", "data": [*LETTERS[0], *LETTERS[1]]}],
        "outputs": [{"name": "probabilities", "parameters": {"classification": 2, "binary_data": False}}],
    },
    "letters by column": {
        "inputs": [{"name": name, "shape": [1], "datatype": "FP64", "data": [-1.0]} for name in "uvw"],
    },
    "motion": {
        "inputs": [{"name": "x", "shape": [1, 25], "datatype": "FP32", "data": MOTION}],
    },
}


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """Paths to everything in a document."""
    yield path
    pairs: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in pairs:
        yield from places(item, (*path, key))


def changed(document: Any, path: Path, wrong: Any) -> Any:
    """A document with another value at a place."""
    if not path:
        return wrong
    made = copy.deepcopy(document)
    at = made
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = wrong
    return made


def renamed(document: Any, path: Path) -> Any:
    """A document with another key at a place."""
    made = copy.deepcopy(document)
    at = made
    for step in path[:-1]:
        at = at[step]
    at[TEXT] = at.pop(path[-1])
    return made


def wrong_ones(document: Any) -> Iterator[Any]:
    """A document with every kind of wrong value at each of its places, in turn; and with every key misspelt."""
    for path in places(document):
        yield from (changed(document, path, wrong) for wrong in WRONG)
        if path and isinstance(path[-1], str):
            yield renamed(document, path)


async def check(client: httpx.AsyncClient, path: str, document: Any) -> int:
    """How many wrong requests were refused; an error repeats nothing, and is none of ours."""
    refused = 0
    for wrong in wrong_ones(document):
        body = json.dumps(wrong)
        answer = await client.post(path, content=body, headers={"content-type": "application/json"})
        assert answer.status_code < 500, body
        if answer.status_code != 200:
            refused += 1
            found = answer.json()
            found.pop("instance", None)
            text = json.dumps(found)
            assert TEXT not in text, (body, text)
            assert DIGITS not in text, (body, text)
            assert len(answer.content) <= 16 << 10
    return refused


@pytest.mark.parametrize("name", V1)
async def test_no_error_of_v1_repeats_what_was_sent(
    name: str, every_task: Registry, client_of: Callable[..., httpx.AsyncClient]
) -> None:
    path = f"/v1/models/{name.partition(' ')[0]}"
    async with client_of(every_task) as client:
        good = await client.post(path, json=V1[name])
        assert good.status_code == 200, good.text
        assert await check(client, path, V1[name]) > 50


@pytest.mark.parametrize("name", V2)
async def test_no_error_of_v2_repeats_what_was_sent(
    name: str, every_task: Registry, client_of: Callable[..., httpx.AsyncClient]
) -> None:
    path = f"/v2/models/{name.partition(' ')[0]}/infer"
    async with client_of(every_task) as client:
        good = await client.post(path, json=V2[name])
        assert good.status_code == 200, good.text
        assert await check(client, path, V2[name]) > 50


async def test_no_error_about_an_address_or_a_header_repeats_it(client: httpx.AsyncClient) -> None:
    name = f"{TEXT}{DIGITS}"
    paths = [
        "/{}",
        "/v1/{}",
        "/v1/models/{}",
        "/v1/models/breast-cancer/versions/{}",
        "/v1/models/breast-cancer/labels/{}",
    ]
    paths += ["/v1/models/breast-cancer:{}", "/v1/models/{}:predict", "/v2/{}", "/v2/models/{}", "/v2/models/{}/infer"]
    paths += ["/v2/models/breast-cancer/versions/{}/infer", "/v2/repository/models/{}/load"]
    fields = (
        "content-type",
        "content-encoding",
        "inference-header-content-length",
        "accept",
        "host",
        "cookie",
        "range",
    )
    for path in paths:
        for method in ("GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", name):
            answer = await client.request(method, f"{path.format(name)}?{name}={name}", headers={name: name})
            assert answer.status_code in {204, 400, 403, 404, 405, 415}
            assert TEXT not in f"{answer.text}{answer.headers}"
    for field in fields:
        for path in ("/v1/models/breast-cancer:predict", "/v2/models/breast-cancer/infer", "/v1/models"):
            answer = await client.post(path, content=b"{}", headers={"content-type": "application/json", field: name})
            assert answer.status_code >= 400
            assert TEXT not in f"{answer.text}{answer.headers}"

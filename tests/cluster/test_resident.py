"""Models that a request loads: who may load, how long they stay, and what is never loaded."""

import asyncio
import gc
import threading

import orjson
import pytest

from service.cluster.forwarded import Forwardable, Forwarded, Reply
from service.cluster.group_app import group_app
from service.cluster.resident import OnRequest, Resident, Use, loading
from service.main import repository_of
from service.settings import Settings
from tests.shipped_model import SHIPPED

NAME = "breast-cancer"


def request(path: str, body: object = None, *headers: tuple[bytes, bytes]) -> Forwarded:
    own = (b"content-type", b"application/json")
    sent = {"method": "POST" if body is not None else "GET", "path": path, "query_string": b"", "http_version": "1.1"}
    return Forwarded({**sent, "scheme": "http"}, (own, *headers), b"" if body is None else orjson.dumps(body))


class Kept:
    """Stands in for Ray's wrapper: loads, and lets go on demand."""

    def __init__(self, load: Resident) -> None:
        self._load = load
        self.loads: list[str] = []
        self.uses: dict[str, Use] = {}

    async def __call__(self, name: str) -> Use:
        if name not in self.uses:
            self.loads.append(name)
            self.uses[name] = await self._load(name)
        return self.uses[name]


@pytest.fixture
def parts(tmp_path):
    settings = Settings(audit="off", models=SHIPPED, data=tmp_path)
    made = group_app(settings, lambda name: name == NAME, loads_all=False)
    kept = Kept(loading(made.reloader, seconds=5.0))
    answer, repository = Forwardable(made.app).answer, repository_of(settings)
    return OnRequest(answer, kept, made.registry, repository, lambda name: name == NAME), kept, made


async def answered(own: OnRequest, sent: Forwarded) -> Reply:
    reply = await own.answer(sent)
    assert reply is not None
    return reply


async def test_the_first_request_loads_its_model_and_the_next_finds_it(parts, test_rows):
    own, kept, made = parts
    sent = request(f"/v1/models/{NAME}:predict", {"instances": test_rows[:1]})
    assert [(await answered(own, sent)).status for _ in range(2)] == [200, 200]
    assert kept.loads == [NAME]
    assert made.registry.names() == [NAME]


async def test_models_are_listed_before_any_is_in_memory_and_the_service_counts_as_one_that_has_models(parts):
    own, kept, made = parts
    assert orjson.loads((await answered(own, request("/v1/models"))).body) == {"models": [NAME]}
    assert not made.registry.is_empty
    assert kept.loads == []


@pytest.mark.parametrize("path", ["/v1/models/unknown:predict", "/v1/models/UNKNOWN", "/v2/models/other/ready"])
async def test_a_model_of_no_group_is_unknown_and_makes_no_other_leave(parts, path):
    own, kept, _ = parts
    assert (await answered(own, request(path, {} if ":" in path else None))).status == 404
    assert kept.loads == []


async def test_without_a_credential_nothing_is_loaded(tmp_path, test_rows):
    from click.testing import CliRunner

    from service.cli.main import command

    made_key = CliRunner().invoke(command, ["keys", "create", "--name", "a", "--data", str(tmp_path)])
    key = made_key.stdout.strip().encode()
    settings = Settings(audit="off", models=SHIPPED, data=tmp_path)
    made = group_app(settings, lambda _: True, loads_all=False)
    kept = Kept(loading(made.reloader, seconds=5.0))
    own = OnRequest(Forwardable(made.app).answer, kept, made.registry, repository_of(settings), lambda _: True)
    path, body = f"/v1/models/{NAME}:predict", {"instances": test_rows[:1]}
    assert (await answered(own, request(path, body))).status == 401
    assert kept.loads == []
    assert (await answered(own, request(path, body, (b"authorization", b"Bearer " + key)))).status == 200


def test_a_model_leaves_once_and_only_when_no_request_uses_it():
    left: list[str] = []
    use = Use("x", left.append, seconds=30.0)
    with use:
        leaving = threading.Thread(target=use.__del__)
        leaving.start()
        assert left == []
    leaving.join(timeout=30)
    assert left == ["x"]
    del use
    gc.collect()
    assert left == ["x"]


async def test_a_load_goes_on_when_its_request_ends_and_its_model_may_leave(parts, test_rows):
    own, kept, made = parts
    sent = request(f"/v1/models/{NAME}:predict", {"instances": test_rows[:1]})
    load: Resident = kept._load
    began = asyncio.Event()

    async def loaded(name: str) -> Use:
        began.set()
        return await load(name)

    kept._load = loaded
    asking = asyncio.ensure_future(own.answer(sent))
    await began.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await asyncio.gather(*own._bringing)
    assert made.registry.names() == [NAME]
    await asyncio.to_thread(kept.uses.pop(NAME).__del__)
    assert made.registry.names() == []


async def test_a_model_that_left_is_loaded_again(parts, test_rows):
    own, kept, made = parts
    sent = request(f"/v1/models/{NAME}:predict", {"instances": test_rows[:1]})
    await answered(own, sent)
    await asyncio.to_thread(kept.uses.pop(NAME).__del__)
    assert made.registry.names() == []
    assert (await answered(own, sent)).status == 200
    assert kept.loads == [NAME, NAME]


async def test_a_model_that_cannot_be_loaded_is_answered_with_its_reason_and_not_tried_by_every_request(
    repository, tmp_path, test_rows
):
    (repository.folder(NAME) / "1" / "model.onnx").write_bytes(b"x")
    settings = Settings(audit="off", models=repository.root, data=tmp_path / "data")
    made = group_app(settings, lambda _: True, loads_all=False)
    kept = Kept(loading(made.reloader, seconds=5.0))
    own = OnRequest(Forwardable(made.app).answer, kept, made.registry, repository, lambda _: True)
    sent = request(f"/v1/models/{NAME}:predict", {"instances": test_rows[:1]})
    first, second = [await answered(own, sent) for _ in range(2)]
    assert first.status == second.status == 503
    assert kept.loads == [NAME]

"""A real server under a real load, for as short as can be."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from service.api import bench
from service.api.bench import BenchFailed
from service.cli import main as cli
from tests.shipped_model import SHIPPED


def test_the_floor_answers_the_given_bytes() -> None:
    with bench.running(bench.serve_floor, b'{"a":1}') as floor:
        request = bench.request_bytes(floor, "/", b"{}")
        assert bench.ask(floor, request) == b'{"a":1}'
        (found,) = bench.compare(floor, floor, request, connections=[2], seconds=0.5)
    assert found.connections == 2
    assert 0.2 < found.server.per_second / found.floor.per_second < 5
    assert 0 < found.server.p50 <= found.server.p99


def test_an_answer_that_is_no_200_is_no_measurement(server) -> None:
    address = bench.Address(server.client.base_url.host, server.client.base_url.port)
    request = bench.request_bytes(address, "/v1/models/breast-cancer:decide", b"{}")
    with pytest.raises(BenchFailed, match="answered 422, not 200"):
        bench.ask(address, request)


def test_an_error_names_a_server_that_does_not_answer() -> None:
    nowhere = bench.Address("127.0.0.1", 9)
    with pytest.raises(BenchFailed, match=r"nothing answers at 127\.0\.0\.1 port 9"):
        bench.ask(nowhere, b"")


def test_the_command_measures_a_running_server_beside_the_floor(server, data_folder: Path) -> None:
    flags = ["--url", str(server.client.base_url), "--connections", "1,4", "--seconds", "0.5", "--rows", "3"]
    data = ["--data", str(data_folder / "test.csv"), "--models", str(SHIPPED), "--json"]
    result = CliRunner().invoke(cli.command, ["bench", "breast-cancer", *flags, *data], catch_exceptions=False)
    found = json.loads(result.output)
    assert [run["connections"] for run in found["runs"]] == [1, 4]
    assert found["model"]["digest"].startswith("sha256:")
    assert all(run["server"]["per_second"] > 0 for run in found["runs"])


def test_the_command_sends_a_key_to_a_server_that_needs_one(
    serving: Callable[..., AbstractContextManager[Any]], tmp_path: Path
) -> None:
    invoke = CliRunner().invoke
    made = ["keys", "create", "--name", "bench", "--data", str(tmp_path), "--out", str(tmp_path / "key")]
    assert invoke(cli.command, made).exit_code == 0
    with serving(SHIPPED, TEMPERANCE_DATA=str(tmp_path)) as running:
        flags = ["--url", str(running.client.base_url), "--connections", "1", "--seconds", "0.5"]
        command = ["bench", "breast-cancer", "--models", str(SHIPPED), "--json", *flags]
        assert isinstance(invoke(cli.command, command).exception, BenchFailed)
        (run,) = json.loads(invoke(cli.command, [*command, "--key", str(tmp_path / "key")]).output)["runs"]
    assert run["server"]["per_second"] > 0


def test_a_server_of_its_own_needs_no_key_although_the_service_has_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPERANCE_KEYS", str(tmp_path / "keys.json"))
    assert CliRunner().invoke(cli.command, ["keys", "create", "--name", "ehr"]).exit_code == 0
    flags = ["--models", str(SHIPPED), "--connections", "1", "--seconds", "0.5", "--json"]
    result = CliRunner().invoke(cli.command, ["bench", "breast-cancer", *flags], catch_exceptions=False)
    assert len(json.loads(result.output)["runs"]) == 1


@pytest.mark.parametrize("flags", [["--url", "ftp://x"], ["--connections", "0"], ["--connections", "many"]])
def test_what_makes_no_sense_is_bad_usage(flags: list[str]) -> None:
    result = CliRunner().invoke(cli.command, ["bench", "breast-cancer", "--models", str(SHIPPED), *flags])
    assert result.exit_code == 2

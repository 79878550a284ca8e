"""Costs measured on a real server, for as short as can be, and plans made of them."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from service.api import bench
from service.api.cost_measurement import counters
from service.capacity.request_costs import read_costs
from service.cli import main as cli
from tests.cli.printed import Run, one_line
from tests.shipped_model import SHIPPED

PLAN = ("capacity", "plan", "--requests-per-second", "5000", "--p99-ms", "50")
ROUGH = ("--cost", "request_seconds=1e-4", "--cost", "run_seconds=1e-4", "--cost", "record_bytes=1000")


@pytest.fixture(scope="module")
def costs_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Costs of the shipped model here, with a record."""
    place = tmp_path_factory.mktemp("costs") / "costs.json"
    flags = ["--models", str(SHIPPED), "--seconds", "0.5", "--rounds", "1", "--out", str(place), "--json"]
    result = CliRunner().invoke(cli.command, ["capacity", "measure", "breast-cancer", *flags], catch_exceptions=False)
    assert json.loads(result.output) == json.loads(place.read_text())
    return place


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli.command, list(arguments))


def planned(*arguments: str) -> dict[str, Any]:
    (found,) = json.loads(invoke(*PLAN, "--json", *arguments).output)["plans"]
    assert isinstance(found, dict)
    return found


def test_costs_are_measured_on_a_server_of_its_own(costs_file: Path) -> None:
    costs = read_costs(costs_file)
    assert costs.rows == 1
    assert costs.request_seconds + costs.row_seconds > 0.0
    assert costs.run_seconds > 0.0
    assert costs.is_recorded
    assert 0 < costs.request_bytes < costs.response_bytes
    assert 500 < costs.record_bytes < 2000
    assert costs.process_bytes > 10e6
    assert costs.batch_rows == 1024


def test_the_server_is_read_through_no_proxy_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    class Metrics(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'temperance_records_total{kind="a"} 3.0\n')

        def log_message(self, *_: object) -> None:
            """Nothing."""

    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with HTTPServer(("127.0.0.1", 0), Metrics) as server:
        server.timeout = 30.0
        answering = threading.Thread(target=server.handle_request)
        answering.start()
        try:
            found = counters(bench.Address("127.0.0.1", server.server_port))
        finally:
            answering.join()
    assert found["records"] == 3.0


def test_a_plan_is_made_of_measured_costs(costs_file: Path) -> None:
    found = planned("--costs", str(costs_file), "--p99-ms", "2000")
    assert found["processes"] >= 1
    assert found["traffic"]["records"] == 5000.0
    assert found["traffic"]["record_bytes"] == pytest.approx(5000.0 * read_costs(costs_file).record_bytes)


def test_without_a_record_none_is_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPERANCE_AUDIT", "off")
    flags = ["--models", str(SHIPPED), "--seconds", "0.5", "--rounds", "1", "--json"]
    command = ["capacity", "measure", "breast-cancer", *flags]
    costs = json.loads(CliRunner().invoke(cli.command, command, catch_exceptions=False).output)
    assert (costs["commit_seconds"], costs["record_bytes"]) == (0.0, 0.0)


def test_numbers_alone_make_a_plan_too() -> None:
    found = planned(*ROUGH, "--latency-factor", "1", "--database-records", "1000", "--price", "2")
    assert found["p99_seconds"] <= 0.05
    assert found["cost"] == 2 * found["core_hours"]
    assert found["traffic"]["records"] == 0.0


def test_a_plan_for_people_says_what_is_not_known() -> None:
    text = " ".join(invoke(*PLAN, *ROUGH).output.split())
    assert "processes" in text
    assert "cost in 30 days │ unknown" in text


def test_the_queue_of_the_settings_is_the_queue_of_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = ("--cost", "run_seconds=5e-3", "--cost", "run_row_seconds=5e-3", "--p99-ms", "900")
    most = planned(*slow)["most_of_a_process"]
    monkeypatch.setenv("TEMPERANCE_QUEUE_SECONDS", "0.02")
    assert planned(*slow)["most_of_a_process"] < most


def test_several_rates_are_planned_side_by_side() -> None:
    several = json.loads(invoke(*PLAN, *ROUGH, "--requests-per-second", "1000,1e5", "--json").output)["plans"]
    assert [one["requests_per_second"] for one in several] == [1e3, 1e5]
    assert several[0]["processes"] < several[1]["processes"]


@pytest.mark.parametrize("option", ["--price", "--headroom", "--database-records", "--latency-factor", "--p99-ms"])
@pytest.mark.parametrize("number", ["nan", "inf"])
def test_what_is_no_number_is_bad_usage(option: str, number: str) -> None:
    result = invoke(*PLAN, *ROUGH, option, number)
    assert result.exit_code == 2
    assert option in result.output


@pytest.mark.parametrize("rates", ["", "0", "many", "1,-1", "inf", "nan"])
def test_rates_that_make_no_sense_are_bad_usage(rates: str) -> None:
    assert invoke(*PLAN, *ROUGH, "--requests-per-second", rates).exit_code == 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--cost", "run_seconds=1"), "a request that is alone takes 1e+03 ms"),
        (("--cost", "speed=1"), "there is no such cost"),
        (("--costs", "no-such-file.json"), "no-such-file.json"),
    ],
)
def test_what_cannot_be_planned_is_one_clear_line(flags: tuple[str, ...], message: str, run: Run) -> None:
    assert message in one_line(run(*PLAN, *flags, code=1))

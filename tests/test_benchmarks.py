"""What `make bench` rests on, without its durations."""

import importlib
import json

import httpx
import numpy as np
import onnxruntime as ort
import pytest

from service.api import bench
from service.main import compose, load
from service.settings import Settings
from tests.bench import beside, client, comparison, table, tensors, wrk
from tests.bench.servers import ROOT, Server
from tests.bench.shipped import breast_rows
from tests.bench.synthetic import Network
from tests.bench.workloads import Group, Workload
from tests.shipped_model import SHIPPED

MODULES = sorted(path.stem for path in (ROOT / "tests/bench").glob("*.py"))
REPORT = """
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.20ms  300.00us   9.00ms   90.00%
  Latency Distribution
     50%  812.00us
     75%    1.10ms
     90%    1.50ms
     99%    2.75ms
  2000 requests in 1.00s, 3.00MB read
Requests/sec:   1987.25
Transfer/sec:      2.98MB
"""


@pytest.mark.parametrize("module", MODULES)
def test_every_benchmark_imports(module, monkeypatch, tmp_path):
    answer = tmp_path / "answer"
    answer.write_bytes(b"{}")
    monkeypatch.setenv("FLOOR_ANSWER", str(answer))
    assert importlib.import_module(f"tests.bench.{module}").__doc__


def test_the_makefile_runs_every_benchmark_that_can_be_run():
    runnable = {name for name in MODULES if "__main__" in (ROOT / f"tests/bench/{name}.py").read_text()}
    lines = (ROOT / "Makefile").read_text().splitlines()
    named = [name for line in lines if line.startswith(("BENCHMARKS", "SIMULATIONS")) for name in line.split()[2:]]
    assert sorted(named) == sorted(runnable)


def test_a_report_of_wrk_is_read_in_seconds():
    assert wrk.parse(REPORT) == wrk.Load(1987.25, 812e-6, 2.75e-3)


def test_a_latency_of_whole_seconds_is_read_too():
    assert wrk.parse(REPORT.replace("99%    2.75ms", "99%    1.10s ")).p99 == 1.1


@pytest.mark.parametrize("trouble", ["  Non-2xx or 3xx responses: 3", "  Socket errors: connect 0, read 0, timeout 2"])
def test_a_report_of_failures_is_no_measurement(trouble):
    with pytest.raises(SystemExit):
        wrk.parse(REPORT + trouble)


def test_moments_are_as_many_as_the_rate_says_and_ascend():
    even, random = client.constant(1000.0, 2.0), client.poisson(1000.0, 2.0, seed=0)
    assert len(even) == 2000
    assert abs(len(random) - 2000) < 4 * np.sqrt(2000)
    for moments in (even, random):
        assert (np.diff(moments) > 0).all()
        assert 0.0 <= moments[0] < moments[-1] < 2.0
    assert np.std(np.diff(random)) == pytest.approx(1e-3, rel=0.1)  # of exponential gaps it is their mean


def test_a_quantile_is_a_latency_that_was_seen():
    seen = client.Seen(np.arange(1.0, 101.0), np.zeros(100), 0.0)
    assert seen.quantile(0.5) == 51.0
    assert seen.quantile(0.99) == 100.0


def test_an_answer_is_complete_with_its_last_byte():
    whole = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n12345"
    assert [n for n in range(len(whole) + 1) if client.complete(whole[:n])] == [len(whole)]


def test_a_refusal_is_no_measurement():
    with pytest.raises(SystemExit, match="503"):
        client.complete(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")


def test_waiting_for_a_connection_counts_as_latency():
    with bench.running(bench.serve_floor, b"{}") as floor:
        request = wrk.Request("/", b"{}", wrk.JSON)
        seen = client.send(Server(floor.port, 0), request, np.zeros(20), connections=1)
    assert (seen.lags[1:] >= seen.latencies[:-1]).all()
    assert (np.diff(seen.latencies) > 0).all()


@pytest.mark.parametrize(
    ("one", "other", "where"),
    [
        ({"a": [1.0, {"b": 2.0}]}, {"a": [1.0, {"b": 2.0 + 1e-7}]}, None),
        ({"a": [1.0, {"b": 2.0}]}, {"a": [1.0, {"b": 2.1}]}, "answer.a[1].b"),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, "answer"),
        ({"a": [1]}, {"a": [1, 2]}, "answer.a"),
        ({"a": "x"}, {"a": "y"}, "answer.a"),
        ({"id": "x"}, {"id": "y"}, None),
    ],
)
def test_answers_are_compared_member_by_member(one, other, where):
    assert beside.difference(one, other) == where


@pytest.mark.parametrize("verb", ["predict", "decide"])
@pytest.mark.parametrize("parameters", [{}, {"top_k": 1}])
async def test_the_plain_service_answers_what_ours_answers(verb, parameters):
    plain = importlib.import_module("tests.bench.plain")
    settings = Settings(models=SHIPPED, audit="off")
    body = {"instances": breast_rows(100), "parameters": parameters}
    answers = []
    for app in (compose(settings, load(settings)), plain.app):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
            reply = await http.post(f"/v1/models/breast-cancer:{verb}", json=body)
        answers.append(reply.raise_for_status().json())
    assert beside.difference(*answers) is None


@pytest.mark.parametrize("verb", ["predict", "decide"])
async def test_the_bare_service_answers_the_same_numbers(verb):
    bare = importlib.import_module("tests.bench.bare")
    settings = Settings(models=SHIPPED, audit="off")
    bodies = {"instances": breast_rows(100)}
    answers = []
    for app in (compose(settings, load(settings)), bare.app):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
            reply = await http.post(f"/v1/models/breast-cancer:{verb}", json=bodies)
        answers.append(reply.raise_for_status().json())
    rows, arrays = answers[0]["predictions"], answers[1]
    np.testing.assert_allclose([list(row["probabilities"].values()) for row in rows], arrays["probabilities"])
    if verb == "decide":
        np.testing.assert_allclose([list(row["decision"]["risks"].values()) for row in rows], arrays["costs"])
        for name, scores in arrays["scores"].items():
            np.testing.assert_allclose(
                [row["ood"]["scores"][name]["score"] for row in rows], scores, rtol=1e-5, atol=1e-12
            )


@pytest.fixture(scope="module")
def workload_groups(tmp_path_factory):
    models = tmp_path_factory.mktemp("models")
    return models, comparison.published(models)


async def test_every_workload_is_answered(workload_groups):
    models, groups = workload_groups
    settings = Settings(models=models, audit="off")
    transport = httpx.ASGITransport(compose(settings, load(settings)))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        for group in groups:
            for work in group.workloads:
                request = work.request
                reply = await http.post(request.path, content=request.body, headers=request.headers)
                assert reply.status_code == 200, (group.title, work.name, reply.text)


def test_a_row_of_the_comparison_holds_medians_of_the_rounds_ratios():
    request = wrk.Request("/decide", b"", wrk.JSON)
    plain = Workload("plain rows", request, request, of_before=0.95)
    ids = Workload("ids", request, request, of_plain_rows=0.7)
    group = Group("1 row", [plain, ids], (64,), ROOT)
    speeds = {
        ("ours", "plain rows"): 100.0,
        ("ours", "ids"): 50.0,
        ("before", "plain rows"): 100.0,
        ("plain", "/decide"): 10.0,
        ("bare", "/decide"): 20.0,
        ("floor", "plain rows"): 400.0,
    }
    rounds = [{key: wrk.Load(speed * i, i / speed, 1.0) for key, speed in speeds.items()} for i in (1, 2, 5)]
    measured = comparison.Measured(group, 64, rounds)
    assert list(measured.cells(plain)[4:]) == ["1.00", "10.00", "5.00", "1.00 (≥ 0.95 met)", "4.0"]
    assert list(measured.cells(ids)[4:]) == ["0.50 (≥ 0.7 MISSED)", "5.00", "2.50", "", ""]


def test_a_network_computes_what_its_weights_define():
    network = Network("small", (6, 5, 4, 3), actions=2, rows=50)
    session = ort.InferenceSession(network.graph().SerializeToString(), providers=["CPUExecutionProvider"])
    x = network.sample(7, seed=0)
    logits = x
    for weight, offset in network.layers()[:-1]:
        logits = np.maximum(logits @ weight + offset, 0.0)
    weight, offset = network.layers()[-1]
    np.testing.assert_allclose(session.run(["logits"], {"X": x})[0], logits @ weight + offset, rtol=1e-4, atol=1e-5)


def test_a_binary_request_is_its_header_and_its_rows():
    request = tensors.binary("/v2/models/m/infer", [[1.0, 2.0], [3.0, 4.0]], "probabilities")
    length = int(request.headers["Inference-Header-Content-Length"])
    (entry,) = json.loads(request.body[:length])["inputs"]
    assert entry["shape"] == [2, 2]
    assert np.frombuffer(request.body[length:], "<f4").tolist() == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("value", "bounds", "shown"),
    [
        (2.0, {}, "2.0"),
        (2.0, {"at_least": 2.0}, "2.0 (≥ 2 met)"),
        (1.9, {"at_least": 2.0}, "1.9 (≥ 2 MISSED)"),
        (2.1, {"at_most": 2.0}, "2.1 (≤ 2 MISSED)"),
    ],
)
def test_a_missed_target_is_marked(value, bounds, shown):
    assert table.with_target(value, ".1f", **bounds) == shown

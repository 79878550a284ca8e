"""deploy/prometheus: rules that promtool proves, on metrics that the service has."""

import re
import shutil
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Server
from tests.deploy.engine import ROOT
from tests.shipped_model import SHIPPED

FOLDER: Final = ROOT / "deploy" / "prometheus"
GUIDE: Final = ROOT / "docs" / "guide" / "stack.md"
MADE_BY_PROMETHEUS: Final = {"up"}
MINUTES: Final = 60


def promtool(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """What promtool prints; a test skips where there is none."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is missing (apt-get install prometheus)")
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False, timeout=60)


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


ALERTS: Final = [rule["alert"] for rule in rules()]


def metrics_of(expression: str) -> set[str]:
    """Names of the metrics that an expression of PromQL reads."""
    return set(re.findall(r"\btemperance_\w+|\bup\b", re.sub(r'"[^"]*"', '""', expression)))


def exported(server: Server) -> set[str]:
    """Names of samples that /metrics of a server can have."""
    text = server.client.get("/metrics").text
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}
    families = [family for family in text_string_to_metric_families(text) if family.type in suffixes]
    return {f"{family.name}{suffix}" for family in families for suffix in suffixes[family.type]}


def test_prometheus_accepts_its_configuration_and_the_rules() -> None:
    checked = promtool("check", "config", FOLDER / "prometheus.yml")
    assert checked.returncode == 0, checked.stderr
    assert f"{len(ALERTS)} rules found" in checked.stdout


def test_every_alert_fires_stays_silent_and_clears_as_its_tests_say() -> None:
    tested = promtool("test", "rules", FOLDER / "alerts_test.yml")
    assert tested.returncode == 0, tested.stdout + tested.stderr


def changed(folder: Path, alert: str, expression: str) -> str:
    """What the tests of the rules print when the expression of one is another; empty where they pass."""
    path = folder / "alerts.yml"
    content = yaml.safe_load(path.read_text())
    for rule in (rule for group in content["groups"] for rule in group["rules"] if rule["alert"] == alert):
        rule["expr"] = expression.format(rule["expr"])
    path.write_text(yaml.safe_dump(content))
    tested = promtool("test", "rules", folder / "alerts_test.yml")
    return tested.stdout + tested.stderr if tested.returncode else ""


@pytest.mark.parametrize("alert", ALERTS)
@pytest.mark.parametrize("expression", ["({}) > 1e300", "({}) or vector(1)"], ids=["never", "always"])
def test_the_tests_of_the_rules_fail_for_an_alert_that_fires_never_or_always(
    tmp_path: Path, alert: str, expression: str
) -> None:
    folder = shutil.copytree(FOLDER, tmp_path / "prometheus")
    assert alert in changed(folder, alert, expression)


def at_rest(text: str) -> str:
    """A test of the rules: what /metrics shows stays as it is for an hour, and nothing fires."""
    samples = [line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#")]
    series = [{"series": name, "values": " ".join([value] * MINUTES)} for name, _, value in samples]
    series.append({"series": 'up{job="temperance"}', "values": f"1x{MINUTES}"})
    silent = [{"expr": 'ALERTS{alertstate="firing"}', "eval_time": f"{minute}m"} for minute in range(MINUTES)]
    tests = [{"interval": "1m", "input_series": series, "promql_expr_test": silent}]
    return yaml.safe_dump({"rule_files": ["alerts.yml"], "evaluation_interval": "1m", "tests": tests})


@pytest.mark.parametrize("audit", ["strict", "off"])
def test_no_alert_fires_for_a_service_at_rest(
    audit: str, serving: Callable[..., AbstractContextManager[Server]], tmp_path: Path
) -> None:
    shutil.copy(FOLDER / "alerts.yml", tmp_path)
    with serving(SHIPPED, TEMPERANCE_AUDIT=audit) as running:
        (tmp_path / "test.yml").write_text(at_rest(running.client.get("/metrics").text))
    tested = promtool("test", "rules", tmp_path / "test.yml")
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize("rule", rules(), ids=ALERTS)
def test_an_alert_reads_only_metrics_that_the_service_exports(rule: dict[str, Any], server: Server) -> None:
    read = metrics_of(rule["expr"])
    assert read
    assert read <= exported(server) | MADE_BY_PROMETHEUS


def test_the_alert_on_errors_leaves_out_every_route_that_a_probe_asks(server: Server) -> None:
    probes = {"/livez", "/readyz", "/v2/health/live", "/v2/health/ready", "/v2/models/{name}/ready"}
    for path in probes:
        assert server.client.get(path.format(name="breast-cancer")).status_code == 200
    (rule,) = (rule for rule in rules() if rule["alert"] == "TemperanceErrors")
    (left_out,) = set(re.findall(r'route!~"([^"]+)"', rule["expr"]))
    routes = set(
        re.findall(r'^temperance_requests_total\{.*route="([^"]+)"', server.client.get("/metrics").text, re.MULTILINE)
    )
    assert probes <= {route for route in routes if re.fullmatch(left_out, route)}
    assert not re.fullmatch(left_out, "/v2/models/{name}/infer")


@pytest.mark.parametrize("rule", rules(), ids=ALERTS)
def test_an_alert_has_a_severity_a_summary_and_a_place_in_the_guide(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"].keys() == {"summary", "description"}
    assert f"| `{rule['alert']}` |" in GUIDE.read_text()

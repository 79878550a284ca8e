"""deploy/prometheus: rules that promtool proves, on metrics that the service has."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Server
from tests.deploy.engine import ROOT

FOLDER: Final = ROOT / "deploy" / "prometheus"
GUIDE: Final = ROOT / "docs" / "guide" / "stack.md"
MADE_BY_PROMETHEUS: Final = {"up"}


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


@pytest.mark.parametrize("rule", rules(), ids=ALERTS)
def test_an_alert_reads_only_metrics_that_the_service_exports(rule: dict[str, Any], server: Server) -> None:
    read = metrics_of(rule["expr"])
    assert read
    assert read <= exported(server) | MADE_BY_PROMETHEUS


@pytest.mark.parametrize("rule", rules(), ids=ALERTS)
def test_an_alert_has_a_severity_a_summary_and_a_place_in_the_guide(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"].keys() == {"summary", "description"}
    assert f"| `{rule['alert']}` |" in GUIDE.read_text()

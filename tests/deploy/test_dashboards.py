"""deploy/grafana: every panel asks something that Prometheus can parse, of metrics that the service has.

Grafana itself is not run: no package of it can be had where these tests were written.
"""

import json
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.conftest import Server
from tests.deploy.engine import ROOT
from tests.deploy.test_alerts import exported, metrics_of, promtool

FOLDER: Final = ROOT / "deploy" / "grafana"
BOARDS: Final = sorted((FOLDER / "dashboards").glob("*.json"))
VARIABLES: Final = {"$__rate_interval": "5m", "$__range": "6h", "$model": ".*", "$version": ".*"}
COLUMNS: Final = 24


def board(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def expressions(path: Path) -> list[str]:
    """Of every panel, with a value for every variable."""
    found = [target["expr"] for panel in board(path)["panels"] for target in panel["targets"]]
    for name, value in VARIABLES.items():
        found = [expression.replace(name, value) for expression in found]
    return found


def datasource() -> dict[str, Any]:
    (source,) = yaml.safe_load((FOLDER / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert isinstance(source, dict)
    return source


def test_there_is_one_dashboard_of_the_service_and_one_of_its_models() -> None:
    assert [path.stem for path in BOARDS] == ["model", "service"]
    assert len({board(path)["uid"] for path in BOARDS}) == len(BOARDS)


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_promtool_parses_every_expression(path: Path, tmp_path: Path) -> None:
    rules = [{"record": f"panel:{place}", "expr": text} for place, text in enumerate(expressions(path))]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    checked = promtool("check", "rules", tmp_path / "rules.yml")
    assert checked.returncode == 0, checked.stderr
    assert f"{len(rules)} rules found" in checked.stdout


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_every_expression_reads_metrics_that_the_service_exports(path: Path, server: Server) -> None:
    own = exported(server) | {"up"}
    for expression in expressions(path):
        assert metrics_of(expression)
        assert metrics_of(expression) <= own


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_every_panel_uses_the_provisioned_datasource_and_no_variable_that_is_missing(path: Path) -> None:
    content, uid = board(path), datasource()["uid"]
    named = {f"${variable['name']}" for variable in content["templating"]["list"]} | {"$__rate_interval", "$__range"}
    for panel in content["panels"]:
        sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
        assert {source["uid"] for source in sources} == {uid}
        for target in panel["targets"]:
            used = {word for word in VARIABLES if word in target["expr"]}
            assert "$" not in _without(target["expr"], used)
            assert used <= named


def _without(text: str, words: set[str]) -> str:
    for word in words:
        text = text.replace(word, "")
    return text


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_panels_have_a_title_a_description_and_a_place_of_their_own(path: Path) -> None:
    taken: set[tuple[int, int]] = set()
    panels = board(path)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["title"]
        assert panel["description"]
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= COLUMNS
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken
        taken |= cells


def test_the_dashboard_of_models_shows_ood_rate_actions_calibration_and_drift() -> None:
    read = set().union(*map(metrics_of, expressions(FOLDER / "dashboards" / "model.json")))
    assert read >= {
        "temperance_flagged_rows_total",
        "temperance_actions_total",
        "temperance_alarm_evidence",
        "temperance_alarm_outcomes",
        "temperance_alarm",
    }


def test_dashboards_and_datasource_are_where_compose_mounts_them() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    mounts = dict(mount.split(":")[:2] for mount in services["grafana"]["volumes"])
    (provider,) = yaml.safe_load((FOLDER / "provisioning/dashboards/temperance.yml").read_text())["providers"]
    assert mounts["./deploy/grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    assert datasource()["url"] == "http://prometheus:9090"
    assert "prometheus" in services


def test_grafana_gets_its_password_from_a_file_and_calls_nowhere() -> None:
    grafana = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]
    own = grafana["environment"]
    assert own["GF_SECURITY_ADMIN_PASSWORD__FILE"] == "/run/secrets/grafana-password"  # noqa: S105  # a path
    off = {"GF_ANALYTICS_REPORTING_ENABLED", "GF_ANALYTICS_CHECK_FOR_UPDATES", "GF_NEWS_NEWS_FEED_ENABLED"}
    assert {own[name] for name in off} == {"false"}

"""The alerts of `deploy/prometheus/alerts.yml` as a resource of the Prometheus Operator.

`python -m tests.deploy.prometheus_rule` writes it; `tests/deploy/test_kubernetes.py` holds that it is up to date.
"""

from pathlib import Path
from typing import Any, Final

import yaml

DEPLOY: Final = Path(__file__).resolve().parents[2] / "deploy"
ALERTS: Final = DEPLOY / "prometheus" / "alerts.yml"
RULES: Final = DEPLOY / "kubernetes" / "components" / "prometheus-operator" / "rules.yaml"
HEAD: Final = "# Made of deploy/prometheus/alerts.yml by `python -m tests.deploy.prometheus_rule`.\n"


def prometheus_rule(alerts: Path = ALERTS) -> dict[str, Any]:
    """A PrometheusRule with the groups of a file of rules."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "temperance", "labels": {"app.kubernetes.io/name": "temperance"}},
        "spec": yaml.safe_load(alerts.read_text(encoding="utf-8")),
    }


def rule_text() -> str:
    """What the file of the component holds."""
    return HEAD + yaml.safe_dump(prometheus_rule(), sort_keys=False, width=120, allow_unicode=True)


if __name__ == "__main__":
    RULES.write_text(rule_text(), encoding="utf-8")

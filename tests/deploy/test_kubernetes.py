"""The manifests of `deploy/kubernetes`: they fit their schemas, and what they name exists and fits together.

No cluster is at hand. `tests/deploy/test_kubernetes_pod.py` runs what a pod would run.
"""

import base64
import copy
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml

from service.environment import Sources
from service.settings import PREFIX, Settings
from service.start_checks import check_settings
from tests.conftest import TEMPERANCE
from tests.deploy.manifests import (
    FOLDER,
    RELEASES,
    WHOLE,
    Pod,
    Resource,
    as_pod,
    check_schema,
    image_port,
    needs_kubectl,
    of_kind,
    one,
    pod,
    rendered,
)
from tests.deploy.prometheus_rule import RULES, rule_text
from tests.documents import anchors

pytestmark = needs_kubectl
WITH_A_SERVICE: Final = ("base", "overlays/example")
ADAPTER: Final = FOLDER / "components" / "queue-time" / "prometheus-adapter.yaml"
ANY_NAMES: Final = frozenset({"labels", "annotations", "matchLabels", "data", "requests", "limits", "selector"}) | {
    *("emptyDir", "securityContext"),  # which a Knative Service leaves to the schema of a pod, and that has a test
}
HALF_SENT: Final = 2.0
"""Seconds that a body may be late at the end."""


def seconds(own: Pod, name: str) -> float:
    return float(own.settings()[f"{PREFIX}{name}"])


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("folder", WHOLE)
def test_every_resource_fits_the_schema_of_its_kind(folder: str, release: str) -> None:
    for resource in rendered(folder):
        check_schema(resource, release)


@pytest.mark.parametrize("folder", WHOLE)
def test_what_a_custom_resource_says_of_its_pod_fits_the_schema_of_a_pod(folder: str) -> None:
    for release in RELEASES:
        kubernetes_validate.validate(as_pod(pod(folder).spec), release, strict=True)


def places(value: Any) -> list[Resource]:
    """Every object within a resource, but for those that may hold any names."""
    if isinstance(value, list):
        return [place for part in value for place in places(part)]
    if not isinstance(value, dict):
        return []
    return [value] + [place for key, part in value.items() if key not in ANY_NAMES for place in places(part)]


@pytest.mark.parametrize("folder", WHOLE)
def test_a_field_that_no_schema_knows_is_found_in_every_place(folder: str) -> None:
    for resource in rendered(folder):
        for number in range(len(places(resource))):
            changed = copy.deepcopy(resource)
            places(changed)[number]["misspelt"] = "1"
            with pytest.raises((AssertionError, kubernetes_validate.ValidationError)):
                check_schema(changed, RELEASES[-1])


@pytest.mark.parametrize("folder", WHOLE)
def test_a_pod_keeps_to_the_restricted_standard(folder: str) -> None:
    own = pod(folder)
    assert own.spec["securityContext"]["runAsNonRoot"] is True
    assert own.spec["securityContext"]["runAsUser"] == 10001
    assert own.spec["securityContext"]["fsGroup"] == 10001
    assert own.spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own.spec["automountServiceAccountToken"] is False
    assert own.spec["enableServiceLinks"] is False
    assert own.spec.keys().isdisjoint({"hostNetwork", "hostPID", "hostIPC"})
    for container in [*own.spec["containers"], *own.spec.get("initContainers", [])]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "memory" in container["resources"]["limits"]
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()


@pytest.mark.parametrize("folder", WHOLE)
def test_a_pod_is_killed_after_its_last_request_could_end(folder: str) -> None:
    own = pod(folder)
    assert own.grace > seconds(own, "DRAIN_SECONDS") + seconds(own, "DEADLINE") + HALF_SENT


@pytest.mark.parametrize("folder", [*WITH_A_SERVICE, "overlays/kserve"])
def test_a_drain_is_longer_than_it_takes_to_see_it(folder: str) -> None:
    probe = pod(folder).container["readinessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] + 1 < seconds(pod(folder), "DRAIN_SECONDS")


@pytest.mark.parametrize("folder", WHOLE)
def test_a_pod_is_restarted_by_its_liveness_alone_and_ready_by_its_readiness(folder: str) -> None:
    container = pod(folder).container
    ports = {port.get("name", ""): port["containerPort"] for port in container["ports"]}
    assert set(ports.values()) == {image_port()}
    paths = {name: container[name]["httpGet"]["path"] for name in container if name.endswith("Probe")}
    assert paths["startupProbe"] == paths["readinessProbe"]
    assert paths["readinessProbe"] in {"/readyz", "/v2/health/ready"}
    assert paths["livenessProbe"] in {"/livez", "/v2/health/live"}
    for name in paths:
        port = container[name]["httpGet"]["port"]
        assert ports.get(port, port) == image_port()


@pytest.mark.parametrize("folder", WHOLE)
def test_every_variable_is_a_setting_with_a_value_that_it_may_have(
    folder: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = pod(folder).settings()
    assert {name.removeprefix(PREFIX).lower() for name in own} <= Settings.model_fields.keys()
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert (settings.audit, settings.host) == ("strict", "0.0.0.0")  # noqa: S104  # a pod's own
    keys = tmp_path / "keys.json"
    keys.write_text('{"schema": 1, "keys": []}')
    password = tmp_path / "store-password"
    password.write_text("of a test")
    files = {"data": tmp_path, "keys": keys, "store_password_file": password}
    here = settings.model_copy(update={**files, "insecure": True})
    check_settings(here, Sources.of_environment())


def mounted(own: Pod, path: str, *, writable: bool) -> bool:
    """Whether a path lies in a volume, and can be written as said."""
    mounts = [mount for mount in own.container["volumeMounts"] if Path(path).is_relative_to(mount["mountPath"])]
    return any(mount.get("readOnly", False) is not writable for mount in mounts)


@pytest.mark.parametrize("folder", WHOLE)
def test_what_is_written_lies_in_volumes_and_what_is_secret_is_read_only(folder: str) -> None:
    own, settings = pod(folder), pod(folder).settings()
    assert mounted(own, "/tmp", writable=True)  # noqa: S108  # a container's own
    assert mounted(own, settings["TEMPERANCE_DATA"], writable=True)
    for name in ("KEYS", "SECRETS", "STORE_PASSWORD_FILE"):
        assert mounted(own, settings[f"{PREFIX}{name}"], writable=False)
    assert settings["TEMPERANCE_ANCHORS"] == "-"  # no replica keeps anything


@pytest.mark.parametrize("folder", WHOLE)
def test_every_mount_has_its_volume_and_every_secret_is_read_by_the_group_alone(folder: str) -> None:
    spec = pod(folder).spec
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    containers = [*spec["containers"], *spec.get("initContainers", [])]
    assert {mount["name"] for container in containers for mount in container["volumeMounts"]} == volumes.keys()
    for volume in volumes.values():
        assert "secret" not in volume or volume["secret"]["defaultMode"] == 0o440
        assert "emptyDir" not in volume or "sizeLimit" in volume["emptyDir"]


@pytest.mark.parametrize("folder", WHOLE)
def test_no_secret_stands_in_a_manifest(folder: str) -> None:
    assert list(of_kind(folder, "Secret")) == []
    assert "password@" not in json.dumps(rendered(folder))
    assert ":" not in pod(folder).settings()["TEMPERANCE_STORE"].partition("@")[0].removeprefix("postgresql://")


@pytest.mark.parametrize("folder", WITH_A_SERVICE)
def test_every_selector_finds_the_pods(folder: str) -> None:
    own = pod(folder)
    deployment = one(folder, "Deployment")
    selectors = [
        deployment["spec"]["selector"]["matchLabels"],
        one(folder, "Service")["spec"]["selector"],
        one(folder, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        one(folder, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        *(entry["labelSelector"]["matchLabels"] for entry in own.spec["topologySpreadConstraints"]),
    ]
    assert all(selector.items() <= own.labels.items() for selector in selectors)
    target = one(folder, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", deployment["metadata"]["name"])
    assert own.spec["serviceAccountName"] == one(folder, "ServiceAccount")["metadata"]["name"]


@pytest.mark.parametrize("folder", WITH_A_SERVICE)
def test_the_service_leads_to_the_port_of_the_container(folder: str) -> None:
    (port,) = one(folder, "Service")["spec"]["ports"]
    assert {entry["name"]: entry["containerPort"] for entry in pod(folder).container["ports"]} == {
        port["targetPort"]: image_port()
    }


@pytest.mark.parametrize("folder", WITH_A_SERVICE)
def test_the_autoscaler_alone_says_how_many_replicas_there_are(folder: str) -> None:
    spec = one(folder, "HorizontalPodAutoscaler")["spec"]
    assert "replicas" not in one(folder, "Deployment")["spec"]
    assert spec["minReplicas"] == 2
    assert one(folder, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    assert one(folder, "Deployment")["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_prometheus_finds_the_service_by_its_labels_and_its_port() -> None:
    monitor, service = one("overlays/example", "ServiceMonitor")["spec"], one("overlays/example", "Service")
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert [endpoint["port"] for endpoint in monitor["endpoints"]] == [service["spec"]["ports"][0]["name"]]
    assert service["metadata"]["name"] == "temperance"  # the job, by which the alerts know it


def test_the_rules_of_the_operator_are_the_alerts_of_the_stack() -> None:
    assert RULES.read_text(encoding="utf-8") == rule_text()


@pytest.mark.parametrize("folder", WITH_A_SERVICE)
def test_the_network_policy_allows_what_the_environment_needs(folder: str) -> None:
    spec = one(folder, "NetworkPolicy")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert all(entry["from"] and entry["ports"] == [{"protocol": "TCP", "port": "http"}] for entry in spec["ingress"])
    allowed = {(port["protocol"], port["port"]) for entry in spec["egress"] for port in entry["ports"]}
    store = pod(folder).settings()["TEMPERANCE_STORE"]
    needed = {("TCP", int(store.rpartition(":")[2].partition("/")[0])), ("UDP", 53), ("TCP", 53), ("TCP", 443)}
    assert allowed == needed
    assert all(entry["to"] for entry in spec["egress"])


def test_the_queue_is_watched_by_the_name_that_the_adapter_gives_it_and_at_a_tenth_of_its_bound() -> None:
    metrics = one("overlays/example", "HorizontalPodAutoscaler")["spec"]["metrics"]
    (rule,) = yaml.safe_load(ADAPTER.read_text(encoding="utf-8"))["rules"]["custom"]
    assert [metric["type"] for metric in metrics] == ["Resource", "Pods"]
    assert metrics[1]["pods"]["metric"]["name"] == rule["name"]["as"]
    target = float(metrics[1]["pods"]["target"]["averageValue"].removesuffix("m")) / 1000
    assert target == pytest.approx(Settings.model_fields["queue_seconds"].default / 10)
    assert rule["seriesQuery"].startswith("temperance_queue_seconds_count{")


QUEUE_TEST: Final = """\
rule_files: [rule.yml]
evaluation_interval: 15s
tests:
  - interval: 15s
    input_series:
      - series: 'temperance_queue_seconds_sum{namespace="n", pod="busy", model="a"}'
        values: 0+3x20
      - series: 'temperance_queue_seconds_count{namespace="n", pod="busy", model="a"}'
        values: 0+50x20
      - series: 'temperance_queue_seconds_sum{namespace="n", pod="busy", model="b"}'
        values: 0+1x20
      - series: 'temperance_queue_seconds_count{namespace="n", pod="busy", model="b"}'
        values: 0+50x20
      - series: 'temperance_queue_seconds_sum{namespace="n", pod="idle", model="a"}'
        values: 7+0x20
      - series: 'temperance_queue_seconds_count{namespace="n", pod="idle", model="a"}'
        values: 9+0x20
    promql_expr_test:
      - expr: round(wait, 0.0001)
        eval_time: 4m
        exp_samples:
          - {labels: '{namespace="n", pod="busy"}', value: 0.04}
          - {labels: '{namespace="n", pod="idle"}', value: 0}
"""


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_the_wait_of_a_pod_is_the_mean_over_its_models_and_0_without_requests(tmp_path: Path) -> None:
    (rule,) = yaml.safe_load(ADAPTER.read_text(encoding="utf-8"))["rules"]["custom"]
    expression = rule["metricsQuery"].replace("<<.GroupBy>>", "namespace, pod").replace("<<.LabelMatchers>>", "")
    rules = {"groups": [{"name": "adapter", "rules": [{"record": "wait", "expr": expression}]}]}
    (tmp_path / "rule.yml").write_text(yaml.safe_dump(rules))
    (tmp_path / "test.yml").write_text(QUEUE_TEST)
    done = subprocess.run(
        ["promtool", "test", "rules", str(tmp_path / "test.yml")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_kserve_and_knative_get_what_their_contracts_ask_for() -> None:
    served, runtime = pod("overlays/kserve"), one("overlays/kserve", "ServingRuntime")["spec"]
    model = one("overlays/kserve", "InferenceService")["spec"]["predictor"]["model"]
    assert served.container["name"] == "kserve-container"
    assert served.settings()["TEMPERANCE_MODELS"] == "/mnt/models"
    assert runtime["protocolVersions"] == [model["protocolVersion"]] == ["v2"]
    assert model["runtime"] == one("overlays/kserve", "ServingRuntime")["metadata"]["name"]
    assert model["modelFormat"]["name"] in {known["name"] for known in runtime["supportedModelFormats"]}
    assert "PORT" not in {entry["name"] for entry in pod("overlays/knative").container["env"]}  # Knative's own
    assert "initContainers" not in pod("overlays/knative").spec


@pytest.mark.parametrize("folder", ["overlays/kserve", "overlays/knative"])
def test_a_change_of_the_settings_makes_new_pods_of_custom_resources_too(folder: str) -> None:
    (source,) = pod(folder).container["envFrom"]
    assert source["configMapRef"]["name"] == one(folder, "ConfigMap")["metadata"]["name"] != "temperance-settings"


README: Final = (FOLDER / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    """What the page tells an operator to run first, a command each."""
    (block,) = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    return str(block).replace("\\\n", " ").splitlines()


def run(command: str, folder: Path) -> str:
    """A command of the page; what would go to a cluster is printed."""
    own = {"PATH": f"{TEMPERANCE.parent}:{os.environ['PATH']}", "HOME": str(folder)}
    dry = " --dry-run=client --output=json" if command.startswith("kubectl ") else ""
    done = subprocess.run(
        ["bash", "-c", command + dry], cwd=folder, env=own, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_commands_of_the_page_make_every_secret_that_pods_mount(tmp_path: Path) -> None:
    (tmp_path / "store-password").write_text("of a test")
    printed = [run(command, tmp_path) for command in commands()]
    made = [json.loads(text) for text in printed if text.startswith("{")]
    secrets = {resource["metadata"]["name"]: resource["data"].keys() for resource in made if "data" in resource}
    for folder in WHOLE:
        own = pod(folder)
        named = {volume["name"]: volume["secret"]["secretName"] for volume in own.spec["volumes"] if "secret" in volume}
        for mount in own.container["volumeMounts"]:
            if mount["name"] in named:
                paths = [Path(value) for value in own.settings().values()]
                files = {path.name for path in paths if path.is_relative_to(mount["mountPath"])}
                assert secrets[named[mount["name"]]] == files
    credentials = one("overlays/example", "ServiceMonitor")["spec"]["endpoints"][0]["authorization"]["credentials"]
    assert credentials["key"] in secrets[credentials["name"]]
    key = next(resource["data"]["api-key"] for resource in made if resource["metadata"]["name"] == credentials["name"])
    assert base64.b64decode(key).decode() == (tmp_path / "metrics-key").read_text().strip()  # a header has no line end
    assert one("overlays/example", "Deployment")["metadata"]["namespace"] == made[0]["metadata"]["name"]


def test_the_page_names_every_folder_and_its_links_lead_somewhere() -> None:
    folders = {path.parent.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("kustomization.yaml")}
    assert set(re.findall(r"^\| `([\w/-]+)` \|", README, flags=re.MULTILINE)) == folders
    for target in re.findall(r"\]\((?!http)([^)]+)\)", README):
        path, _, anchor = target.partition("#")
        page = (FOLDER / path).resolve()
        assert page.exists()
        assert not anchor or anchor in anchors(page)

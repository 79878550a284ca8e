"""The resources of `deploy/kubernetes`, as kustomize makes them, and the schemas that they must fit.

kubectl makes them without a cluster. No API server checks them: a schema knows fields, types and required members, and
nothing that a cluster finds out later.
"""

import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import kserve
import kubernetes.client.models
import kubernetes_validate
import pytest
import yaml
from cloudcoil.models.knative_serving.serving import v1 as knative
from cloudcoil.models.prometheus_operator import v1 as prometheus
from pydantic import BaseModel

from service.settings import PREFIX

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = ROOT / "deploy" / "kubernetes"
DOCKERFILE: Final = ROOT / "deploy" / "Dockerfile"
WHOLE: Final = ("base", "overlays/example", "overlays/kserve", "overlays/knative")
"""What can be applied."""
RELEASES: Final = ("1.31", "1.34", "1.37")
"""Of Kubernetes: the oldest that has every field, and the newest whose schema is at hand."""
SIMPLE: Final[dict[str, type]] = {"str": str, "int": int, "bool": bool}

Resource = dict[str, Any]
needs_kubectl: Final = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")


@cache
def rendered(folder: str) -> tuple[Resource, ...]:
    """Every resource that kustomize makes of a folder."""
    command = ["kubectl", "kustomize", str(FOLDER / folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return tuple(yaml.safe_load_all(done.stdout))


def of_kind(folder: str, kind: str) -> Iterator[Resource]:
    """Those of a kind."""
    return (resource for resource in rendered(folder) if resource["kind"] == kind)


def one(folder: str, kind: str) -> Resource:
    """The only one of a kind."""
    (found,) = of_kind(folder, kind)
    return found


@dataclass(frozen=True)
class Pod:
    """What the pods of a folder will be.

    Attributes
    ----------
    folder : str
    labels : dict of str to str
    spec : dict
        As a pod has it.
    grace : float
        Seconds between SIGTERM and SIGKILL.
    """

    folder: str
    labels: dict[str, str]
    spec: Resource
    grace: float

    @property
    def container(self) -> Resource:
        """The one that serves."""
        (container,) = self.spec["containers"]
        found: Resource = container
        return found

    def variables(self, container: Resource) -> dict[str, str]:
        """The environment of a container: the image's, that of its ConfigMaps, its own."""
        maps = {resource["metadata"]["name"]: resource["data"] for resource in of_kind(self.folder, "ConfigMap")}
        found = image_variables()
        for source in container.get("envFrom", []):
            found |= maps[source["configMapRef"]["name"]]
        return found | {entry["name"]: entry["value"] for entry in container.get("env", [])}

    def settings(self) -> dict[str, str]:
        """Those of the serving container that are settings."""
        own = self.variables(self.container)
        return {name: value for name, value in own.items() if name.startswith(PREFIX)}


def pod(folder: str) -> Pod:
    """The pod of a folder."""
    return _POD[folder](folder)


def image_variables() -> dict[str, str]:
    """What the stages of the image set, the later over the earlier."""
    text = DOCKERFILE.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = (line.removeprefix("ENV ") for line in text.splitlines() if line.startswith("ENV "))
    return dict(pair.split("=", 1) for line in lines for pair in shlex.split(line))


def image_port() -> int:
    """Where the image listens."""
    variables = image_variables()
    return int(variables.get("PORT") or variables["TEMPERANCE_PORT"])


def _of_deployment(folder: str) -> Pod:
    template = one(folder, "Deployment")["spec"]["template"]
    spec = template["spec"]
    return Pod(folder, template["metadata"]["labels"], spec, spec["terminationGracePeriodSeconds"])


def _of_kserve(folder: str) -> Pod:
    # KServe merges the predictor into the runtime.
    runtime, predictor = one(folder, "ServingRuntime")["spec"], one(folder, "InferenceService")["spec"]["predictor"]
    own = {key: value for key, value in predictor.items() if key not in _OF_KSERVE}
    spec = {"containers": runtime["containers"], "volumes": runtime["volumes"], **own}
    return Pod(folder, {}, spec, spec["terminationGracePeriodSeconds"])


def _of_knative(folder: str) -> Pod:
    spec = dict(one(folder, "Service")["spec"]["template"]["spec"])
    spec.pop("containerConcurrency")
    return Pod(folder, {}, spec, spec.pop("timeoutSeconds"))  # which is its grace period too


def check_schema(resource: Resource, release: str) -> None:
    """Raise where a resource does not fit the schema of its kind, or where there is no schema for it."""
    key = f"{resource['apiVersion']}/{resource['kind']}"
    if key in _CHECKS:
        _CHECKS[key](resource)
    else:
        kubernetes_validate.validate(resource, release, strict=True)


def as_pod(spec: Resource) -> Resource:
    """A pod of a specification that a custom resource has within it."""
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec}


def _by_model(model: type[BaseModel]) -> Callable[[Resource], None]:
    # These types drop what they do not know: what comes back must be what went in.
    def check(resource: Resource) -> None:
        found = model.model_validate(resource).model_dump(mode="json", by_alias=True, exclude_unset=True)
        assert found == resource

    return check


def _by_class(name: str) -> Callable[[Resource], None]:
    return lambda resource: check_fields(resource, name, resource["kind"])


def check_fields(value: Any, kind: str, where: str) -> None:
    """Check a value against the types of KServe's and Kubernetes' clients: no field is unknown, each has its type."""
    if kind.lower().startswith(("list[", "dict(", "dict[")):
        inner = kind[5:-1].rpartition(",")[2].strip()
        assert isinstance(value, list if kind.lower().startswith("list[") else dict), where
        for key, part in value.items() if isinstance(value, Mapping) else enumerate(value):
            check_fields(part, inner, f"{where}.{key}")
    elif (model := getattr(kserve, kind, None) or getattr(kubernetes.client.models, kind, None)) is not None:
        names = {json: name for name, json in model.attribute_map.items()}
        assert value.keys() <= names.keys(), f"{where}: {value.keys() - names.keys()}"
        for key, part in value.items():
            check_fields(part, model.openapi_types[names[key]], f"{where}.{key}")
    elif kind in SIMPLE:
        assert type(value) is SIMPLE[kind], where


_OF_KSERVE: Final = frozenset({"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "model"})
"""Of a predictor; the rest of it is a pod's."""
_POD: Final[dict[str, Callable[[str], Pod]]] = {
    "base": _of_deployment,
    "overlays/example": _of_deployment,
    "overlays/kserve": _of_kserve,
    "overlays/knative": _of_knative,
}
_CHECKS: Final[dict[str, Callable[[Resource], None]]] = {
    "monitoring.coreos.com/v1/ServiceMonitor": _by_model(prometheus.ServiceMonitor),
    "monitoring.coreos.com/v1/PrometheusRule": _by_model(prometheus.PrometheusRule),
    "serving.knative.dev/v1/Service": _by_model(knative.Service),
    "serving.kserve.io/v1beta1/InferenceService": _by_class("V1beta1InferenceService"),
    "serving.kserve.io/v1alpha1/ServingRuntime": _by_class("V1alpha1ServingRuntime"),
}

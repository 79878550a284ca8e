"""The containers of a pod of `deploy/kubernetes` in a real engine: the image, as tightly held as the manifest says.

The engine does what a kubelet would: user, read-only root, capabilities, memory, volumes and their owners, environment.
"""

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.engine import Docker
from tests.deploy.manifests import Resource, image_variables, needs_kubectl, pod
from tests.deploy.pods import Node, node, store
from tests.deploy.test_kubernetes_pod import check_answers
from tests.runtime.test_proofs_of_a_server import wait_for
from tests.shipped_model import SHIPPED

pytestmark = [
    needs_kubectl,
    pytest.mark.skipif(
        os.geteuid() != 0, reason="volumes get the owners that a kubelet gives them, which root alone can"
    ),
]
SOURCE, SOCKET = "/source", "/socket"
"""Where the source of the models and the socket of the database are in a container."""


@pytest.fixture
def database() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="postgresql-") as folder, store(Path(folder)) as url:
        Path(folder).chmod(0o711)  # its socket lies there, and the user of the container must reach it
        yield url
        Path(folder).chmod(0o700)


def given_to_the_group(here: Node) -> None:
    """Volumes as a kubelet leaves them: empty ones open, files of Secrets for the group alone."""
    group = here.pod.spec["securityContext"]["fsGroup"]
    for path in [here.root, *here.root.rglob("*")]:
        if path.is_dir():
            path.chmod(0o777)
        elif "secrets" in path.relative_to(here.root).parts:
            os.chown(path, 0, group)
            path.chmod(stat.S_IRUSR | stat.S_IRGRP)


def arguments(here: Node, container: Resource) -> list[str]:
    """Of `docker run`, for a container of the pod."""
    own, context = container["securityContext"], here.pod.spec["securityContext"]
    found = ["--network=host", f"--user={context['runAsUser']}:{context['runAsGroup']}"]
    found += ["--read-only"] if own["readOnlyRootFilesystem"] else []
    found += [f"--cap-drop={name}" for name in own["capabilities"]["drop"]]
    found += [] if own["allowPrivilegeEscalation"] else ["--security-opt=no-new-privileges"]
    found += [f"--memory={container['resources']['limits']['memory'].removesuffix('i').lower()}"]
    for mount in container["volumeMounts"]:
        ending = ":ro" if mount.get("readOnly") else ""
        found.append(f"--volume={here.path(mount['mountPath'])}:{mount['mountPath']}{ending}")
    image = image_variables()
    variables = {name: value for name, value in here.pod.variables(container).items() if image.get(name) != value}
    return [*found, *(f"--env={name}={value}" for name, value in variables.items())]


def test_the_image_runs_as_the_pod_holds_it(
    docker: Docker, image: str, database: str, tmp_path: Path, test_rows: list[list[float]]
) -> None:
    url, _, folder = database.partition("?host=")
    here = node(pod("base"), tmp_path, database)
    key = here.make_secrets()
    given_to_the_group(here)
    (models,) = here.pod.spec["initContainers"]
    source = [f"--volume={SHIPPED}:{SOURCE}:ro", f"--env=MODELS_SOURCE={SOURCE}"]
    words = [word.replace("$(MODELS_SOURCE)", SOURCE) for word in models["command"]]
    docker("run", "--rm", *arguments(here, models), *source, image, *words)
    served = [f"--env=TEMPERANCE_STORE={url}?host={SOCKET}", f"--volume={folder}:{SOCKET}", f"--env=PORT={here.port}"]
    with docker.container(*arguments(here, here.pod.container), *served, image) as name:
        wait_for(lambda: here.probe("startupProbe") == 200 or is_over(docker, name), seconds=120.0)
        assert (here.probe("readinessProbe"), here.probe("livenessProbe")) == (200, 200), docker.result("logs", name)
        check_answers(here, key, database, test_rows[0])
        changed = {line.split()[1] for line in docker("diff", name).splitlines()}
        docker("stop", f"--time={here.pod.grace:g}", name)
        assert docker("inspect", "--format={{.State.ExitCode}}", name) == "0"
    mounts = {mount["mountPath"] for mount in here.pod.container["volumeMounts"]} | {SOCKET}
    assert [path for path in changed if not any(mount.startswith(path) for mount in mounts)] == []


def is_over(docker: Docker, name: str) -> bool:
    return docker("inspect", "--format={{.State.Running}}", name) != "true"

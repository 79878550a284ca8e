"""deploy/haproxy/haproxy.cfg: HAProxy accepts it, and sends again only what may be repeated."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest
import yaml

from service.api.v1.verbs import VERBS
from service.settings import Settings
from tests.deploy.engine import ROOT

CONFIGURATION: Final = ROOT / "deploy" / "haproxy" / "haproxy.cfg"
TEXT: Final = CONFIGURATION.read_text(encoding="utf-8")


def is_sent_again(path: str) -> bool:
    """Whether a POST to a path is sent again when a replica leaves it without an answer."""
    patterns = re.findall(r"acl is_inference path_reg (\S+)", TEXT)
    exact = re.findall(r"acl is_outcomes path (\S+)", TEXT)
    assert "http-request disable-l7-retry unless is_read or is_inference or is_outcomes" in TEXT
    return path in exact or any(re.search(pattern, path) for pattern in patterns)


def seconds(name: str) -> float:
    (found,) = re.findall(rf"timeout {name} (\d+)s", TEXT)
    return float(found)


def test_haproxy_accepts_its_configuration() -> None:
    program = shutil.which("haproxy", path="/usr/local/sbin:/usr/sbin:/usr/bin")
    if program is None:
        pytest.skip("haproxy is missing (apt-get install haproxy)")
    done = subprocess.run([program, "-c", "-f", CONFIGURATION], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    complaints = [line for line in done.stderr.splitlines() if "[WARNING]" in line or "[ALERT]" in line]
    assert all("could not resolve address" in line for line in complaints)  # of replicas, which are not here


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("version", ["", "/versions/1", "/labels/stable"])
@pytest.mark.parametrize("colon", [":", "%3A", "%3a"])
def test_inference_of_v1_is_sent_again(verb: str, version: str, colon: str) -> None:
    assert is_sent_again(f"/v1/models/breast-cancer{version}{colon}{verb}")


@pytest.mark.parametrize("path", ["/v2/models/a/infer", "/v2/models/a/versions/1/infer", "/v1/outcomes"])
def test_inference_of_v2_and_outcomes_are_sent_again(path: str) -> None:
    assert is_sent_again(path)


@pytest.mark.parametrize(
    "path", ["/v2/repository/models/a/load", "/v2/repository/models/a/unload", "/v2/repository/index", "/v1/models/a:x"]
)
def test_what_may_not_be_repeated_is_not_sent_again(path: str) -> None:
    assert not is_sent_again(path)


def test_what_a_replica_refused_is_not_sent_again() -> None:
    (kinds,) = re.findall(r"retry-on (.*)", TEXT)
    assert set(kinds.split()) == {"conn-failure", "empty-response", "response-timeout"}


def test_times_fit_those_of_the_service() -> None:
    defaults = Settings.model_fields
    assert seconds("server") > defaults["deadline"].default
    assert seconds("http-keep-alive") < defaults["keep_alive"].default
    assert seconds("http-request") >= defaults["header_seconds"].default


def test_a_replica_leaves_the_balance_before_it_stops_to_accept() -> None:
    ((interval, failures),) = re.findall(r"inter (\d+)s fall (\d+)", TEXT)
    dockerfile = Path(ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    (drain,) = re.findall(r"TEMPERANCE_DRAIN_SECONDS=(\d+)", dockerfile)
    assert int(interval) * int(failures) + 1 < float(drain)


def test_the_servers_are_the_replicas_of_the_compose_file() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    servers = re.findall(r"^ +server (\S+) (\S+)$", TEXT, re.MULTILINE)
    assert servers == [(name, f"{name}:8080") for name in services if re.fullmatch(r"temperance-\d", name)]
    targets = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    (scrape,) = targets["scrape_configs"]
    assert scrape["static_configs"] == [{"targets": [address for _, address in servers]}]

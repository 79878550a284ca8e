"""Settings that cannot hold on Ray, and those that its processes get."""

import os
from typing import Any

import pytest

from service.cluster.ray_settings import check_nodes, check_ray_settings, variables_of
from service.environment import Sources
from service.errors import SettingsInvalid
from service.settings import Settings


def checked(*, haproxy: bool = False, **settings: Any) -> None:
    check_ray_settings(Settings(**settings), Sources(), haproxy=haproxy)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"uds": "/tmp/s"}, "TEMPERANCE_UDS cannot be used on Ray"),  # noqa: S108
        ({"ssl_certfile": "a.pem"}, "put TLS in front of it"),
        ({"proxies": ("127.0.0.1",)}, "as clients send them"),
        ({"client_certificate_header": "X-Client"}, "everyone could name a certificate"),
        ({"workers": 2}, "--replicas"),
        ({"repository_api": True}, "would reach one replica"),
        ({"store": "postgresql://a:secret@h/d"}, "STORE_PASSWORD_FILE"),
        ({"store": "postgresql://a@h/d?password=secret"}, "STORE_PASSWORD_FILE"),
        ({"store": "postgresql://a@h/d?sslpassword=secret"}, "STORE_PASSWORD_FILE"),
    ],
)
def test_a_setting_that_cannot_hold_is_refused_by_its_name_and_without_its_value(settings, reason, tmp_path):
    with pytest.raises(SettingsInvalid) as refused:
        checked(data=tmp_path, **settings)
    assert reason in str(refused.value)
    assert f"TEMPERANCE_{next(iter(settings)).upper()}" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_where_haproxy_takes_requests_replicas_are_open_to_other_machines_and_need_a_credential(tmp_path):
    checked(data=tmp_path)
    with pytest.raises(SettingsInvalid, match="credential"):
        checked(data=tmp_path, haproxy=True)
    checked(data=tmp_path, haproxy=True, insecure=True)


@pytest.mark.parametrize("store", [None, "sqlite:///tmp/audit.db"])
def test_several_nodes_need_a_database_that_all_of_them_reach(store, tmp_path):
    settings = Settings(data=tmp_path, store=store)
    check_nodes(settings, 1)
    with pytest.raises(SettingsInvalid, match=r"2 nodes.*postgresql://"):
        check_nodes(settings, 2)


def test_several_nodes_are_fine_with_such_a_database_or_without_a_record(tmp_path):
    check_nodes(Settings(data=tmp_path, store="postgresql://h/d"), 3)
    check_nodes(Settings(data=tmp_path, audit="off"), 3)


def test_processes_of_every_node_get_the_settings_and_paths_from_the_root(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("TEMPERANCE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TEMPERANCE_MAX_ROWS", "7")
    monkeypatch.setenv("TEMPERANCE_KEYS", "keys.json")
    monkeypatch.chdir(tmp_path)
    assert variables_of(Settings()) == {
        "TEMPERANCE_MAX_ROWS": "7",
        "TEMPERANCE_KEYS": str(tmp_path / "keys.json"),
        "TEMPERANCE_MODELS": str(tmp_path / "models"),
        "TEMPERANCE_DATA": str(tmp_path / ".temperance"),
    }

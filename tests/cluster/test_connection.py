"""Ray's variables, before it is imported."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from service.cluster import connection
from service.errors import SettingsInvalid


def test_nothing_is_reported_and_a_token_is_needed_unless_the_operator_decides_otherwise(monkeypatch):
    if find_spec("ray") is None:  # looked for, not imported: Ray reads its variables when it is
        pytest.skip("Ray is not installed: pip install -e '.[ray]'")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    monkeypatch.setattr(os, "environ", dict(os.environ))
    os.environ.pop("RAY_AUTH_MODE", None)
    connection.prepare()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert os.environ["RAY_AUTH_MODE"] == "token"


def test_without_ray_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(connection, "find_spec", lambda _: None)
    with pytest.raises(SettingsInvalid, match=r"pip install 'temperance\[ray\]'"):
        connection.prepare()


def test_ray_is_imported_by_no_other_verb():
    code = "import sys, service.cli.main, service.cli.ray_command, service.main; print('ray' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"

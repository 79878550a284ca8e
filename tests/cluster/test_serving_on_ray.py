"""What `temperance ray` refuses before Ray is started, each in one line."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from service.cluster.serving_on_ray import OnRay, check_alone, check_models, groups_of
from service.errors import SettingsInvalid
from tests.shipped_model import SHIPPED

TEMPERANCE = Path(sys.executable).with_name("temperance")


def test_the_options_are_one_group_of_all_models():
    groups = groups_of(OnRay(sizes={"replicas": 2, "most_replicas": 4}))
    (group,) = groups.groups.values()
    assert (group.models, group.replicas, group.most_replicas) == (("*",), 2, 4)


def test_a_file_of_groups_and_options_of_one_group_exclude_each_other(tmp_path):
    (tmp_path / "g.toml").write_text("[groups.a]\n")
    assert groups_of(OnRay(groups=tmp_path / "g.toml")).names == ["a"]
    with pytest.raises(SettingsInvalid, match="--replicas"):
        groups_of(OnRay(groups=tmp_path / "g.toml", sizes={"replicas": 2}))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[groups.a]\nmodels = ["x", "y"]', "no model of the name y"),
        ('[groups.a]\nmodels = ["x"]\n[groups.b]', "group b has no model"),
    ],
)
def test_a_group_without_its_models_is_refused(tmp_path, text, reason):
    (tmp_path / "g.toml").write_text(text)
    with pytest.raises(SettingsInvalid, match=reason):
        check_models(groups_of(OnRay(groups=tmp_path / "g.toml")), ["x"])


def test_a_cluster_that_serves_applications_of_others_is_refused():
    check_alone([])
    check_alone(["temperance"])  # deployed before, and replaced
    with pytest.raises(SettingsInvalid, match="another application on this cluster, other,"):
        check_alone(["temperance", "other"])


@pytest.mark.parametrize(
    ("options", "variables", "reason"),
    [
        (["--replicas", "2", "--most-replicas", "1"], {}, "must not be below replicas"),
        (["--detach", "--insecure"], {}, "--detach needs --address"),
        ([], {}, "TEMPERANCE_HOST"),
        (["--insecure"], {"TEMPERANCE_PROXIES": "127.0.0.1"}, "TEMPERANCE_PROXIES cannot be used on Ray"),
        (["--insecure", "--groups", "missing.toml"], {}, "missing.toml"),
        (["--insecure", "--models", "missing"], {}, "--models"),
        (["--insecure"], {"TEMPERANCE_STORE": "postgresql://u:secret@h/d"}, "TEMPERANCE_STORE_PASSWORD_FILE"),
    ],
)
def test_what_cannot_hold_ends_the_start_in_one_line(
    tmp_path: Path, options: list[str], variables: dict[str, Any], reason: str
) -> None:
    own = {"TEMPERANCE_DATA": str(tmp_path), "TEMPERANCE_MODELS": str(SHIPPED), "TEMPERANCE_AUDIT": "off", **variables}
    ended = subprocess.run(
        [TEMPERANCE, "ray", *options], env=own, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    last = ended.stderr.strip().splitlines()[-1]
    assert ended.returncode == 1
    assert last.startswith("temperance: ")
    assert reason in last
    assert "Traceback" not in ended.stderr
    assert "secret@" not in ended.stderr

"""Groups: which models they have, and files that cannot be used."""

from pathlib import Path

import pytest

from service.cluster.groups import Groups, one_group, read_groups
from service.errors import SettingsInvalid

TWO = """
[groups.tabular]
models = ["breast-cancer", "thyroid"]
replicas = 2
most_replicas = 5

[groups.others]
models = ["*"]
resident = 3
"""


@pytest.fixture
def two(tmp_path: Path) -> Groups:
    return read(tmp_path, TWO)


def read(folder: Path, text: str) -> Groups:
    (folder / "groups.toml").write_text(text)
    return read_groups(folder / "groups.toml")


def test_a_model_belongs_to_the_group_that_names_it_and_every_other_to_the_group_of_the_rest(two):
    published = ["breast-cancer", "thyroid", "yeast-genes"]
    assert [two.of(model) for model in published] == ["tabular", "tabular", "others"]
    assert two.members("tabular", published) == ["breast-cancer", "thyroid"]
    assert two.members("others", published) == ["yeast-genes"]


def test_without_a_group_of_the_rest_a_model_that_no_group_names_is_in_none(tmp_path):
    groups = read(tmp_path, '[groups.a]\nmodels = ["x"]\n[groups.b]\nmodels = ["y"]\n')
    assert groups.of("z") == "a"  # which answers that it is unknown
    assert not groups.includes("a", "z")
    assert not groups.includes("b", "z")


def test_one_group_that_holds_all_models_needs_no_front():
    assert not one_group({"replicas": 3}).has_front
    assert one_group({"resident": 2}).has_front


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("groups = 3", "groups"),
        ("", "groups"),
        ("[groups.a]\nmodel = []", "groups.a.model"),
        ("[groups.a]\nmodels = []", "groups.a.models"),
        ('[groups.a]\nmodels = ["x"]\n[groups.b]\nmodels = ["x"]', "x is in several groups"),
        ("[groups.a]\n[groups.b]", "* is in several groups"),
        ("[groups.a]\nreplicas = 3\nmost_replicas = 2", "must not be below replicas"),
        ("[groups.a]\nresident = 0", "groups.a.resident"),
        ("[groups.'a b']", "groups"),
        ("[front]\nmodels = ['x']\n[groups.a]", "front.models"),
        ("=", "is not TOML"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line_that_says_where(tmp_path, text, reason):
    with pytest.raises(SettingsInvalid, match="groups.toml") as refused:
        read(tmp_path, text)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)

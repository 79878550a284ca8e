"""`aliases.toml`: versions, and shadows of a share of the requests."""

import tomllib

import pytest

from service.bundle.aliases import Alias, aliases_text, parse_alias


def test_a_text_without_shadows_holds_versions_alone_as_every_release_reads_it() -> None:
    assert tomllib.loads(aliases_text({"stable": Alias(2), "canary": Alias(3)})) == {"stable": 2, "canary": 3}


def test_what_is_written_is_read_again() -> None:
    aliases = {"stable": Alias(2), "candidate": Alias(3, 0.25)}
    read = tomllib.loads(aliases_text(aliases))
    assert {label: parse_alias(value) for label, value in read.items()} == aliases


def test_a_shadow_without_a_share_sees_every_request() -> None:
    assert parse_alias({"version": 3, "shadow": True}) == Alias(3, 1.0)


@pytest.mark.parametrize(
    "value",
    [
        0,
        True,
        "1",
        {},
        {"version": 3},
        {"version": 3, "shadow": False},
        {"version": 3, "shadow": True, "share": 0.0},
        {"version": 3, "shadow": True, "share": 1.5},
        {"version": 3, "shadow": True, "share": True},
        {"version": 3, "shadow": True, "weight": 1},
        {"version": "3", "shadow": True},
    ],
)
def test_anything_else_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"^(has|must|does not)"):
        parse_alias(value)

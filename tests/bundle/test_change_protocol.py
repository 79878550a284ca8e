"""`[change_protocol]`: defaults, and what is refused."""

import pytest
from pydantic import ValidationError

from service.bundle.change_protocol import ChangeProtocol
from service.bundle.manifest import parse_manifest
from service.errors import ManifestInvalid

MANIFEST = """
schema = 1
title = "t"
[graph]
output = "p"
output_kind = "probabilities"
classes = ["a", "b"]
[[inputs]]
name = "X"
features = ["f"]
"""


def test_a_manifest_without_the_section_has_its_defaults() -> None:
    found = parse_manifest(MANIFEST).change_protocol
    assert found == ChangeProtocol()
    assert found.steps == ("intercept", "slope", "calibrator")
    assert (found.temperature, found.intercept, found.least_events) == ((0.5, 2.0), 3.0, 100)
    assert (found.level, found.must_improve) == (0.05, ("log_loss",))


def test_the_section_changes_no_calibration() -> None:
    declared = parse_manifest(f'{MANIFEST}[change_protocol]\nsteps = ["intercept"]\nleast_events = 50\n')
    assert declared.change_protocol.steps == ("intercept",)
    assert declared.fingerprints() == parse_manifest(MANIFEST).fingerprints()


@pytest.mark.parametrize(
    "line",
    [
        "steps = []",
        'steps = ["none"]',
        'steps = ["slope", "slope"]',
        "temperature = [1.5, 2.0]",
        "temperature = [0.0, 2.0]",
        "temperature = 2.0",
        "intercept = -1.0",
        "least_events = 9",
        "least_events = 50.0",
        "level = 0.6",
        "level = 0",
        "flag_rate = 1.0",
        'must_improve = ["auroc"]',
        "must_improve = []",
        "unknown = 1",
    ],
)
def test_a_line_that_cannot_hold_is_refused_with_its_key(line: str) -> None:
    with pytest.raises(ManifestInvalid, match=r"change_protocol"):
        parse_manifest(f"{MANIFEST}[change_protocol]\n{line}\n")


def test_the_section_by_itself_is_as_strict() -> None:
    with pytest.raises(ValidationError):
        ChangeProtocol(least_events=1)

"""Plausible ranges are wider than the rows that they were read from, round, and never beyond what is allowed."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from service.bundle.repository import Repository
from service.cli.main import command
from service.errors import ServiceError
from service.fitting.publish import publish_draft
from service.importer.declared import Declared
from service.importer.import_model import import_model
from service.importer.plausible_ranges import propose_ranges
from service.runtime.model import load_model
from service.runtime.rows import Fields
from tests.graph.mutants import seeds


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A graph over an age and a sex, and rows beside it."""
    (tmp_path / "mixed.onnx").write_bytes(seeds()["mixed"].SerializeToString())
    rng = np.random.default_rng(0)
    for name in ("train", "cal"):
        age, sex = rng.integers(18, 96, 240), rng.choice(["f", "m"], 240)
        labels = np.where(rng.random(240) < 0.2 + 0.5 * (age > 60), "yes", "no")
        lines = [f"{a},{s},{y}" for a, s, y in zip(age, sex, labels, strict=True)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["age,sex,y", *lines]) + "\n")
    return tmp_path


@pytest.fixture
def run(mixed: Path) -> Callable[..., Any]:
    """Runs a verb."""

    def call(*arguments: str) -> Any:
        result = CliRunner().invoke(command, [*arguments, "--models", str(mixed / "models")])
        assert result.exception is None or isinstance(result.exception, ServiceError), result.output
        return result

    return call


def imported(run: Callable[..., Any], mixed: Path, *more: str) -> Any:
    """The graph as a draft."""
    return run("import", str(mixed / "mixed.onnx"), "--name", "m", "--classes", "no,yes", *more)


def test_an_import_writes_ranges_of_the_training_rows_and_says_what_guards_the_model(
    run: Callable[..., Any], mixed: Path
) -> None:
    printed = imported(run, mixed, "--train-data", str(mixed / "train.csv")).output
    assert "plausible: age from 0 to 150  (240 training rows hold 18 to 95)" in printed
    assert "age: a plausible range that is evidence only" in printed
    assert 'offered: [ood] scores = ["nll", "mahalanobis"] looks at age' in printed
    manifest = Repository(mixed / "models").draft("m").manifest
    assert manifest.features["age"].plausible == (0.0, 150.0)
    assert manifest.features["sex"].categories == ("f", "m")


def test_a_fit_proposes_ranges_and_says_what_guards_the_model(run: Callable[..., Any], mixed: Path) -> None:
    imported(run, mixed)
    draft = mixed / "models" / "m" / "draft" / "manifest.toml"
    draft.write_text("".join(line for line in draft.read_text().splitlines(True) if not line.startswith("plausible")))
    rows = ["--data", str(mixed / "cal.csv"), "--train-data", str(mixed / "train.csv")]
    printed = json.loads(run("fit", "m", *rows, "--json").stdout)
    assert printed["plausible"] == {"age": [0.0, 150.0]}
    assert "age: looked at by nothing" in printed["guards"]
    assert "mahalanobis" in printed["offered"]


def test_training_rows_that_leave_the_manifest_s_range_are_counted(run: Callable[..., Any], mixed: Path) -> None:
    """A scaler's centre and spread may be a median and quartiles, beyond which rows lie further."""
    imported(run, mixed)
    draft = mixed / "models" / "m" / "draft" / "manifest.toml"
    lines = ["plausible = [20.0, 60.0]" if li.startswith("plausible") else li for li in draft.read_text().splitlines()]
    draft.write_text("\n".join(lines))
    rows = ["--data", str(mixed / "cal.csv"), "--train-data", str(mixed / "train.csv")]
    printed = run("fit", "m", *rows).output
    assert re.search(
        r"plausible: age from 0 to 150  \(240 training rows .*; \d+ of them leave the manifest's range\)", printed
    )
    assert "leave the manifest" not in imported(run, mixed, "--train-data", str(mixed / "train.csv")).output


def test_rows_that_do_not_fit_leave_no_draft(run: Callable[..., Any], mixed: Path) -> None:
    (mixed / "other.csv").write_text("a,b\n1,2\n")
    result = imported(run, mixed, "--train-data", str(mixed / "other.csv"))
    assert isinstance(result.exception, ServiceError)
    assert not (mixed / "models" / "m" / "draft").exists()


def test_a_score_of_the_numeric_inputs_of_a_mixed_table_is_fitted_and_answers(
    run: Callable[..., Any], mixed: Path
) -> None:
    imported(run, mixed)
    draft = mixed / "models" / "m" / "draft" / "manifest.toml"
    offered = draft.read_text()
    draft.write_text(offered.replace("# [ood]  #", "[ood] #").replace("# scores", "scores").replace("# gate", "gate"))
    assert run("fit", "m", "--data", str(mixed / "cal.csv")).exit_code == 0
    model = load_model(Repository(mixed / "models").bundle("m", 1))
    sexes = np.array(["f", "m"], dtype=object)
    posterior = model.posterior(Fields(np.array([[510_000.0], [50.0]]), {"sex": sexes}))
    assert posterior.flagged is not None
    assert posterior.flagged.tolist() == [True, False]
    assert posterior.p_value is not None
    assert posterior.p_value[0] < 0.05 < posterior.p_value[1]


def test_codes_and_constants_have_no_range(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "models")
    (tmp_path / "m.onnx").write_bytes(seeds()["offsets"].SerializeToString())
    import_model(repository, "m", tmp_path / "m.onnx", Declared())
    publish_draft(repository, "m")
    np.savez(tmp_path / "rows.npz", c=np.random.default_rng(0).integers(0, 2, (40, 3)))
    assert propose_ranges(load_model(repository.bundle("m", 1)), tmp_path / "rows.npz") == {}

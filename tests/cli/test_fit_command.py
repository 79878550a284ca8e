import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tomlkit
from click.testing import Result

from tests.cli.printed import IDENTITY, Run, one_line, printed_json


def test_a_fit_that_finds_no_signal_is_one_line_and_exit_code_1(
    run: Run, rows: Callable[..., Path], linear_graph: Callable[..., Path], tmp_path: Path
) -> None:
    run("import", linear_graph(*IDENTITY), "--name", "m")
    assert "Nothing was published" in one_line(run("fit", "m", "--data", rows("cal", flip=True), code=1))
    assert sorted(path.name for path in (tmp_path / "models" / "m").iterdir()) == ["draft"]


def test_fit_auto_prints_every_chain_that_competed_and_the_one_chosen(
    invoke: Callable[..., Result], rows: Callable[..., Path], linear_graph: Callable[..., Path], tmp_path: Path
) -> None:
    data, models = rows("cal", n=1000), ("--models", tmp_path / "models")
    invoke("import", linear_graph(*IDENTITY), "--name", "m", *models)
    result = invoke("fit", "m", "--data", data, "--calibrator", "auto", *models)
    assert result.exit_code == 0, result.output
    assert "chosen: the fewest parameters within one standard error of the best" in result.output
    found = printed_json(invoke("inspect", "m", *models, "--json"))["calibration"]
    assert found["chain"] == ["temperature"]  # type: ignore[index]
    candidates = found["candidates"]  # type: ignore[index]
    assert list(candidates) == ["identity", "temperature", "bcts", "vector"]
    for name, candidate in candidates.items():
        label = f"{name}  (chosen)" if name == "temperature" else name
        numbers = [f"{candidate[key]:.4f}" for key in ("log_loss", "excess", "excess_standard_error")]
        line = r"\s+".join(map(re.escape, [label, *numbers, str(candidate["parameters"])]))
        assert re.search(rf"^\s*{line}\s*$", result.output, re.MULTILINE)


def test_fit_prints_how_scores_did_on_ood_data_and_the_thresholds_of_every_class(
    invoke: Callable[..., Result], rows: Callable[..., Path], linear_graph: Callable[..., Path], tmp_path: Path
) -> None:
    models = ("--models", tmp_path / "models")
    np.savez(tmp_path / "far.npz", X=np.random.default_rng(1).normal(scale=60.0, size=(100, 2)).astype(np.float32))
    invoke("import", linear_graph(*IDENTITY), "--name", "m", *models)
    result = invoke("fit", "m", "--data", rows("cal"), "--ood-data", tmp_path / "far.npz", "--per-class", *models)
    assert result.exit_code == 0, result.output
    printed = " ".join(result.output.split())
    found = printed_json(invoke("inspect", "m", *models, "--json"))
    record, ood = found["calibration"], found["manifest"]["ood"]  # type: ignore[index]
    (chosen,) = ood["scores"]
    assert ood["per_class"] is True
    one = record["ood_data"]["candidates"][chosen]  # type: ignore[index]
    rates = f"{one['fpr95_ood_positive']:.4f} {one['fpr95_id_positive']:.4f}"
    assert f"{chosen} (chosen) {one['auroc']:.4f} {one['low']:.3f} to {one['high']:.3f} {rates}" in printed
    assert "FPR@95, OOD positive FPR@95, ID positive" in printed
    assert f"{chosen} is the default: it separates these rows best of all" in printed
    assert "of two classes every temperature ranks the rows alike" in printed
    assert "not compared: 'logit_norm' has the same value" in printed
    for label, own in record["scores"][chosen]["by_class"].items():  # type: ignore[index]
        assert f"predicted {label} {own['threshold']:.4g} {own['rows']}" in printed


def test_fit_with_one_method_prints_no_competition(
    invoke: Callable[..., Result], rows: Callable[..., Path], linear_graph: Callable[..., Path], tmp_path: Path
) -> None:
    models = ("--models", tmp_path / "models")
    invoke("import", linear_graph(*IDENTITY), "--name", "m", *models)
    result = invoke("fit", "m", "--data", rows("cal"), "--calibrator", "temperature", *models)
    assert result.exit_code == 0, result.output
    assert "(chosen)" not in result.output


def test_fit_prints_the_inverse_that_competed_and_says_that_it_lost(
    invoke: Callable[..., Result], rows: Callable[..., Path], linear_graph: Callable[..., Path], tmp_path: Path
) -> None:
    models = ("--models", tmp_path / "models")
    invoke("import", linear_graph(*IDENTITY), "--name", "m", *models)
    manifest = tmp_path / "models" / "m" / "draft" / "manifest.toml"
    document = tomlkit.parse(manifest.read_text())
    document["training"] = {"loss": "weighted", "class_weights": {"0": 1.0, "1": 20.0}}
    manifest.write_text(tomlkit.dumps(document))
    result = invoke("fit", "m", "--data", rows("cal"), *models)
    assert result.exit_code == 0, result.output
    assert "temperature  (chosen)" in result.output
    assert "inverse of weighted + temperature" in result.output
    assert "note: the inverse of the weighted loss did not help on held-out rows" in " ".join(result.output.split())


def test_label_sets_are_made_by_the_method_of_the_flag(
    rows: Callable[..., Path], tmp_path: Path, linear_graph: Callable[..., Path], invoke: Callable[..., Result]
) -> None:
    models = ("--models", tmp_path / "models")
    imported = invoke("import", linear_graph(*IDENTITY), "--name", "tiny", "--output-kind", "logits", *models)
    assert imported.exit_code == 0, imported.output
    done = invoke("fit", "tiny", "--data", rows("cal"), "--label-sets", "aps", "--json", *models)
    assert printed_json(done)["calibration"]["label_sets"]["method"] == "aps"  # type: ignore[index]  # it is an object

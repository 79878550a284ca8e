import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomlkit
from click.testing import CliRunner, Result

from service.bundle.repository import Repository
from service.cli import main as cli

TEMPERANCE = Path(sys.executable).with_name("temperance")
SHIPPED = "breast-cancer"
IDENTITY = ([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])
VERBS = (
    "import",
    "fit",
    "publish",
    "draft",
    "alias",
    "evaluate",
    "score",
    "bench",
    "inspect",
    "verify",
    "list",
    "retire",
    "serve",
)

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs the real command in an empty folder of its own, through pipes."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("TEMPERANCE_")}

    def temperance(*arguments: str | Path, code: int = 0) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [TEMPERANCE, *map(str, arguments)], cwd=tmp_path, env=clean, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return temperance


@pytest.fixture
def rows(tmp_path: Path) -> Callable[..., Path]:
    """Writes two logits per row as features, and labels drawn from them at temperature 2."""

    def write(name: str, n: int = 300, *, seed: int = 0, flip: bool = False) -> Path:
        rng = np.random.default_rng(seed)
        x = rng.normal(scale=4.0, size=(n, 2)).astype(np.float32)
        y = (x / 2.0 + rng.gumbel(size=(n, 2))).argmax(axis=1)
        np.savez(tmp_path / f"{name}.npz", X=x, y=1 - y if flip else y)
        return tmp_path / f"{name}.npz"

    return write


@pytest.fixture
def invoke() -> Callable[..., Result]:
    """Runs a verb in this process."""

    def inside(*arguments: str | Path) -> Result:
        return CliRunner().invoke(cli.command, list(map(str, arguments)))

    return inside


def plain(done: "subprocess.CompletedProcess[str]") -> str:
    """Standard output, if nothing on it or beside it was meant for a terminal."""
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


def one_line(done: "subprocess.CompletedProcess[str]") -> str:
    assert done.stdout == ""
    assert re.fullmatch(r"temperance: [^\n]+\n", done.stderr)
    return done.stderr


# ---------------------------------------------------------------------------------------- the whole way, as processes


def test_a_model_goes_from_a_file_to_a_second_price_and_back(
    run: Run, rows: Callable[..., Path], linear_graph: Callable[..., Path], tmp_path: Path
) -> None:
    graph, data, test = linear_graph(*IDENTITY), rows("cal"), rows("test", seed=1)

    out = plain(run("inspect", graph))
    assert "input x: tensor(float) [?, 2]" in out
    assert "scores in scores: logits (its last operator is Gemm)" in out

    out = plain(run("import", graph, "--name", "m", "--classes", "no,yes", "--features", "a, b"))
    assert "output_kind: logits  (its last operator is Gemm)" in out
    assert "classes: no, yes  (declared at import)" in out
    manifest = tmp_path / "models" / "m" / "draft" / "manifest.toml"
    price(manifest, 5)
    assert plain(run("list")) == "m: versions draft only; no alias\n"

    out = plain(run("fit", "m", "--data", data))
    assert "temperature, ok" in out
    assert "It is stable: `temperance serve` serves it." in out

    out = plain(run("evaluate", "m", "--data", test, "--ood-data", data, "--horizon", "50", "--recovery", "0.1"))
    assert "50 steps, recovery 0.1 per step" in out
    assert "m version 1, calibration temperature (ok), sha256:" in out
    assert "policy triage: cost per row" in out

    plain(run("draft", "m"))
    price(manifest, 7)
    out = plain(run("publish", "m"))
    assert "The calibration was kept." in out
    assert "`temperance alias m stable 2` deploys it" in out

    moved = run("alias", "m", "stable", "2")
    assert (moved.stdout, moved.stderr.count("\n")) == ("m: stable = 2\n", 1)
    assert "warning: from version 1 to 2: policy 'triage': costs.go.yes was 5.0 and is 7.0" in moved.stderr
    assert plain(run("list")) == "m: versions 1, 2; stable = 2\n"
    one, two = (json.loads(plain(run("evaluate", "m", "--data", test, "--version", v, "--json"))) for v in "12")
    assert one["evaluation"]["metrics"] == two["evaluation"]["metrics"]
    one, two = (found["evaluation"]["parts"]["rows"]["policies"]["triage"] for found in (one, two))
    assert one != two
    assert "m version 2" in plain(run("inspect", "m"))

    run("alias", "m", "stable", "1")
    out = plain(run("verify", "m"))
    assert re.fullmatch(r"m version 1: ok, sha256:[0-9a-f]{64}\nm version 2: ok, sha256:[0-9a-f]{64}\n", out)


def price(manifest: Path, value: int) -> None:
    document = tomlkit.parse(manifest.read_text())
    costs = {"go": {"no": 0, "yes": value}, "stay": {"no": 1, "yes": 0}}
    document["policies"] = {"triage": {"costs": costs}}
    manifest.write_text(tomlkit.dumps(document))


def test_the_shipped_model_verifies(run: Run) -> None:
    shipped = Path(__file__).parents[2] / "models"
    assert plain(run("verify", SHIPPED, "--models", shipped)).startswith(f"{SHIPPED} version 1: ok, sha256:")


def test_a_fit_that_finds_no_signal_is_one_line_and_exit_code_1(
    run: Run, rows: Callable[..., Path], linear_graph: Callable[..., Path], tmp_path: Path
) -> None:
    run("import", linear_graph(*IDENTITY), "--name", "m")
    assert "Nothing was published" in one_line(run("fit", "m", "--data", rows("cal", flip=True), code=1))
    assert sorted(path.name for path in (tmp_path / "models" / "m").iterdir()) == ["draft"]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("frobnicate",),
        ("fit",),
        ("fit", "m"),
        ("fit", "m", "--data", "x.npz", "--false-alarm", "0"),
        ("fit", "m", "--data", "x.npz", "--calibrator", "magic"),
        ("alias", "m", "stable", "zero"),
        ("alias", "m", "stable", "0"),
        ("import", "m.onnx"),
        ("import", "m.onnx", "--name", "m", "--output-kind", "scores"),
        ("import", "m.onnx", "--name", "m", "--task", "regression"),
        ("evaluate", "m", "--data", "x.npz", "--recovery", "0.1"),
        ("serve", "--port", "70000"),
        ("list", "--colour"),
    ],
)
def test_bad_usage_is_exit_code_2(arguments: tuple[str, ...], invoke: Callable[..., Result]) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert "Usage:" in result.output
    assert "Traceback" not in result.output


def test_bad_usage_is_exit_code_2_for_a_shell_too(run: Run) -> None:
    assert "No such option" in run("list", "--colour", code=2).stderr


# ------------------------------------------------------------------------------------------- failures, in this process


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., str]:
    """Runs the entry point with arguments that must fail, and returns its one line."""

    def inside(*arguments: str | Path) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["temperance", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        assert end.value.code == 1
        assert out == ""
        assert re.fullmatch(r"temperance: [^\n]+\n", err)
        return err

    return inside


FAILURES = {
    "a repository that is not there": (("list", "--models", "nowhere"), "nowhere is not a directory"),
    "a model that is not there": (("inspect", "stranger"), "models here: breast-cancer"),
    "a version that is not there": (("evaluate", SHIPPED, "--data", "x.csv", "--version", "9"), "no version 9"),
    "data that is not there": (("evaluate", SHIPPED, "--data", "x.csv"), "x.csv does not exist"),
    "no draft to fit": (("fit", SHIPPED, "--data", "x.csv"), "has no draft"),
    "no draft to publish": (("publish", SHIPPED), "has no draft"),
    "nothing to verify": (("verify", "stranger"), "stranger has no published version"),
    "a name that is a path": (("verify", "../x"), "at most 64 letters"),
    "an alias to nothing": (("alias", SHIPPED, "stable", "4"), "has no version 4 (published: 1)"),
    "an alias that is a number": (("alias", SHIPPED, "3", "1"), "is not a number"),
    "a graph that is not there": (("import", "m.onnx", "--name", "m"), "m.onnx does not exist"),
    "a graph to look at that is not there": (("inspect", "m.onnx"), "m.onnx does not exist"),
    "a graph that is none": (("inspect", "page.onnx"), "page.onnx is no ONNX file"),
    "a report that cannot be written": (
        ("evaluate", SHIPPED, "--data", "test.csv", "--json", "nowhere/r.json"),
        "nowhere/r.json: No such file or directory",
    ),
    "a repository that is a file": (("import", "good.onnx", "--name", "m", "--models", "page.onnx"), "Not a directory"),
}


@pytest.mark.parametrize(("arguments", "fragment"), FAILURES.values(), ids=FAILURES.keys())
def test_what_fails_is_one_clear_line_and_exit_code_1(
    *,
    arguments: tuple[str, ...],
    fragment: str,
    repository: Repository,
    data_folder: Path,
    linear_graph: Callable[..., Path],
    fails: Callable[..., str],
    tmp_path: Path,
) -> None:
    assert repository.root == tmp_path / "models"
    (tmp_path / "page.onnx").write_text("<html>")
    linear_graph(*IDENTITY).rename(tmp_path / "good.onnx")
    (tmp_path / "test.csv").write_bytes((data_folder / "test.csv").read_bytes())
    assert fragment in fails(*arguments)


def test_a_draft_in_the_way_is_not_overwritten_without_force(
    linear_graph: Callable[..., Path], fails: Callable[..., str], invoke: Callable[..., Result], tmp_path: Path
) -> None:
    arguments = ("import", linear_graph(*IDENTITY), "--name", "m", "--models", tmp_path / "models")
    assert invoke(*arguments).exit_code == 0
    assert "--force" in fails(*arguments)
    assert invoke(*arguments, "--force").exit_code == 0


def test_a_draft_in_the_way_is_not_overwritten_by_another_draft(
    repository: Repository, fails: Callable[..., str], invoke: Callable[..., Result]
) -> None:
    assert invoke("draft", SHIPPED, "--models", repository.root).exit_code == 0
    assert "may hold edits" in fails("draft", SHIPPED, "--models", repository.root)


# -------------------------------------------------------------------------------------------------------------- JSON


def printed_json(result: Result) -> dict[str, object]:
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert isinstance(found, dict)
    return found


def test_every_verb_that_a_program_reads_prints_json_and_nothing_else(
    invoke: Callable[..., Result], rows: Callable[..., Path], linear_graph: Callable[..., Path], tmp_path: Path
) -> None:
    graph, data, models = linear_graph(*IDENTITY), rows("cal"), ("--models", tmp_path / "models")
    found = printed_json(invoke("inspect", graph, "--json"))
    assert found["inputs"] == [{"name": "x", "type": "tensor(float)", "shape": [None, 2]}]
    found = printed_json(invoke("import", graph, "--name", "m", *models, "--json"))
    assert found["conclusions"]["output_kind"]["value"] == "logits"  # type: ignore[index]
    assert printed_json(invoke("list", *models, "--json")) == {"models": [{"name": "m", "versions": [], "aliases": {}}]}
    found = printed_json(invoke("fit", "m", "--data", data, *models, "--json"))
    assert (found["version"], found["calibration"]["status"]) == (1, "ok")  # type: ignore[index]
    found = printed_json(invoke("evaluate", "m", "--data", data, "--horizon", "50", *models, "--json"))
    assert (found["model"], found["version"]) == ("m", "1")
    assert found["evaluation"]["horizon"]["steps"] == 50  # type: ignore[index]
    found = printed_json(invoke("inspect", "m", *models, "--json"))
    assert found["manifest"]["schema"] == 1  # type: ignore[index]
    assert found["calibration"]["calibrator"]["method"] == "temperature"  # type: ignore[index]
    assert invoke("draft", "m", *models).exit_code == 0
    found = printed_json(invoke("publish", "m", *models, "--json"))
    assert found == {
        "name": "m",
        "version": 2,
        "why_uncalibrated": None,
        "served_as": [],
        "aliases": {"stable": 1},
    }
    found = printed_json(invoke("verify", "m", *models, "--json"))
    assert list(found["versions"]) == ["1", "2"]  # type: ignore[call-overload]
    found = printed_json(invoke("list", *models, "--json"))
    assert found["models"] == [{"name": "m", "versions": [1, 2], "aliases": {"stable": 1}}]


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


def test_fit_prints_how_scores_did_on_rows_from_elsewhere_and_the_thresholds_of_every_class(
    invoke: Callable[..., Result], rows: Callable[..., Path], linear_graph: Callable[..., Path], tmp_path: Path
) -> None:
    models = ("--models", tmp_path / "models")
    np.savez(tmp_path / "far.npz", X=np.random.default_rng(1).normal(scale=60.0, size=(100, 2)).astype(np.float32))
    invoke("import", linear_graph(*IDENTITY), "--name", "m", *models)
    result = invoke("fit", "m", "--data", rows("cal"), "--ood-data", tmp_path / "far.npz", "--per-class", *models)
    assert result.exit_code == 0, result.output
    told = " ".join(result.output.split())
    found = printed_json(invoke("inspect", "m", *models, "--json"))
    record, ood = found["calibration"], found["manifest"]["ood"]  # type: ignore[index]
    (chosen,) = ood["scores"]
    assert ood["per_class"] is True
    one = record["ood_data"]["candidates"][chosen]  # type: ignore[index]
    rates = f"{one['fpr95_ood_positive']:.4f} {one['fpr95_id_positive']:.4f}"
    assert f"{chosen} (chosen) {one['auroc']:.4f} {one['low']:.3f} to {one['high']:.3f} {rates}" in told
    assert "FPR@95, OOD positive FPR@95, ID positive" in told
    assert f"{chosen} is the default: it tells these rows apart best of all" in told
    assert "of two classes every temperature ranks the rows alike" in told
    assert "not judged: 'logit_norm' has the same value" in told
    for label, own in record["scores"][chosen]["by_class"].items():  # type: ignore[index]
        assert f"predicted {label} {own['threshold']:.4g} {own['rows']}" in told


def test_inspect_says_what_the_state_of_scores_takes(invoke: Callable[..., Result], repository: Repository) -> None:
    models = ("--models", repository.root)
    sizes = printed_json(invoke("inspect", SHIPPED, *models, "--json"))["state_bytes"]
    assert set(sizes) == {"nll", "mahalanobis"}  # type: ignore[call-overload]
    total = sum(sizes.values()) / 2**20  # type: ignore[attr-defined]
    assert f"state of scores: {total:.2f} MiB of at most 32 (nll " in invoke("inspect", SHIPPED, *models).output


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


def test_an_evaluation_goes_to_a_file_beside_the_table(
    invoke: Callable[..., Result], repository: Repository, data_folder: Path, tmp_path: Path
) -> None:
    arguments = ("evaluate", SHIPPED, "--data", data_folder / "test.csv", "--models", repository.root)
    result = invoke(*arguments, "--json", tmp_path / "report.json")
    assert "policy biopsy: cost per row" in result.stdout
    written = json.loads((tmp_path / "report.json").read_text())
    printed = printed_json(invoke(*arguments, "--json"))
    for found in (written, printed):
        report: Any = found["origin"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", report.pop("created"))
    assert written == printed
    assert written["origin"]["file"] == "test.csv"
    assert written["evaluation"]["rows"] == 143


def test_an_evaluation_is_also_a_page_to_look_at_with_losses_and_checks_in_the_json(
    data_folder: Path, tmp_path: Path, repository: Repository, invoke: Callable[..., Result]
) -> None:
    page, found = tmp_path / "report.html", tmp_path / "report.json"
    arguments = ("--data", data_folder / "test.csv", "--models", repository.root, "--losses", "focal,cross_entropy")
    done = invoke("evaluate", SHIPPED, *arguments, "--html", page, "--json", found)
    assert done.exit_code == 0, done.output
    assert "is calibrated, as far as 143 rows can show" in done.stdout
    assert page.read_text().startswith("<!DOCTYPE html>")
    report = json.loads(found.read_text())["evaluation"]
    assert set(report["losses"]) == {"focal", "cross_entropy"}
    assert report["parts"]["rows"]["probabilities"]["calibration"]["of"] == "malignant"


def test_label_sets_are_made_as_asked(
    rows: Callable[..., Path], tmp_path: Path, linear_graph: Callable[..., Path], invoke: Callable[..., Result]
) -> None:
    models = ("--models", tmp_path / "models")
    imported = invoke("import", linear_graph(*IDENTITY), "--name", "tiny", "--output-kind", "logits", *models)
    assert imported.exit_code == 0, imported.output
    done = invoke("fit", "tiny", "--data", rows("cal"), "--label-sets", "aps", "--json", *models)
    assert printed_json(done)["calibration"]["label_sets"]["method"] == "aps"  # type: ignore[index]  # it is an object


def test_an_uncalibrated_publication_says_why(
    invoke: Callable[..., Result], linear_graph: Callable[..., Path], tmp_path: Path
) -> None:
    models = ("--models", tmp_path / "models")
    invoke("import", linear_graph(*IDENTITY), "--name", "m", *models)
    assert "Uncalibrated: it was never fitted." in invoke("publish", "m", *models).output
    assert "uncalibrated" in invoke("inspect", "m", *models).output
    assert printed_json(invoke("inspect", "m", *models, "--json"))["calibration"] is None


DEAR = """
[policies.p.costs]
go = { "0" = 0, "1" = 5 }
stay = { "0" = 1, "1" = 6 }
"""


@pytest.mark.parametrize("verb", ["publish", "fit"])
def test_an_action_that_costs_never_choose_is_warned_about_beside_the_output(
    verb: str,
    invoke: Callable[..., Result],
    linear_graph: Callable[..., Path],
    rows: Callable[..., Path],
    tmp_path: Path,
) -> None:
    models = ("--models", tmp_path / "models")
    invoke("import", linear_graph(*IDENTITY), "--name", "m", "--output-kind", "logits", *models)
    manifest = tmp_path / "models" / "m" / "draft" / "manifest.toml"
    manifest.write_text(manifest.read_text() + DEAR)
    done = invoke(verb, "m", *(("--data", rows("cal")) if verb == "fit" else ()), "--json", *models)
    assert json.loads(done.stdout)["version"] == 1
    assert done.stderr == "warning: policy 'p': action 'stay' is never taken: 'go' costs no more in any class\n"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, invoke: Callable[..., Result]) -> None:
    result = invoke(verb, "-h")
    assert result.exit_code == 0
    assert result.output.startswith("Usage: ")
    assert "--models" in result.output


def test_the_command_lists_exactly_the_documented_verbs() -> None:
    assert set(cli.VERBS) == set(VERBS)


def test_a_version_is_retired_and_an_alias_removed_by_command(
    invoke: Callable[..., Result], fails: Callable[..., str], repository: Repository, publish_again: Callable[[], int]
) -> None:
    models = ("--models", repository.root)
    assert publish_again() == 2
    assert invoke("alias", SHIPPED, "canary", "2", *models).exit_code == 0
    gone = invoke("retire", SHIPPED, "2", "--purge", *models)
    assert "version 2 is retired: its weights are deleted." in gone.stdout
    assert "Removed alias: canary." in gone.stdout
    assert "retired versions: 2" in invoke("inspect", SHIPPED, *models).stdout
    assert "retired 2" in invoke("list", *models).stdout
    listed: Any = printed_json(invoke("list", *models, "--json"))
    assert listed["models"][0]["retired"] == [2]
    assert "version 2: retired, manifest and record match" in invoke("verify", SHIPPED, *models).stdout
    for verb in (("alias", SHIPPED, "stable", "2"), ("evaluate", SHIPPED, "--data", "x.csv", "--version", "2")):
        assert "is retired" in fails(*verb, *models)
    removed = invoke("alias", SHIPPED, "stable", "--remove", *models)
    assert f"`temperance alias {SHIPPED} stable VERSION --models {repository.root}`" in removed.stdout
    seen = invoke("inspect", SHIPPED, *models)
    assert seen.exit_code == 0
    assert "versions 1; no alias; retired 2" in seen.stdout
    assert f"`temperance alias {SHIPPED} stable VERSION --models {repository.root}`" in seen.stdout
    assert invoke("retire", SHIPPED, "1", *models).exit_code == 0
    standing: Any = printed_json(invoke("inspect", SHIPPED, "--json", *models))
    assert standing == {"name": SHIPPED, "versions": [], "aliases": {}, "retired": [1, 2]}
    assert "is no model (models here" in fails("inspect", "nobody", *models)
    assert invoke("alias", SHIPPED, "stable", *models).exit_code == 2
    assert invoke("alias", SHIPPED, "stable", "1", "--remove", *models).exit_code == 2


def test_every_verb_takes_the_repository_from_the_environment(
    invoke: Callable[..., Result], repository: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TEMPERANCE_MODELS", str(repository.root))
    assert SHIPPED in invoke("list").stdout
    assert invoke("verify", SHIPPED).exit_code == 0
    for name in cli.VERBS:
        verb = cli.command.get_command(None, name)  # type: ignore[arg-type]  # unused there
        assert verb is not None
        (option,) = [p for p in verb.params if p.name in {"repository", "models"}]
        assert name == "serve" or option.envvar == "TEMPERANCE_MODELS"


def test_commands_in_messages_name_the_repository_that_was_named(
    invoke: Callable[..., Result], fails: Callable[..., str], repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"--models {repository.root}`"
    assert place in fails("fit", SHIPPED, "--data", "x.csv", "--models", repository.root)
    monkeypatch.setenv("TEMPERANCE_MODELS", str(repository.root))
    assert "--models" not in fails("fit", SHIPPED, "--data", "x.csv")
    assert invoke("draft", SHIPPED).exit_code == 0
    assert "--force" in fails("draft", SHIPPED)
    assert invoke("draft", SHIPPED, "--force").exit_code == 0
    published = invoke("publish", SHIPPED)
    assert f"aliases: stable = 1): `temperance alias {SHIPPED} stable 2` deploys it" in published.stdout


def test_evaluate_says_which_version_it_measures_when_a_newer_one_exists(
    invoke: Callable[..., Result], repository: Repository, data_folder: Path, publish_again: Callable[[], int]
) -> None:
    arguments = ("evaluate", SHIPPED, "--data", data_folder / "test.csv", "--models", repository.root)
    assert "newest" not in invoke(*arguments).stderr
    publish_again()
    assert "this is version 1, which stable names; for version 2" in invoke(*arguments).stderr
    assert "newest" not in invoke(*arguments, "--version", "1").stderr


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (("--classes", "a,b", "--classes-from", "NAMES"), "--classes and --classes-from say the same thing"),
        (("--features-from", "NAMES", "--width", "2"), "--width numbers the features that --features names"),
        (("--width", "0"), "0 is not in the range"),
    ],
)
def test_flags_of_an_import_that_say_the_same_thing_twice_are_bad_usage(
    flags: tuple[str, ...],
    reason: str,
    invoke: Callable[..., Result],
    linear_graph: Callable[..., Path],
    tmp_path: Path,
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("a, with a comma\nb\n")
    given = [str(names) if flag == "NAMES" else flag for flag in flags]
    result = invoke("import", linear_graph(*IDENTITY), "--name", "m", "--models", tmp_path / "models", *given)
    assert result.exit_code == 2
    assert reason in result.output


def test_names_with_commas_come_from_files(
    invoke: Callable[..., Result], linear_graph: Callable[..., Path], tmp_path: Path
) -> None:
    names, models = tmp_path / "names.txt", tmp_path / "models"
    names.write_text("a, with a comma\nb\n")
    flags = ("--classes-from", names, "--features-from", names, "--name", "m", "--models", models, "--json")
    result = invoke("import", linear_graph(*IDENTITY), *flags)
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert told["conclusions"]["classes"]["value"] == ["a, with a comma", "b"]
    assert told["guards"].startswith("guards: ")
    assert Repository(models).draft("m").manifest.columns == ("a, with a comma", "b")

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import tomlkit
from click.testing import Result

from service.bundle.repository import Repository
from service.cli import main as cli
from tests.cli.printed import IDENTITY, SHIPPED, Run, plain, printed_json

READ_SETTINGS = ("doctor", "serve")
VERBS = (
    "doctor",
    "import",
    "fit",
    "publish",
    "pull",
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


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("frobnicate",),
        ("fit",),
        ("fit", "m"),
        ("fit", "m", "--data", "x.npz", "--false-alarm", "0"),
        ("fit", "m", "--data", "x.npz", "--calibrator", "magic"),
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


FAILURES = {
    "a repository that is not there": (("list", "--models", "nowhere"), "nowhere is not a directory"),
    "a model that is not there": (("inspect", "absent"), "models here: breast-cancer"),
    "a version that is not there": (("evaluate", SHIPPED, "--data", "x.csv", "--version", "9"), "no version 9"),
    "data that is not there": (("evaluate", SHIPPED, "--data", "x.csv"), "x.csv does not exist"),
    "no draft to fit": (("fit", SHIPPED, "--data", "x.csv"), "has no draft"),
    "no draft to publish": (("publish", SHIPPED), "has no draft"),
    "nothing to verify": (("verify", "absent"), "absent has no published version"),
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


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, invoke: Callable[..., Result]) -> None:
    result = invoke(verb, "-h")
    assert result.exit_code == 0
    assert result.output.startswith("Usage: ")
    assert "--models" in result.output


def test_the_command_lists_exactly_the_documented_verbs() -> None:
    groups = {"alarms", "audit", "capacity", "keys", "outcomes"}  # without a repository
    assert set(cli.VERBS) == {*VERBS, *groups, "performance", "ray", "refit"}


def test_every_verb_takes_the_repository_from_the_environment(
    invoke: Callable[..., Result], repository: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TEMPERANCE_MODELS", str(repository.root))
    assert SHIPPED in invoke("list").stdout
    assert invoke("verify", SHIPPED).exit_code == 0
    for name in VERBS:
        verb = cli.command.get_command(None, name)  # type: ignore[arg-type]  # unused there
        assert verb is not None
        (option,) = [p for p in verb.params if p.name in {"repository", "models"}]
        assert name in READ_SETTINGS or option.envvar == "TEMPERANCE_MODELS"

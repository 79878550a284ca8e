import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from service.cli import main as cli
from tests.cli.printed import Run

TEMPERANCE = Path(sys.executable).with_name("temperance")


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

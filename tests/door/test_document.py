"""R3: schemathesis makes requests from the service's own document; no answer contradicts it or is a fault of ours."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Server
from tests.door.servers import LIMIT
from tests.shipped_model import SHIPPED

HERE = Path(__file__).parent
COMMAND = Path(sys.executable).with_name("schemathesis")
CASES = re.compile(r"(\d+) generated")


def cases_without_a_failure(server: Server, folder: Path, *flags: str) -> int:
    """How many requests schemathesis sends with all its checks; it fails where one of them does."""
    url = f"{server.client.base_url}/openapi.json"
    command = [str(COMMAND), "--no-color", "--config-file", str(HERE / "schemathesis.toml"), "run", url, *flags]
    ended = subprocess.run(
        [*command, "--checks", "all", "--continue-on-failure"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout[-6000:]
    found = CASES.search(ended.stdout)
    assert found is not None
    return int(found[1])


def test_requests_made_from_the_document_get_documented_answers(serving, tmp_path: Path) -> None:
    with serving(SHIPPED, **LIMIT) as server:
        flags = ("--max-examples", "12", "--phases", "examples,fuzzing", "--no-shrink", "--seed", "0")
        cases = cases_without_a_failure(server, tmp_path, *flags, "--exclude-path-regex", "versions|labels")
        assert "Traceback" not in server.log.read_text("utf-8")
    assert cases >= 150


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_ten_thousand_requests_of_all_phases_get_documented_answers(serving, tmp_path: Path, seed: int) -> None:
    with serving(SHIPPED, **LIMIT) as server:
        cases = cases_without_a_failure(server, tmp_path, "--max-examples", "60", "--seed", str(seed))
        assert "Traceback" not in server.log.read_text("utf-8")
    assert cases >= 10_000 / 3

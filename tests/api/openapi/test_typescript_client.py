"""@hey-api/openapi-ts makes a TypeScript client with every operation; it type-checks, and works against a real server.

Both tools lie in `typescript/`, pinned by its lock file: `npm ci --prefix tests/api/openapi/typescript`.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from service.api.openapi.document import operations

FOLDER = Path(__file__).parent / "typescript"
TOOLS = FOLDER / "node_modules" / ".bin"
COMPILER = ("--strict", "--target", "es2022", "--module", "commonjs", "--lib", "es2022,dom,dom.iterable")

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not TOOLS.is_dir(),
    reason="needs node, and npm ci --prefix tests/api/openapi/typescript",
)


@pytest.fixture(scope="module")
def compiled(server: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client and `drive.ts`, generated from the document of the running server and compiled."""
    folder = tmp_path_factory.mktemp("typescript")
    (folder / "openapi.json").write_bytes(server.client.get("/openapi.json").content)
    flags = ("-i", folder / "openapi.json", "-o", folder / "generated", "-c", "@hey-api/client-fetch")
    run(TOOLS / "openapi-ts", *flags)
    shutil.copy(FOLDER / "drive.ts", folder)
    shutil.copy(FOLDER / "process.d.ts", folder)
    run(TOOLS / "tsc", *COMPILER, "--outDir", folder / "compiled", folder / "drive.ts", folder / "process.d.ts")
    return folder


def test_the_client_has_every_operation(compiled: Path) -> None:
    made = re.findall(r"^export const (\w+) =", (compiled / "generated" / "sdk.gen.ts").read_text(), re.MULTILINE)
    assert sorted(made) == sorted(camel(operation.id) for operation in operations())


def test_it_works_against_a_server(compiled: Path, server: Any, test_rows: list[list[float]]) -> None:
    environment = {"BASE_URL": str(server.client.base_url).rstrip("/"), "ROWS": json.dumps(test_rows[:3])}
    seen = json.loads(run("node", compiled / "compiled" / "drive.js", **environment))
    expected = server.post("decide", {"instances": test_rows[:3]}).json()["predictions"]
    assert seen["actions"] == [row["decision"]["action"] for row in expected]
    assert seen["pointer"] == "/instances/0"
    assert seen["classes"] == ["benign", "malignant"]
    assert {"probabilities", "action"} <= set(seen["outputs"])


def run(*command: str | Path, **environment: str) -> str:
    """What a command prints; AssertionError with all of it if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)

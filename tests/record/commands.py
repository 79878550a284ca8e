"""`temperance audit` as a process of its own."""

import subprocess
import sys
from pathlib import Path


def audited(data: Path, *arguments: str) -> str:
    """What a verb prints; it must succeed."""
    command = [str(Path(sys.executable).parent / "temperance"), "audit", *arguments, "--data", str(data)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout

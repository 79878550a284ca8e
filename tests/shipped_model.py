"""The model that most tests ask, in a repository of its own: `breast-cancer` as it is shipped.

Servers of tests start often, and most need no other of the shipped models. `tests/models` has them all.
"""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

NAME: Final = "breast-cancer"
_FOLDER: Final = TemporaryDirectory(prefix="temperance-shipped-")


def _copied() -> Path:
    root = Path(_FOLDER.name) / "models"
    source, scripts = Path(__file__).parent.parent / "models" / NAME, shutil.ignore_patterns("*.py", "__pycache__")
    return shutil.copytree(source, root / NAME, ignore=scripts).parent


SHIPPED: Final = _copied()
"""The repository; tests only read it, and copy it where they write."""

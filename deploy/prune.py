"""Remove what serving never reads from an installation: `python prune.py SITE_PACKAGES`, in the image's build stage.

A rule that matches nothing is an error: a newer version of its package may have moved what it was for.
"""

import shutil
import sys
from pathlib import Path

RULES = (
    # Tests and what they read.
    "**/tests",
    "**/conftest.py",
    "onnxruntime/datasets",
    # What compiles or type-checks against a package.
    "**/*.pyi",
    "**/*.pxd",
    "**/*.h",
    "**/*.c",
    "numpy/_core/include",
    "numpy/_core/lib",
    "numpy/distutils",
    "numpy/f2py",
    # Runtimes for programs that are not Python; the module of ONNX Runtime holds all of it once more.
    "onnxruntime/capi/libonnxruntime.so*",
    "apsw/sqlite_extra_binaries",
    # Preparation of models, which happens before they are published.
    "onnxruntime/quantization",
    "onnxruntime/tools",
    "onnxruntime/transformers",
    # Colours for programming languages, in tracebacks that the command never prints.
    "pygments/lexers/[a-z]*.py",
)
"""Patterns below site-packages."""


def prune(root: Path) -> int:
    """Remove what the rules match and return its bytes.

    Parameters
    ----------
    root : Path
        Folder of installed packages.
    """
    return sum(_remove(rule, list(root.glob(rule))) for rule in RULES)


def _remove(rule: str, found: list[Path]) -> int:
    if not found:
        sys.exit(f"{rule} matches nothing: the rule can go, or what it was for has moved")
    size = 0
    for path in found:
        files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
        size += sum(file.stat().st_size for file in files)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return size


if __name__ == "__main__":
    print(f"{prune(Path(sys.argv[1])) / 1e6:.0f} MB removed")

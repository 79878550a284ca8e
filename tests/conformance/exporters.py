"""Every form of a real export by name; `export` makes one, with the answers of the toolchain that made it."""

from pathlib import Path
from typing import Final

from tests.conformance import from_sklearn, from_torch, from_trees
from tests.conformance.case import Case
from tests.conformance.from_sklearn import Exporter

EXPORTERS: Final[dict[str, Exporter]] = {
    **from_sklearn.EXPORTERS,
    **from_trees.EXPORTERS,
    **from_torch.EXPORTERS,
}


def export(name: str, folder: Path) -> Case:
    """Export one of `EXPORTERS` into a folder."""
    return EXPORTERS[name](folder / f"{name}.onnx")

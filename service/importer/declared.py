"""What the user declares about a graph, and conclusions from that and from evidence.

Tested in tests/importer/test_analysis.py.
"""

from dataclasses import dataclass
from pathlib import Path

DECLARED = "declared at import"


@dataclass(frozen=True, slots=True)
class Declared:
    """What the user declares about a graph; None leaves it to the evidence.

    Attributes
    ----------
    output : str or None
        A tensor, or several of one column each, separated by commas.
    output_kind, task : str or None
    classes, features : tuple of str or None
    width : int or None
        Number of columns of the one table whose width neither the file nor its operators show.
    missing : str or None
        ``nan``: every column of numbers may miss, as NaN.
    expose_logits : bool
        Make what the last softmax or sigmoid takes an output, and use it.
    expose_features : str or None
        Make a tensor an output for feature scores: its name, or ``auto``.
    expect : Path or None
        An .npz file of rows and the toolchain's own ``probabilities``, which the graph must answer too.
    tolerance : float
        How far they may differ; single precision exports of the usual toolchains stay within a hundredth of 1e-4.
    """

    output: str | None = None
    output_kind: str | None = None
    task: str | None = None
    classes: tuple[str, ...] | None = None
    features: tuple[str, ...] | None = None
    width: int | None = None
    missing: str | None = None
    expose_logits: bool = False
    expose_features: str | None = None
    expect: Path | None = None
    tolerance: float = 1e-4


@dataclass(frozen=True, slots=True)
class Conclusion:
    """One thing that an import found out, and from what."""

    subject: str
    value: str | tuple[str, ...]
    evidence: str

"""What to score, and what was scored.

Tested in tests/scoring/test_score.py.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

ON_ERROR: Final = ("stop", "skip")


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """What to score, and where the answers go.

    Attributes
    ----------
    data, out : Path
        CSV, Parquet or NPZ, or a directory of parts, in; CSV or Parquet out.
    policy : str or None
        A policy of the manifest; None means its default, or no decisions where it has none.
    site : str or None
    id_column : str or None
        A column that is copied to the answers, as text.
    chunk_rows : int
        Rows in memory at a time.
    on_error : str
        What happens at a row that cannot be answered: ``stop`` ends the run; ``skip`` leaves its answers null and
        states the reason in a column `error`.
    """

    data: Path
    out: Path
    policy: str | None = None
    site: str | None = None
    id_column: str | None = None
    chunk_rows: int = 65_536
    on_error: str = "stop"


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """What was done; ``reused`` rows were scored by a run that had been interrupted, ``skipped`` have no answer."""

    rows: int
    reused: int
    skipped: int = 0

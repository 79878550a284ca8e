"""Cases of the fuzz: a model, a damage and a number; each becomes a repository of one model with a sound version 1."""

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from tests.bundle_fuzz.damage import BOUND_AGAIN, DAMAGE, Damaged, bind_again, reseal
from tests.bundle_fuzz.sound import NAMES

ALIASES: Final = "aliases.toml"
WAITING: Final = "aliases.damaged"


@dataclass(frozen=True, slots=True)
class Case:
    """One damaged version."""

    kind: str
    model: str
    number: int

    def __str__(self) -> str:
        return f"{self.kind} / {self.model} / {self.number}"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A case on disk: version 1 is sound and served, version 2 is damaged, and its aliases wait beside."""

    case: Case
    root: Path
    damaged: Damaged

    @property
    def folder(self) -> Path:
        """Of the model."""
        return self.root / self.case.model

    def publish(self) -> None:
        """Let the alias move to the damaged version."""
        (self.folder / ALIASES).unlink()
        if os.path.lexists(self.folder / WAITING):
            (self.folder / WAITING).rename(self.folder / ALIASES)


def cases(count: int, seed: int = 0) -> list[Case]:
    """So many cases of all kinds, drawn by their weights; every kind is there, and every model."""
    rng = np.random.default_rng(seed)
    weights = np.array([weight for _, weight in DAMAGE.values()], dtype=float)
    drawn = rng.choice(list(DAMAGE), size=max(count - len(DAMAGE), 0), p=weights / weights.sum())
    kinds = [*DAMAGE, *map(str, drawn)][:count]
    return [Case(kind, NAMES[i % len(NAMES)], seed * 1_000_000 + i) for i, kind in enumerate(kinds)]


def prepare(case: Case, sound: Path, folder: Path) -> Prepared:
    """Write a case: both versions, the second damaged and sealed again."""
    own = folder / case.model
    shutil.copytree(sound / case.model / "1", own / "1")
    shutil.copytree(sound / case.model / "1", own / "2")
    (own / ALIASES).write_text("stable = 2\n", encoding="utf-8")
    make, _ = DAMAGE[case.kind]
    damaged = make(own / "2", np.random.default_rng([case.number, 7]))
    rng = np.random.default_rng([case.number, 8])
    if damaged.is_sealed:
        # Rows that estimates are compared with rest on the hash alone; no vector of the self-test looks at them.
        by_hash = damaged.what.startswith("state.npz: prevalence:")
        if rng.random() < BOUND_AGAIN and not by_hash and bind_again(own / "2"):
            damaged = replace(damaged, what=f"{damaged.what}, bound again")
        reseal(own / "2")
    if os.path.lexists(own / ALIASES):
        (own / ALIASES).rename(own / WAITING)
    (own / ALIASES).write_text("stable = 1\n", encoding="utf-8")
    return Prepared(case, folder, damaged)

"""How often a refit changes something, and passes its gates: `python -m tests.bench.refits`."""

import sys
from typing import Final

import numpy as np

from service.bundle.repository import Repository
from service.core.updating import Update
from service.monitoring.proposal import propose
from service.runtime.model import load_model
from tests.monitoring.test_refit import answers
from tests.shipped_model import SHIPPED

ROWS: Final = (600, 2000)
REPEATS: Final = 500
TRUTHS: Final = {
    "right": Update(1.0, np.zeros(2)),
    "slope 0.7": Update(0.7, np.zeros(2)),
    "intercept 0.6": Update(1.0, np.array([-0.3, 0.3])),
}


def main() -> None:
    """Print a line for every truth and number of rows."""
    model = load_model(Repository(SHIPPED).bundle("breast-cancer", 1))
    for truth, update in TRUTHS.items():
        for rows in ROWS:
            found = [propose(model, answers(model, rows, truth=update, seed=seed), seed=0) for seed in range(REPEATS)]
            changed, passed = (np.mean([getattr(one, name) for one in found]) for name in ("changes", "passed"))
            sys.stdout.write(f"| {truth} | {rows:,} | {changed:.1%} | {passed:.1%} |\n")


if __name__ == "__main__":
    main()

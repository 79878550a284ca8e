"""The command line that every recipe has."""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch


def run_recipe(make: Callable[[Path, int], None], description: str, *, seeds: int = 10) -> None:
    """Make a model as the command line says: ``--models DIR``, and ``--seeds N`` for the card's comparisons.

    torch runs on one thread.

    Parameters
    ----------
    make : callable
        From a repository and a number of seeds.
    description : str
        What the recipe is; its first line is the command's help.
    seeds : int
        Without ``--seeds``.
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--models", type=Path, required=True, metavar="DIR", help="repository to publish into")
    parser.add_argument("--seeds", type=int, default=seeds, metavar="N", help="runs that the card compares over")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # networks this small are slower on several, and sums have another order there
    make(arguments.models, arguments.seeds)

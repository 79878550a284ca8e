"""The shipped model beside a plain service and a floor; one run, interleaved.

Run as ``python -m tests.bench.serving``. It needs wrk (``apt-get install wrk``). Only ratios taken in one run mean
anything: every round measures all servers, one after the other, and the table shows medians of the rounds' ratios.
"""

import argparse
import json
from typing import Final

from tests.bench import beside, tensors
from tests.bench.beside import Work
from tests.bench.servers import ours, under_uvicorn
from tests.bench.shipped import DECIDE, INFER, breast_rows
from tests.bench.table import show_rows
from tests.bench.wrk import JSON, Request, required

MANY: Final = 256
CAPTION: Final = (
    "K = 2, A = 3; every :decide answer holds probabilities after a temperature, nll and mahalanobis with p-values, "
    "ranges of 30 features, risks, margin and action; /v2 gives all nine outputs. "
    "Validation and metrics on in ours, logs off in all."
)


def works() -> list[Work]:
    """The table of issue 5, as far as the shipped model goes."""
    one, many = decided(breast_rows(1)), decided(breast_rows(MANY))
    return [
        Work("1 row, 1 connection", one, one, 1, times_plain=2.5, p50_of_floor=2.2),
        Work("1 row, 8 connections", one, one, 8, times_plain=6.0),
        Work("1 row, 64 connections", one, one, 64, times_plain=10.0, of_floor=0.45),
        Work(f"{MANY} rows, :decide", many, many, 8, times_plain=5.0),
        Work(f"{MANY} rows, /v2 flat JSON", tensors.flat(INFER, breast_rows(MANY)), many, 8, times_plain=8.0),
        Work(f"{MANY} rows, /v2 binary", tensors.binary(INFER, breast_rows(MANY)), many, 8, times_plain=18.0),
    ]


def decided(rows: list[list[float]]) -> Request:
    """Rows to decide on."""
    return Request(DECIDE, json.dumps({"instances": rows}).encode(), JSON)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=1)
    options = parser.parse_args()
    required()
    with ours() as server, under_uvicorn("tests.bench.plain:app", "/docs") as plain:
        beside.require_agreement(server, plain, decided(breast_rows(100)))
        rows = [
            beside.cells(work, beside.compare(server, plain, work, rounds=options.rounds, seconds=options.seconds))
            for work in works()
        ]
    caption = f"{CAPTION} Medians of {options.rounds} rounds of {options.seconds} s, interleaved."
    show_rows("Serving the shipped model", beside.COLUMNS, rows, caption=caption)


if __name__ == "__main__":
    main()

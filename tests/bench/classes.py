"""A thousand classes: 256 rows beside a plain service and a floor; one run, interleaved.

Run as ``python -m tests.bench.classes``. There are no targets. The plain service speaks JSON alone, so its side of
the binary row is the JSON of the same probabilities.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Final

from tests.bench import beside, tensors
from tests.bench.beside import Work
from tests.bench.servers import ours, under_uvicorn
from tests.bench.synthetic import Network, publish
from tests.bench.table import show_rows
from tests.bench.wrk import required

WIDE: Final = Network("wide", (30, 64, 1000), actions=10, rows=2000)
ROWS: Final = 256
TOP: Final = 5
CONNECTIONS: Final = 4


def works() -> list[Work]:
    """What a user of a thousand classes asks for: the best few, the decision, or all of them."""
    top = WIDE.request("predict", ROWS, top_k=TOP)
    decide = WIDE.request("decide", ROWS, top_k=TOP)
    whole = WIDE.request("predict", ROWS)
    binary = tensors.binary(f"/v2/models/{WIDE.name}/infer", WIDE.sample(ROWS, seed=0).tolist(), "probabilities")
    return [
        Work(f":predict, top {TOP}: temperature", top, top, CONNECTIONS),
        Work(f":decide, top {TOP}: + nll, p-values, A = 10 risks", decide, decide, CONNECTIONS),
        Work(":predict, all in JSON: temperature", whole, whole, CONNECTIONS),
        Work("/v2 binary probabilities: temperature", binary, whole, CONNECTIONS),
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=1)
    options = parser.parse_args()
    required()
    with tempfile.TemporaryDirectory() as folder:
        publish(Path(folder), WIDE)
        bundle = str(Path(folder) / WIDE.name / "1")
        with (
            ours(Path(folder)) as server,
            under_uvicorn("tests.bench.plain:app", "/docs", PLAIN_BUNDLE=bundle) as plain,
        ):
            for verb in ("predict", "decide"):
                beside.require_agreement(server, plain, WIDE.request(verb, ROWS, top_k=TOP))
            rows = [
                beside.cells(work, beside.compare(server, plain, work, rounds=options.rounds, seconds=options.seconds))
                for work in works()
            ]
    caption = (
        f"{ROWS} rows x 30, {CONNECTIONS} connections, K = 1000, float32 probabilities computed, float64 in plain. "
        f"Medians of {options.rounds} rounds of {options.seconds} s, interleaved."
    )
    show_rows("A thousand classes", beside.COLUMNS, rows, caption=caption)


if __name__ == "__main__":
    main()

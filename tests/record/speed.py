"""How many records a second a verification reads: `python -m tests.record.speed --records 200000`."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from service.store.verification import verify
from tests.record.sample import Sample


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=200_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sample = Sample(Path(folder))
        sample.answers(options.records)
        store = sample.open()
        start, busy = time.perf_counter(), time.process_time()
        found = verify(store, sample.secrets.public_keys())
        seconds, busy = time.perf_counter() - start, time.process_time() - busy
        store.close()
    rates = f"{found.entries / seconds:.0f} records/s, {found.entries / busy:.0f} per second of a processor"
    sys.stdout.write(f"{found.entries} records: {rates}; finding: {found.finding}\n")


if __name__ == "__main__":
    main()

"""K6: random changes of a copy of a sound record, each of which a verification must find.

`python -m tests.record.mutations --count 1000`
"""

import argparse
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import apsw

from service.store.anchors import read_anchors
from service.store.seals import Seals
from service.store.verification import Verification, verify
from tests.record.sample import Sample

CHAINED: Final = ("predictions", "outcomes", "events")
TABLES: Final = (*CHAINED, "contexts", "documents", "streams", "anchors", "sealed", "subject_keys")
"""All but replies, states and the probe, which are no part of the record."""


def sound(folder: Path, url: str | None = None) -> Sample:
    sample = Sample(folder, url)
    for stream in (1, 2, 3):
        sample.stream(stream)
    return sample


def checked(sample: Sample, folder: Path) -> Verification:
    store = Sample(folder).open()
    try:
        keys, anchors = sample.secrets.public_keys(), read_anchors(sample.anchors_path)
        return verify(store, keys, anchors=anchors, seals=Seals(sample.secrets))
    finally:
        store.close()


def edit(base: apsw.Connection, draw: random.Random) -> str:
    table = draw.choice(TABLES)
    column = draw.choice([name for _, name, *_ in base.execute(f"PRAGMA table_info({table})")])
    query = f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL"
    before = draw.choice([row[0] for row in base.execute(query)] or [None])
    after = changed(before, draw)
    if after == before:
        return ""  # a text without letters has no other case
    if table in {"sealed", "subject_keys"} and column in {"subject", "request_id", "key_id"}:
        return ""  # where no key fits, clear text counts as erased: none of the chain
    base.execute(f"UPDATE {table} SET {column} = ? WHERE {column} IS ?", (after, before))
    return f"edit {table}.{column}" if before is not None and base.changes() else ""


def changed(value: Any, draw: random.Random) -> Any:
    if isinstance(value, int):
        return value + draw.choice((-1, 1, 1000))
    if isinstance(value, bytes):
        place = draw.randrange(len(value)) if value else 0
        return value[:place] + bytes([value[place] ^ 1 << draw.randrange(8)]) + value[place + 1 :] if value else b"x"
    return None if value is None else draw.choice((f"{value} ", value[:-1], value.swapcase()))


def delete(base: apsw.Connection, draw: random.Random) -> str:
    table = draw.choice((*CHAINED, "contexts", "documents", "streams"))
    key = base.execute(f"SELECT name FROM pragma_table_info('{table}') WHERE pk").fetchall()[0][0]
    chosen = draw.choice(base.execute(f"SELECT {key} FROM {table}").fetchall())
    base.execute(f"DELETE FROM {table} WHERE {key} = ?", chosen)
    return f"delete {table}"


def swap(base: apsw.Connection, draw: random.Random) -> str:
    table = draw.choice(CHAINED)
    one, other = draw.sample([row[0] for row in base.execute(f"SELECT place FROM {table}")], 2)
    for before, after in ((one, -1), (other, one), (-1, other)):
        base.execute(f"UPDATE {table} SET place = ? WHERE place = ?", (after, before))
    return f"swap {table}"


def insert(base: apsw.Connection, draw: random.Random) -> str:
    table = draw.choice(CHAINED)
    names = [name for _, name, *_ in base.execute(f"PRAGMA table_info({table})")]
    row = dict(zip(names, draw.choice(base.execute(f"SELECT * FROM {table}").fetchall()), strict=True))
    top = base.execute(f"SELECT max(place) FROM ({' UNION '.join(f'SELECT place FROM {one}' for one in CHAINED)})")
    row["place"] = (
        int(str(top.fetchall()[0][0])) + 1
        if draw.random() < 0.5
        else draw.randrange(1, 4) << 40 | draw.randrange(1 << 20)
    )
    row.update({name: None for name in ("arrival",) if name in row}, request_id="0192f0c1-ffff-7000-8000-000000000000")
    own = {name: row[name] for name in names}
    base.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(own))})", tuple(own.values()))
    return f"insert {table}"


def cut(base: apsw.Connection, draw: random.Random) -> str:
    stream = draw.randrange(1, 4)
    last = stream << 40 | draw.randrange(20)
    for table in CHAINED:
        base.execute(f"DELETE FROM {table} WHERE place > ? AND place < ?", (last, stream + 1 << 40))
    if draw.random() < 0.5:
        base.execute("DELETE FROM anchors WHERE stream = ? AND sequence > ?", (stream, last & 0xFFFF))
    return "cut the tail"


def remove(base: apsw.Connection, draw: random.Random) -> str:
    stream = draw.randrange(1, 4)
    for table in CHAINED:
        base.execute(f"DELETE FROM {table} WHERE place >> 40 = ?", (stream,))
    base.execute("DELETE FROM anchors WHERE stream = ?", (stream,))
    base.execute("DELETE FROM streams WHERE number = ?", (stream,))
    return "remove a stream"


KINDS: Final[tuple[Callable[[apsw.Connection, random.Random], str], ...]] = (
    edit, edit, edit, edit, delete, swap, insert, cut, remove,
)  # fmt: skip


def changeable(path: str | Path) -> apsw.Connection:
    """The database without what keeps its tables append-only, as anyone with the file can open it."""
    base = apsw.Connection(str(path))
    for name, *_ in base.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        base.execute(f"DROP TRIGGER {name}")
    base.execute("PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON; PRAGMA synchronous = OFF")
    return base


def mutated(path: Path, draw: random.Random) -> str:
    """Change a copy; what was done, or nothing where the change cannot be made."""
    base = changeable(path)
    try:
        return draw.choice(KINDS)(base, draw)
    except (apsw.ConstraintError, apsw.MismatchError):
        return ""  # the database itself refused it
    finally:
        base.close()


def run(count: int, *, seed: int, workplace: Path) -> tuple[Counter[str], list[str]]:
    """How many changes of each kind were made, and those that were not found."""
    sample, draw = sound(workplace / "sound"), random.Random(seed)
    assert checked(sample, workplace / "sound").finding is None, "the sound record has a finding"
    made: Counter[str] = Counter()
    missed = []
    while made.total() < count:
        copy = workplace / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(workplace / "sound", copy)
        what = mutated(copy / "audit.db", draw)
        if what:
            made[what] += 1
            missed += [] if is_found(sample, copy) else [what]
    return made, missed


def is_found(sample: Sample, copy: Path) -> bool:
    return checked(sample, copy).finding is not None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made, missed = run(options.count, seed=options.seed, workplace=Path(folder))
    for what, times in sorted(made.items()):
        sys.stdout.write(f"{times:5d} {what}\n")
    sys.stdout.write(f"found {made.total() - len(missed)} of {made.total()}; missed: {sorted(set(missed))}\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

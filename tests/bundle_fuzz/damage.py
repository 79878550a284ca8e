"""What may happen to the files of a version: bytes, numbers, shapes, sizes, text, and files that are none.

Every damage draws from a seeded generator, so that a case is its model, its kind and its number.
"""

import io
import json
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.lib import format as npy

from service.bundle.binding import bound
from service.bundle.record import parse_record
from service.bundle.sums import graph_sha256
from tests.graph import mutants

Rng = np.random.Generator
MANIFEST, RECORD, STATE, GRAPH, SUMS = "manifest.toml", "calibration.json", "state.npz", "model.onnx", "SHA256SUMS"
FILES: Final = (GRAPH, MANIFEST, RECORD, STATE)
HUGE: Final = 1500 * 2**20
DEEP: Final = 100_000
DECLARED: Final = re.compile(r"^\[(policies|sites|features)\b|^title\b", re.MULTILINE)
"""Sections of a manifest that people edit without a new calibration: what they hold is meant to change answers."""

TEXTS: Final = ("", "x", "-", "a\nb", "\x00", "é" * 3, "'; --", "x" * 100_000, "nan", "../up", "\u202e")
NUMBER: Final = re.compile(r'(?<![\w".\-])-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w".])')


@dataclass(frozen=True, slots=True)
class Damaged:
    """A damage that was done.

    Attributes
    ----------
    what : str
    is_declared : bool
        Whether it is an edit of prices, sites, ranges or titles, after which a version may answer otherwise.
    is_sealed : bool
        Whether the sums are to be renewed.
    """

    what: str
    is_declared: bool = False
    is_sealed: bool = True


Damage = Callable[[Path, Rng], Damaged]


def bind_again(folder: Path) -> bool:
    """Renew the hash that binds record and state to each other; whether both could be read."""
    try:
        record = parse_record((folder / RECORD).read_text(encoding="utf-8"), where=RECORD)
        with np.load(folder / STATE) as stored:
            renewed = bound(record, dict(stored))
    except Exception:  # noqa: BLE001  # whatever the damage has made of them
        return False
    (folder / RECORD).write_text(renewed.to_json(), encoding="utf-8")
    return True


def reseal(folder: Path) -> None:
    """Renew the sums of a version, as a person who edits its files can."""
    files = sorted(file for file in folder.iterdir() if file.name != SUMS and file.is_file())
    lines = (f"{sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files)
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def _pick(rng: Rng, values: Any) -> Any:
    return values[int(rng.integers(len(values)))]


def _other(rng: Rng, value: float) -> Any:
    """Another number: some nearby, some absurd."""
    near = (value * 1.001, value * 1.5, -value, value + 1, value / 3 + 0.01, round(value) + 2)
    far = (0, -1, 1e9, -1e9, 1e308, 5e-324, 2**63, 10**400, float("nan"), float("inf"), -141.0, 1e-12)
    return _pick(rng, near) if rng.random() < 0.5 else _pick(rng, far)


def _bytes_of(name: str) -> Damage:
    def damage(folder: Path, rng: Rng) -> Damaged:
        whole = (folder / name).read_bytes()
        start, length = int(rng.integers(max(len(whole), 1))), int(rng.integers(1, 17))
        part, kind = whole[start : start + length], int(rng.integers(7))
        other = (rng.bytes(length), b"", part * 2, b"\xff" * length, b"\x00" * length, bytes([part[0] ^ 1]), b"")[kind]
        cut = b"" if kind == 6 else whole[start + (1 if kind == 5 else length) :]
        (folder / name).write_bytes(whole[:start] + other + cut)
        return Damaged(f"{name}: {length} bytes at {start}, kind {kind}")

    return damage


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield from _leaves(inner, (*path, key))
    if not isinstance(value, dict | list):
        yield path, value


def _put(document: Any, path: tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        document = document[key]
    document[path[-1]] = value


def _record(folder: Path, change: Callable[[Any], str]) -> Damaged:
    document = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    what = change(document)
    (folder / RECORD).write_text(json.dumps(document, indent=2), encoding="utf-8")
    return Damaged(f"{RECORD}: {what:.100}")


def _numbers_of_the_record(folder: Path, rng: Rng) -> Damaged:
    def change(document: Any) -> str:
        leaves = [(p, v) for p, v in _leaves(document) if isinstance(v, int | float)]
        leaves = [leaf for leaf in leaves if leaf[0][0] not in {"provenance", "candidates"}] or leaves
        path, value = _pick(rng, leaves)
        other = _other(rng, float(value))
        _put(document, path, other)
        return f"{'.'.join(map(str, path))}: {value} is {other:.40g}" if isinstance(other, float) else f"{path}: other"

    return _record(folder, change)


def _text_of_the_record(folder: Path, rng: Rng) -> Damaged:
    def change(document: Any) -> str:
        texts = [(p, v) for p, v in _leaves(document) if isinstance(v, str)]
        path, value = _pick(rng, texts)
        other = _pick(rng, [*TEXTS, _pick(rng, texts)[1], None, 3, [], {}, [[[]]], True])
        _put(document, path, other)
        return f"{'.'.join(map(str, path))}: {value} is {other!r}"

    return _record(folder, change)


def _keys_of_the_record(folder: Path, rng: Rng) -> Damaged:
    def change(document: Any) -> str:
        path, _ = _pick(rng, list(_leaves(document)))
        depth = int(rng.integers(len(path)))
        holder = document
        for key in path[:depth]:
            holder = holder[key]
        key = path[depth]
        if isinstance(holder, list):
            holder.append(holder[key])
            return f"{path}: one more"
        kind = int(rng.integers(3))
        value = holder.pop(key) if kind < 2 else holder[key]
        if kind:
            holder[_pick(rng, ["x", f"{key} ", "a\nb", "é"])] = value
        return f"{path[: depth + 1]}: {('gone', 'renamed', 'doubled')[kind]}"

    return _record(folder, change)


def _nesting(name: str) -> Damage:
    def damage(folder: Path, rng: Rng) -> Damaged:
        opened, text = _pick(rng, ["[", '{"a":', "[[", "{a="]), (folder / name).read_text(encoding="utf-8")
        deep = opened * DEEP
        key = "x = " if name == MANIFEST else '"x": '
        other = text + f"\n{key}{deep}\n" if name == MANIFEST else text.replace("{", "{" + key + deep + ",", 1)
        (folder / name).write_text(_pick(rng, [other, deep]), encoding="utf-8")
        return Damaged(f"{name}: {DEEP} times {opened}")

    return damage


def _is_declared(text: str, at: int) -> bool:
    """Whether a place of a manifest lies in a section that people may edit."""
    line = text.rfind("\n", 0, at) + 1
    header = text.rfind("\n[", 0, at + 1)
    return bool(DECLARED.match(text[line:])) or (header >= 0 and bool(DECLARED.match(text[header + 1 :])))


def _numbers_of_the_manifest(folder: Path, rng: Rng) -> Damaged:
    text = (folder / MANIFEST).read_text(encoding="utf-8")
    found = _pick(rng, list(NUMBER.finditer(text)))
    other = _other(rng, float(found[0]))
    (folder / MANIFEST).write_text(text[: found.start()] + str(other) + text[found.end() :], encoding="utf-8")
    declared = _is_declared(text, found.start())
    return Damaged(f"{MANIFEST}: {found[0]} is {other!s:.40} at {found.start()}", is_declared=declared)


def _text_of_the_manifest(folder: Path, rng: Rng) -> Damaged:
    text = (folder / MANIFEST).read_text(encoding="utf-8")
    found = _pick(rng, list(re.finditer(r'"[^"\n]*"', text)))
    others = list(re.finditer(r'"[^"\n]*"', text))
    other = _pick(rng, [*(json.dumps(t) for t in TEXTS), _pick(rng, others)[0], "1", "[]", "{}", "true"])
    (folder / MANIFEST).write_text(text[: found.start()] + other + text[found.end() :], encoding="utf-8")
    declared = _is_declared(text, found.start())
    return Damaged(f"{MANIFEST}: {found[0]:.30} is {other:.30}", is_declared=declared)


def _lines_of_the_manifest(folder: Path, rng: Rng) -> Damaged:
    lines = (folder / MANIFEST).read_text(encoding="utf-8").splitlines(keepends=True)
    filled = [i for i, line in enumerate(lines) if line.strip()]
    at, kind = int(_pick(rng, filled)), int(rng.integers(5))
    extra = ("", lines[at] * 2, "x = 1\n", "# note\n" + lines[at], lines[at].rstrip() + "\r\n")[kind]
    declared = _is_declared("".join(lines), sum(map(len, lines[:at])) + 1)
    (folder / MANIFEST).write_text("".join([*lines[:at], extra, *lines[at + 1 :]]), encoding="utf-8")
    return Damaged(f"{MANIFEST}: line {at + 1}, kind {kind}", is_declared=declared)


def _encoding_of(name: str) -> Damage:
    def damage(folder: Path, rng: Rng) -> Damaged:
        whole = (folder / name).read_bytes()
        kinds = {
            "UTF-16": whole.decode().encode("utf-16"),
            "a byte order mark": b"\xef\xbb\xbf" + whole,
            "carriage returns": whole.replace(b"\n", b"\r\n"),
            "Latin-1": whole + b"# \xe9\n",
            "a null": whole + b"\x00",
            "nothing": b"",
            "a megabyte of spaces": whole + b" " * 2**20,
            "twice": whole + whole,
        }
        kind = _pick(rng, list(kinds))
        (folder / name).write_bytes(kinds[kind])
        return Damaged(f"{name}: {kind}")

    return damage


def _state(folder: Path, change: Callable[[dict[str, Any]], str]) -> Damaged:
    with np.load(folder / STATE) as stored:
        arrays = dict(stored)
    what = change(arrays)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    (folder / STATE).write_bytes(buffer.getvalue())
    return Damaged(f"{STATE}: {what:.100}")


def _as(dtype: np.dtype[Any], number: Any) -> Any:
    """A number within what a type holds; of whole numbers none for what is not finite."""
    if dtype.kind == "f":
        return 1e308 if isinstance(number, int) and number > 1e308 else float(number)
    limits = np.iinfo(dtype)
    return int(min(max(0 if np.isnan(float(min(number, 1e308))) else number, limits.min), limits.max))


def _numbers_of_the_state(folder: Path, rng: Rng) -> Damaged:
    def change(arrays: dict[str, Any]) -> str:
        name = _pick(rng, sorted(arrays))
        value = arrays[name].copy()
        if value.dtype.kind not in "iuf":
            value = np.roll(value, 1, axis=0)
        elif rng.random() < 0.5 and value.size:
            at = int(rng.integers(value.size))
            value.flat[at] = _as(value.dtype, _other(rng, float(value.flat[at])))
        else:
            whole_changes = {
                "zeros": lambda v: v * 0,
                "ones": lambda v: v * 0 + 1,
                "larger": lambda v: v * 3,
                "negative": lambda v: -v,
                "backwards": lambda v: v[::-1] if v.ndim else v + 1,
                "moved": lambda v: v + 1,
                "nearby": lambda v: (v * 1.001).astype(v.dtype),
                "not finite": lambda v: v + (np.nan if v.dtype.kind == "f" else 7),
            }
            kind = _pick(rng, list(whole_changes))
            arrays[name] = whole_changes[kind](value)
            return f"{name}: {kind}"
        arrays[name] = value
        return f"{name}: one number"

    return _state(folder, change)


def _shapes_of_the_state(folder: Path, rng: Rng) -> Damaged:
    changes: dict[str, Callable[[Any], Any]] = {
        "transposed": lambda v: v.T if v.ndim > 1 else v.reshape(-1, 1),
        "shorter": lambda v: v[:-1] if v.ndim else v.reshape(1),
        "longer": lambda v: np.concatenate([v, v[-1:]]) if v.ndim else v.reshape(1, 1),
        "wider": lambda v: np.concatenate([v, v], axis=-1) if v.ndim else np.array([v, v]),
        "narrower": lambda v: v[..., :-1] if v.ndim else v.reshape(1),
        "empty": lambda v: v[:0] if v.ndim else np.zeros(0, v.dtype),
        "flat": lambda v: v.reshape(-1),
        "a scalar": lambda v: v.reshape(-1)[0] if v.size else v,
        "text": lambda v: v.astype(str),
        "complex": lambda v: v.astype(complex) if v.dtype.kind in "iuf" else v[:0],
        "float16": lambda v: v.astype(np.float16) if v.dtype.kind in "iuf" else v[:0],
        "truth values": lambda v: v.astype(bool) if v.dtype.kind in "iuf" else v[:0],
        "dates": lambda v: np.zeros(v.shape, "datetime64[s]"),
        "records": lambda v: np.zeros(v.shape, [("a", "f8"), ("b", "i4")]),
        "big-endian": lambda v: v.astype(v.dtype.newbyteorder(">")),
        "columns first": np.asfortranarray,
    }

    def change(arrays: dict[str, Any]) -> str:
        name, kind = _pick(rng, sorted(arrays)), _pick(rng, list(changes))
        with np.errstate(all="ignore"):
            arrays[name] = changes[kind](arrays[name])
        return f"{name}: {kind}"

    return _state(folder, change)


def _keys_of_the_state(folder: Path, rng: Rng) -> Damaged:
    def change(arrays: dict[str, Any]) -> str:
        name, kind = _pick(rng, sorted(arrays)), int(rng.integers(4))
        if kind == 0:
            del arrays[name]
        elif kind == 1:
            arrays[f"{name}x"] = arrays.pop(name)
        elif kind == 2:
            arrays[_pick(rng, ["extra", "nll:more", "self_test.feed.none", "a" * 300, "é\n"])] = arrays[name]
        else:
            other = _pick(rng, sorted(arrays))
            arrays[name], arrays[other] = arrays[other], arrays[name]
        return f"{name}: {('gone', 'renamed', 'one more', 'swapped')[kind]}"

    return _state(folder, change)


def _sizes_of_the_state(folder: Path, rng: Rng) -> Damaged:
    """Headers that declare more than there is, and archives that unpack to more than memory."""
    with zipfile.ZipFile(folder / STATE) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    name = _pick(rng, sorted(parts))
    kinds = ["header of 2^40", "header of 2^62 by 2^62", "bomb", "bomb in place", "long header", "an object", "doubled"]
    kind = _pick(rng, kinds)
    if kind.startswith("header"):
        shape = (2**40,) if kind.endswith("2^40") else (2**62, 2**62)
        parts[name] = _npy({"descr": "<f8", "fortran_order": False, "shape": shape}, bytes(64))
    elif kind == "long header":
        parts[name] = b"\x93NUMPY\x02\x00" + (2**31).to_bytes(4, "little") + b"{" * 100
    elif kind == "an object":
        buffer = io.BytesIO()
        np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
        parts[name] = buffer.getvalue()
    elif kind.startswith("bomb"):
        target = name if kind.endswith("place") else "unknown.npy"
        head = {"descr": "<f8", "fortran_order": False, "shape": (2**28,)}
        parts[target] = _npy(head, bytes(0))
        _write(folder / STATE, parts, bomb=target)
        return Damaged(f"{STATE}: {kind} of 2 GiB at {target}")
    _write(folder / STATE, parts, twice=name if kind == "doubled" else None)
    return Damaged(f"{STATE}: {kind} at {name}")


def _npy(header: dict[str, Any], data: bytes) -> bytes:
    buffer = io.BytesIO()
    npy.write_array_header_2_0(buffer, header)  # type: ignore[no-untyped-call,unused-ignore]
    return buffer.getvalue() + data


def _write(path: Path, parts: dict[str, bytes], *, bomb: str | None = None, twice: str | None = None) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in parts.items():
            with archive.open(name, "w", force_zip64=True) as file:
                file.write(data)
                for _ in range(2048 if name == bomb else 0):
                    file.write(bytes(2**20))
        if twice is not None:
            archive.writestr(zipfile.ZipInfo(f"./{twice}"), parts[twice])


def _rebound(folder: Path, rng: Rng) -> str:
    """Bind the calibration to the damaged graph, half of the time: a person who edits a file can renew that too."""
    if rng.random() < 0.3 or not (folder / GRAPH).is_file():
        return ""
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    record["graph_sha256"] = graph_sha256(folder)
    (folder / RECORD).write_text(json.dumps(record, indent=2), encoding="utf-8")
    return BOUND_GRAPH


def _numbers_of_the_graph(folder: Path, rng: Rng) -> Damaged:
    model = onnx.load(folder / GRAPH)
    floats = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
    if not floats:
        return _structure_of_the_graph(folder, rng)
    tensor = _pick(rng, floats)
    value = onnx.numpy_helper.to_array(tensor).copy()
    with np.errstate(all="ignore"):
        if rng.random() < 0.5:
            at = int(rng.integers(value.size))
            other = float(min(max(_other(rng, float(value.flat[at])), -1e39), 1e39))
            value.flat[at] = np.float32(other)
        else:
            value = (value * np.float32(_pick(rng, [0.0, 1.01, -1.0, 3.0, 1e9, np.nan]))).astype(np.float32)
    tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
    (folder / GRAPH).write_bytes(model.SerializeToString())
    return Damaged(f"{GRAPH}: numbers of {tensor.name}{_rebound(folder, rng)}")


def _structure_of_the_graph(folder: Path, rng: Rng) -> Damaged:
    model = onnx.load(folder / GRAPH)
    mutate = _pick(rng, [mutants.with_other_attributes, mutants.with_other_wiring, mutants.with_other_tensors])
    changed = list(mutate(model)) or list(mutants.with_other_wiring(model))
    (folder / GRAPH).write_bytes(_pick(rng, changed).SerializeToString())
    return Damaged(f"{GRAPH}: {mutate.__name__}{_rebound(folder, rng)}")


def _bytes_of_the_graph(folder: Path, rng: Rng) -> Damaged:
    done = _bytes_of(GRAPH)(folder, rng)
    return Damaged(f"{done.what}{_rebound(folder, rng)}")


def _aliases(folder: Path, rng: Rng) -> Damaged:
    path = folder.parent / "aliases.toml"
    texts = {
        "a version that is not there": "stable = 3\n",
        "a negative version": "stable = -1\n",
        "text": 'stable = "2"\n',
        "true": "stable = true\n",
        "no whole number": "stable = 2.5\n",
        "many digits": f"stable = {'9' * 5000}\n",
        "not a number": "stable = nan\n",
        "a table": "[stable]\nversion = 2\n",
        "twice": "stable = 2\nstable = 1\n",
        "deep": "stable = " + "[" * DEEP,
        "deep tables": "a." * DEEP + "b = 1\n",
        "empty": "",
        "no alias left": "# every alias was removed: no version is served\n",
        "a label of lines": '"a\\nb" = 9\nstable = 2\n',
        "a long label": f'"{"x" * 100_000}" = 9\n',
        "no TOML": "stable: 2\n",
        "a null": "stable = 2\x00\n",
        "a byte order mark": "\ufeffstable = 2\n",
        "carriage returns": "stable = 2\r\n",
        "a comment": "# note\nstable = 2\n",
        "many labels": "".join(f"a{i} = 2\n" for i in range(20_000)),
    }
    kind = _pick(rng, [*texts, "not UTF-8", *SPECIAL])
    if kind in SPECIAL:
        SPECIAL[kind](path)
    else:
        path.write_bytes(b"stable = 2 # \xe9\n" if kind == "not UTF-8" else texts[kind].encode())
    return Damaged(f"aliases.toml: {kind}")


def _sums(folder: Path, rng: Rng) -> Damaged:
    path = folder / SUMS
    text = path.read_text(encoding="utf-8")
    first = text.splitlines()[0]
    texts = {
        "cut": text[: len(text) // 2],
        "a line less": "\n".join(text.splitlines()[1:]) + "\n",
        "upper case": text.upper(),
        "carriage returns": text.replace("\n", "\r\n"),
        "a file above": f"{first[:64]}  ../up\n{text}",
        "a folder": f"{first[:64]}  .\n{text}",
        "twice": text + first + "\n",
        "itself": f"{text}{first[:64]}  {SUMS}\n",
        "large": text + (first + "x\n") * 300_000,
        "one long line": "0" * 64 + "  " + "x" * 5_000_000 + "\n",
        "empty": "",
        "another hash": "0" * 64 + first[64:] + "\n" + "\n".join(text.splitlines()[1:]) + "\n",
        "other space": text.replace("  ", " *"),
        "a byte order mark": "\ufeff" + text,
    }
    kind = _pick(rng, [*texts, *SPECIAL])
    if kind in SPECIAL:
        SPECIAL[kind](path)
    else:
        path.write_text(texts[kind], encoding="utf-8", newline="")
    return Damaged(f"{SUMS}: {kind}", is_sealed=False)


def _sparse(path: Path) -> None:
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.truncate(HUGE)


def _replaced(make: Callable[[Path], object]) -> Callable[[Path], object]:
    def replace(path: Path) -> None:
        path.unlink(missing_ok=True)
        make(path)

    return replace


SPECIAL: Final[dict[str, Callable[[Path], object]]] = {
    "a pipe": _replaced(os.mkfifo),
    "a folder": _replaced(Path.mkdir),
    "a link to a device": _replaced(lambda path: path.symlink_to("/dev/zero")),
    "a link to nothing": _replaced(lambda path: path.symlink_to("/none")),
    "a link to itself": _replaced(lambda path: path.symlink_to(path.name)),
    "missing": Path.unlink,
    "sparse": _sparse,
    "unreadable": lambda path: path.chmod(0),
}
EXTRA: Final = (".DS_Store", "._model.onnx", "Thumbs.db", ".nfs0001", "evil.py", "model.onnx.data", "a\nb", "x" * 200)


def _files(folder: Path, rng: Rng) -> Damaged:
    name, kind = _pick(rng, FILES), _pick(rng, list(SPECIAL))
    SPECIAL[kind](folder / name)
    return Damaged(f"{name}: {kind}", is_sealed=kind in {"missing", "a folder"})


def _extra_files(folder: Path, rng: Rng) -> Damaged:
    name, kind = _pick(rng, EXTRA), _pick(rng, ["text", "a pipe", "a folder", "a link to a device", "sparse"])
    (folder / name).write_bytes(b"text")
    if kind != "text":
        SPECIAL[kind](folder / name)
    return Damaged(f"one more file {name!r}: {kind}", is_sealed=kind == "text" and rng.random() < 0.5)


BOUND_GRAPH: Final = ", bound to the calibration"
BOUND_AGAIN: Final = 0.6
"""Share of cases whose binding of record and state is renewed too, so that it is not what finds them all."""

DAMAGE: Final[dict[str, tuple[Damage, int]]] = {
    "bytes of the graph": (_bytes_of_the_graph, 3),
    "bytes of the manifest": (_bytes_of(MANIFEST), 2),
    "bytes of the record": (_bytes_of(RECORD), 2),
    "bytes of the state": (_bytes_of(STATE), 3),
    "numbers of the graph": (_numbers_of_the_graph, 3),
    "numbers of the manifest": (_numbers_of_the_manifest, 3),
    "numbers of the record": (_numbers_of_the_record, 6),
    "numbers of the state": (_numbers_of_the_state, 7),
    "shapes of the state": (_shapes_of_the_state, 4),
    "keys of the state": (_keys_of_the_state, 2),
    "sizes of the state": (_sizes_of_the_state, 1),
    "structure of the graph": (_structure_of_the_graph, 4),
    "text of the manifest": (_text_of_the_manifest, 2),
    "lines of the manifest": (_lines_of_the_manifest, 2),
    "text of the record": (_text_of_the_record, 2),
    "keys of the record": (_keys_of_the_record, 2),
    "nesting of the manifest": (_nesting(MANIFEST), 1),
    "nesting of the record": (_nesting(RECORD), 1),
    "encoding of the manifest": (_encoding_of(MANIFEST), 1),
    "encoding of the record": (_encoding_of(RECORD), 1),
    "aliases": (_aliases, 2),
    "sums": (_sums, 2),
    "files": (_files, 2),
    "extra files": (_extra_files, 1),
}
"""By kind: the damage, and how often it is drawn against others."""

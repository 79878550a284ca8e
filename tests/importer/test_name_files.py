"""Files of names: their forms, and the refusals of those that are none."""

import json
from pathlib import Path
from typing import Any

import pytest

from service.errors import DataError
from service.importer.name_files import read_names

NAMES = ("shark, white", "b", "ç")


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".txt", "shark, white\nb\nç\n"),
        (".txt", "\ufeffshark, white\r\nb\r\nç"),
        (".txt", '"shark, white"\n"b"\nç\n\n \n'),
        (".json", json.dumps(NAMES)),
        (".json", json.dumps({"1": "b", "0": "shark, white", "2": "ç"})),
        (".json", json.dumps({"model_type": "vit", "id2label": {"0": "shark, white", "1": "b", "2": "ç"}})),
    ],
)
def test_names_are_read_in_their_order(suffix: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / f"names{suffix}"
    path.write_text(text, encoding="utf-8", newline="")
    assert read_names(path, "--classes-from") == NAMES


@pytest.mark.parametrize(
    ("suffix", "content", "reason"),
    [
        (".txt", b"a\nb\na\n", "'a' is there twice, as number 1 and number 3"),
        (".txt", b"a\n\nb\n", "name 2 is empty"),
        (".txt", b"0\ta\n1\tb\n", "name 1 holds a tab"),
        (".json", b'["a", "b\\u001b[31m"]', "name 2 holds a tab or another control character"),
        (".txt", b"", "holds no names"),
        (".txt", b"\xff\xfe", "is no UTF-8 text"),
        (".json", b"{", "is no JSON"),
        (".json", b'{"0": "a", "2": "b"}', "a list of names, or an object of indices"),
        (".json", b"[1, 2]", "a list of names"),
        (".json", b"3", "a list of names"),
    ],
)
def test_what_is_no_list_of_names_is_refused(suffix: str, content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / f"names{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"^--features-from: .*{reason}"):
        read_names(path, "--features-from")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing: Any = tmp_path / "none.txt"
    with pytest.raises(DataError, match="does not exist"):
        read_names(missing, "--classes-from")

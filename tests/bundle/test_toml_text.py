import time
import tomllib

import pytest

from service.bundle.toml_text import MOST_DEPTH, parse_toml
from service.bundle.wording import MOST_LETTERS
from service.errors import ManifestInvalid

MANY = 100_000

TOO_DEEP = {
    "brackets": f"a = {'[' * MANY}",
    "closed brackets": f"a = {'[' * MANY}{']' * MANY}",
    "inline tables": f"a = {'{a=' * MANY}",
    "a dotted key": f"{'.'.join('a' * MANY)} = 1",
    "a dotted key with blanks and quotes": f"{' . '.join(['a', chr(34) + 'b' + chr(34)] * MANY)} = 1",
    "a header": f"[{'.'.join('a' * MANY)}]",
    "a dotted key in an inline table": f"x = {{{'.'.join('a' * MANY)} = 1}}",
    "brackets after a string that looks closed": f'a = "\\"" \nb = {"[" * MANY}',
    "brackets after a text of several lines": f'a = """x""\\""""\nb = {"[" * MANY}',
    "one level more than is allowed": "[" * (MOST_DEPTH - 3) + f"a = {'[' * (MOST_DEPTH + 1)}",
}


@pytest.mark.parametrize("text", TOO_DEEP.values(), ids=TOO_DEEP)
def test_nesting_is_bounded_before_anything_is_parsed(text: str) -> None:
    started = time.process_time()
    with pytest.raises(ManifestInvalid, match=rf"^m\.toml is nested more than {MOST_DEPTH} deep$"):
        parse_toml(text, where="m.toml")
    assert time.process_time() - started < 2.0


@pytest.mark.parametrize(
    "text",
    [
        "[policies.p.labels.l.costs]\nact.absent = 1.5",
        f"a = {'[' * MOST_DEPTH}{']' * MOST_DEPTH}",
        "a = [\n" + "0.5,\n" * 1_000 + "]",
        f"a = '{'[' * 99}'",
        f'a = """{"[" * 99}"""',
        f"a = '''{'.' * 99}'''",
        f"# {'[' * 99}\na = 1 # {'.' * 99}",
        f'"{".[" * 99}" = 1',
        'a = "\\\\"\nb = """quoted "" twice"""\nc = \'\'\'\'one\'\'\'\'\nd = 1979-05-27T07:32:00.999',
    ],
)
def test_what_is_nested_as_manifests_are_is_read_as_toml_defines_it(text: str) -> None:
    assert parse_toml(text, where="m.toml") == tomllib.loads(text)


FAULTS = {
    "no TOML": "a: 1",
    "an integer of too many digits": f"a = {'9' * 5_000}",
    "a text that never ends": 'a = """' + '\\"""' * MANY + "\\",
    "texts of one line that never end": 'a = "\\"\n' * MANY,
    "the same key twice": "a = 1\na = 2",
    "a NUL": "a = 1\x00",
    "a long key twice": f"{'a' * MANY} = 1\n{'a' * MANY} = 2",
    "a table over a long key": f"{'a' * MANY} = {{}}\n[{'a' * MANY}.b]",
}


@pytest.mark.parametrize("text", FAULTS.values(), ids=FAULTS)
def test_what_is_no_toml_is_refused_in_one_short_line(text: str) -> None:
    started = time.process_time()
    with pytest.raises(ManifestInvalid, match=r"^m\.toml is not TOML: ") as caught:
        parse_toml(text, where="m.toml")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < MOST_LETTERS + 50
    assert time.process_time() - started < 2.0


def test_a_byte_order_mark_is_called_one() -> None:
    with pytest.raises(ManifestInvalid, match="byte order mark; save it as UTF-8 without one"):
        parse_toml("\ufeffa = 1", where="m.toml")

"""A damaged version whose sums were renewed is refused in one line, or answers as the sound one does: at every door."""

import resource
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest

from tests.bundle_fuzz.cases import Case, cases, prepare
from tests.bundle_fuzz.damage import DAMAGE
from tests.bundle_fuzz.harness import Found, failures, run, table
from tests.bundle_fuzz.sound import NAMES, difference, write_sound

DOORS = "tests.bundle_fuzz.doors"
WHOLE, SHORT = 2400, 60
TEMPERANCE = Path(sys.executable).with_name("temperance")
REFUSED = (
    Case("numbers of the state", "breast-cancer", 5),
    Case("nesting of the manifest", "breast-cancer", 1),
    Case("files", "letters", 1),
    Case("sizes of the state", "motion", 1),
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    write_sound(folder)
    return folder


def _shown(found: list[Found]) -> str:
    return "\n".join(map(str, found[:10]))


def test_no_damage_of_any_kind_gets_through(sound: Path) -> None:
    found = list(chain.from_iterable(run(SHORT, seed=3, folder=sound, doors=DOORS)))
    assert len({entry.case for entry in found}) == SHORT
    assert failures(found) == [], _shown(failures(found))
    assert {entry.kind for entry in found} == set(DAMAGE)


@pytest.mark.long
def test_thousands_of_damages_are_refused_or_harmless(sound: Path) -> None:
    found = list(chain.from_iterable(run(WHOLE, seed=0, folder=sound, doors=DOORS)))
    assert len({entry.case for entry in found}) == WHOLE
    assert failures(found) == [], table(found) + _shown(failures(found))


@pytest.mark.parametrize("kind", ["numbers of the state", "nesting of the manifest", "files", "sizes of the state"])
def test_the_commands_themselves_refuse_in_one_line(kind: str, sound: Path, tmp_path: Path) -> None:
    case = next(case for case in REFUSED if case.kind == kind)
    prepare(case, sound / "models", tmp_path / "models").publish()
    models = ["--models", str(tmp_path / "models")]
    for verb in (["verify", case.model], ["serve", "--port", "0"]):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        ended = subprocess.run(  # our own command
            [TEMPERANCE, *verb, *models], capture_output=True, text=True, timeout=300, check=False
        )
        assert ended.returncode != 0
        assert "Traceback" not in ended.stderr
        lines = [line for line in ended.stderr.splitlines() if str(tmp_path / "models" / case.model / "2") in line]
        assert len(lines) == 1
        assert len(lines[0]) <= 700  # the path of a temporary folder is long
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert after.ru_utime - before.ru_utime < 20


def test_a_case_is_the_same_whenever_it_is_made(sound: Path, tmp_path: Path) -> None:
    for case in cases(len(DAMAGE), seed=5):
        if case.kind in {"files", "extra files", "sums", "aliases"}:
            continue
        made = [prepare(case, sound / "models", tmp_path / part / case.model) for part in ("one", "two")]
        assert made[0].damaged == made[1].damaged
        for file in (made[0].folder / "2").iterdir():
            other = made[1].folder / "2" / file.name
            assert file.suffix == ".npz" or file.read_bytes() == other.read_bytes()
        shutil.rmtree(tmp_path / "one")
        shutil.rmtree(tmp_path / "two")


def test_all_kinds_and_models_are_drawn() -> None:
    drawn = cases(WHOLE)
    assert {case.kind for case in drawn} == set(DAMAGE)
    assert {case.model for case in drawn} == set(NAMES)
    assert len({(case.kind, case.model, case.number) for case in drawn}) == WHOLE


@pytest.mark.parametrize(
    ("one", "other", "place"),
    [
        ({"p": 0.5}, {"p": 0.5 + 1e-12}, None),
        ({"p": 0.5}, {"p": 0.5 + 1e-7}, ".p"),
        ({"p": 1}, {"p": True}, ".p"),
        ({"rows": [{"label": "a"}]}, {"rows": [{"label": "b"}]}, ".rows[0].label"),
        ({"p": 0.5}, {}, ".p"),
        ({"p": 0.5}, {"p": float("nan")}, ".p"),
        ({"p": 0.5, "digest": "a"}, {"p": 0.5, "digest": "b"}, None),
    ],
)
def test_answers_differ_where_any_member_does(one: object, other: object, place: str | None) -> None:
    found = difference(one, other)
    assert found is None if place is None else found is not None and found.startswith(f"{place}:")

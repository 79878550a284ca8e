"""Configurations that the service must not start with: each is refused before it listens, by the setting's name.

The line also says where the value came from. All of them run as processes, with one and with two workers, behind the
marker `long`; a few do so by default.
"""

import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from service.environment import Sources, read_settings
from service.errors import ServiceError
from service.main import _sockets, tls_of
from service.settings import PREFIX, Settings
from service.start_checks import check_settings
from tests.bad_configurations import BUNDLES, CANARY, FLAGS, KEYS, NO_KEY, SETTINGS, USAGE, listening
from tests.shipped_model import SHIPPED

SECONDS: Final = 5.0
FEWEST: Final = 150
SAMPLE: Final = frozenset(
    {
        "{'FOO': '1'}",
        "{'OTLP_ENDPOINT': 'http://collector:99999'}",
        "--host=",
        "--workers=0",
        "a flipped bit in the calibration",
        "a folder for a graph",
        "keys: a later schema",
        "a port in use",
    }
)
"""Titles of the configurations that run as processes by default."""
TEMPERANCE: Final = Path(sys.executable).with_name("temperance")


@dataclass(frozen=True)
class Case:
    """What a process is given, and what its one line holds."""

    title: str
    says: tuple[str, ...]
    flags: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()
    bundle: str | None = None
    keys: str | None = None
    code: int = 1


def cases() -> Iterator[Case]:
    for name, variables in SETTINGS:
        own = tuple((f"{PREFIX}{key}", value) for key, value in variables.items())
        yield Case(f"{variables}", (f"{PREFIX}{name}", "from the environment"), variables=own)
    for flags, says in FLAGS.items():
        yield Case(flags, says, tuple(flags.split()))
    for flags, option in USAGE.items():
        yield Case(flags, (option,), (flags,), code=2)
    for title in BUNDLES:
        yield Case(title, ("TEMPERANCE_MODELS", "from --models"), bundle=title)
    for title, content in KEYS.items():
        yield Case(f"keys: {title}", ("TEMPERANCE_KEYS from the environment",), keys=content)
    beyond = ("--host", "::")
    yield Case("keys: none, and open to others", ("no key in", "TEMPERANCE_HOST from --host"), beyond, keys=NO_KEY)
    yield Case("no credential", ("TEMPERANCE_HOST from --host", "TEMPERANCE_DATA from the environment"), beyond)
    yield Case("a port in use", ("TEMPERANCE_PORT from --port", "TEMPERANCE_HOST by default"), ("--port", "TAKEN"))
    yield Case(
        "a port in use, by a variable",
        ("TEMPERANCE_PORT from the environment",),
        variables=((f"{PREFIX}PORT", "TAKEN"),),
    )


CASES: Final = tuple(cases())


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith(PREFIX)]:
        monkeypatch.delenv(name)


def checked() -> None:
    """Everything that a start checks before it loads models."""
    sources = Sources.of_environment()
    settings = read_settings(sources)
    check_settings(settings, sources)
    with sources.named(*sources.variables):
        tls_of(settings)
    with _sockets(settings, sources) as sockets:
        for made in sockets:
            made.close()


def test_there_are_many_bad_configurations() -> None:
    assert len({case.title for case in CASES}) == len(CASES) >= FEWEST
    assert {case.title for case in CASES} >= SAMPLE
    assert {name for name, _ in SETTINGS} >= {name.upper() for name in Settings.model_fields}


@pytest.mark.parametrize(("name", "variables"), SETTINGS, ids=str)
def test_a_bad_configuration_is_refused_by_the_variables_name(
    name: str, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in variables.items():
        monkeypatch.setenv(f"{PREFIX}{variable}", value)
    with pytest.raises(ServiceError) as caught:
        checked()
    message = str(caught.value)
    assert f"{PREFIX}{name}" in message
    assert "from the environment" in message
    assert CANARY not in message
    assert "\n" not in message


@contextmanager
def made(case: Case, place: Path) -> Iterator[tuple[list[str], dict[str, str]]]:
    """The flags and variables of a case, once what they point at is there."""
    flags, variables = list(case.flags), dict(case.variables)
    variables = {f"{PREFIX}DATA": str(place / "data"), "TMPDIR": str(place), **variables}
    with ExitStack() as stack:
        if case.bundle is not None:
            flags += ["--models", str(_repository(case.bundle, place))]
        elif f"{PREFIX}MODELS" not in variables and "--models" not in case.title:
            flags += ["--models", str(SHIPPED)]
        if case.keys is not None:
            variables[f"{PREFIX}KEYS"] = str(place / "keys.json")
            (place / "keys.json").write_text(case.keys)
            (place / "keys.json").chmod(0o600)
        taken = str(stack.enter_context(listening()))
        yield (
            [flag.replace("TAKEN", taken) for flag in flags],
            {name: value.replace("TAKEN", taken) for name, value in variables.items()},
        )


def _repository(title: str, place: Path) -> Path:
    root = shutil.copytree(SHIPPED, place / "models", ignore=shutil.ignore_patterns("__pycache__"))
    BUNDLES[title](root / "breast-cancer")
    return root


@dataclass(frozen=True)
class Ended:
    """How a start ended."""

    seconds: float
    processor_seconds: float
    code: int
    lines: Sequence[str]
    listened: bool


def started(case: Case, place: Path, workers: int) -> Ended:
    """The end of a process; meanwhile its port is tried again and again."""
    place.mkdir()
    with made(case, place) as (flags, variables):
        chosen = not {"PORT", "UDS"} & {name.removeprefix(PREFIX) for name in variables}
        port = _free_port() if chosen and not any(word in case.title for word in ("port", "uds")) else None
        given = [*flags, *([] if port is None else ["--port", str(port)])]
        given += [] if "workers" in case.title.lower() else ["--workers", str(workers)]
        began, used_before = time.monotonic(), _used()
        with subprocess.Popen(
            [str(TEMPERANCE), "serve", *given],
            env={**os.environ, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=place,
        ) as process:
            listened = _listened(process, port)
            stdout, stderr = process.communicate(timeout=60)
        seconds, used = time.monotonic() - began, _used() - used_before
        return Ended(seconds, used, process.returncode, (stdout + stderr).splitlines(), listened)


def _used() -> float:
    # What ended processes have used: other programs on a busy machine do not count.
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listened(process: "subprocess.Popen[str]", port: int | None) -> bool:
    listened = False
    deadline = time.monotonic() + 60
    while process.poll() is None:
        assert time.monotonic() < deadline, "the process did not end"
        if port is not None:
            with socket.socket() as probe:
                listened = listened or probe.connect_ex(("127.0.0.1", port)) == 0
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    return listened


def check(case: Case, ended: Ended) -> None:
    line = ended.lines[-1]
    assert ended.code == case.code, (case.title, ended)
    assert all(said in line for said in case.says), (case.title, line)
    assert not ended.listened, case.title
    assert not any("listening on" in logged for logged in ended.lines), (case.title, ended.lines)
    assert not any("Traceback" in logged or CANARY in logged for logged in ended.lines), (case.title, ended.lines)
    assert ended.processor_seconds < SECONDS, (case.title, ended)
    if case.code == 1:
        assert line.startswith("temperance: "), (case.title, line)
        assert [logged for logged in ended.lines[:-1] if "INFO" not in logged and "WARNING" not in logged] == []


@pytest.mark.parametrize("case", [case for case in CASES if case.title in SAMPLE], ids=lambda case: case.title)
def test_a_process_with_a_bad_configuration_ends_at_once(case: Case, tmp_path: Path) -> None:
    check(case, started(case, tmp_path / "one", workers=2))


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
def test_every_process_with_a_bad_configuration_ends_within_five_seconds(
    workers: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ends = [(case, started(case, tmp_path / str(number), workers)) for number, case in enumerate(CASES)]
    seconds = sorted(ended.seconds for _, ended in ends)
    figures = {
        "workers": workers,
        "configurations": len(ends),
        "exit codes": sorted({ended.code for _, ended in ends}),
        "listened": sum(ended.listened for _, ended in ends),
        "median seconds": round(seconds[len(seconds) // 2], 2),
        "slowest seconds": round(seconds[-1], 2),
        "most processor seconds": round(max(ended.processor_seconds for _, ended in ends), 2),
    }
    with capsys.disabled():
        sys.stdout.write(f"\n{figures}\n")
    for case, ended in ends:
        check(case, ended)
    assert seconds[-1] < SECONDS  # on a quiet machine

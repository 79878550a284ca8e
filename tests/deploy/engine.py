"""A real Docker Engine for tests, and images that need no registry.

The engine is the one that DOCKER_HOST names or that runs at the usual place, else one that the tests start themselves.
`Docker` is its command line. `Engine` adds what tests build there: `base_image` gives what deploy/Dockerfile starts
from. Where no registry can be reached it is a stand-in, Debian with its own Python 3.11: results say so.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Final

ROOT: Final = Path(__file__).parents[2]
DOCKERFILE: Final = ROOT / "deploy" / "Dockerfile"
OFFICIAL: Final = "python:3.11-slim"
"""What deploy/Dockerfile starts from."""
OWN: Final = "temperance-tests"
"""Before the names of images that tests make."""
STAND_IN: Final = f"{OWN}/python:3.11-slim"
"""What tests start from where there is no registry."""
DEBIAN: Final = "bookworm"
"""The Debian whose Python is 3.11."""
PACKAGES: Final = ("ca-certificates", "python3", "python3-pip", "python3-venv", "netbase", "tzdata")
AUTHORITIES: Final = Path("/etc/ssl/certs/ca-certificates.crt")
START_SECONDS: Final = 60.0


class EngineMissing(Exception):
    """No engine can be reached or started, or no base image made; the text is the reason to skip a test."""


@dataclass(frozen=True, slots=True)
class Docker:
    """The command line of an engine.

    Attributes
    ----------
    program : str
        A `docker` that can build with BuildKit.
    host : str
        Address of the engine, as in DOCKER_HOST.
    """

    program: str
    host: str

    @property
    def environment(self) -> dict[str, str]:
        """For a program of its own, such as docker-compose."""
        return {**os.environ, "DOCKER_HOST": self.host, "DOCKER_BUILDKIT": "1", "BUILDKIT_PROGRESS": "plain"}

    def result(
        self, *arguments: str, timeout: float = 120.0, stdin: str | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """What a command printed and its exit code, whatever that is."""
        return subprocess.run(
            [self.program, *arguments],
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )

    def __call__(self, *arguments: str, timeout: float = 120.0, stdin: str | None = None) -> str:
        """What a command printed on standard output, without white space around it; it must succeed."""
        done = self.result(*arguments, timeout=timeout, stdin=stdin)
        assert done.returncode == 0, f"docker {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    def has(self, image: str) -> bool:
        """Whether the engine holds an image."""
        return self.result("image", "inspect", image).returncode == 0

    def build(
        self,
        tag: str,
        dockerfile: Path | str,
        *,
        context: Path | None = None,
        target: str | None = None,
        arguments: Mapping[str, str] | None = None,
    ) -> str:
        """Build an image and give its tag back.

        Parameters
        ----------
        tag : str
        dockerfile : Path or str
            A file, or the text of one.
        context : Path, optional
            None where nothing is copied from it.
        target : str, optional
            The stage; the last one by default.
        arguments : mapping of str to str, optional
        """
        options = [f"--build-arg={name}={value}" for name, value in (arguments or {}).items()]
        options += [] if target is None else [f"--target={target}"]
        # The host's network: a resolver that only the host can reach is one for the build too.
        command = ("build", "--network=host", f"--tag={tag}", *options)
        if isinstance(dockerfile, Path):
            self(*command, f"--file={dockerfile}", str(context), timeout=900)
        else:
            with _context(context) as folder:
                self(*command, "--file=-", str(folder), stdin=dockerfile, timeout=900)
        return tag

    @contextmanager
    def container(self, *arguments: str) -> Iterator[str]:
        """Id of a container that `docker run --detach` started with these arguments; removed at the end."""
        name = self("run", "--detach", *arguments)
        try:
            yield name
        finally:
            self("rm", "--force", "--volumes", name)


@contextmanager
def _context(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        yield folder
        return
    with tempfile.TemporaryDirectory() as empty:
        yield Path(empty)


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine and the images that tests make there.

    Attributes
    ----------
    docker : Docker
    base : str
        Image that deploy/Dockerfile starts from: the official one where it is at hand, else the stand-in.
    """

    docker: Docker
    base: str = field(default=OFFICIAL)

    @contextmanager
    def temperance(self, target: str = "serving", **arguments: str) -> Iterator[str]:
        """Tag of a stage of deploy/Dockerfile, built as it stands; what can be built again fast is kept, but no tag."""
        every = {"PYTHON_IMAGE": self.base, **arguments}
        tag = f"{OWN}/{target}:{token_hex(4)}"
        self.docker.build(tag, DOCKERFILE, context=ROOT, target=target, arguments=every)
        try:
            yield tag
        finally:
            self.docker("rmi", tag)

    @contextmanager
    def local_image(
        self, name: str, packages: Sequence[str], dockerfile: str = "", *, context: Path | None = None
    ) -> Iterator[str]:
        """Tag of an image of Debian packages, in the place of one that a registry has.

        Parameters
        ----------
        name : str
        packages : sequence of str
            Names in Debian.
        dockerfile : str
            What follows their installation.
        context : Path, optional
            Folder that it copies from.
        """
        install = f"apt-get update -qq && apt-get install -yqq --no-install-recommends {' '.join(packages)}"
        text = f"FROM {self.base}\nRUN {install} && rm -rf /var/lib/apt/lists/*\n{dockerfile}\n"
        tag = f"{OWN}/{name}:{token_hex(4)}"
        self.docker.build(tag, text, context=context)
        try:
            yield tag
        finally:
            self.docker("rmi", tag)


@contextmanager
def engine() -> Iterator[Engine]:
    """An engine with a base image: one that runs, else one that ends with the context.

    Raises
    ------
    EngineMissing
    """
    with _reached() as docker:
        yield Engine(docker, base_image(docker))


@contextmanager
def _reached() -> Iterator[Docker]:
    program = _client()
    usual = Docker(program, os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"))
    if usual.result("info").returncode == 0:
        yield usual
        return
    with _own_engine(program) as own:
        yield own


def _client() -> str:
    """A `docker` that can build: one that knows buildx, or one so old that BuildKit is part of it."""
    found = [Path(folder) / "docker" for folder in os.environ["PATH"].split(os.pathsep)]
    for program in (str(path) for path in found if os.access(path, os.X_OK)):
        if _prints(program, "buildx", "version") or _prints(program, "--version").startswith("Docker version 20."):
            return program
    raise EngineMissing("there is no docker that can build with BuildKit (apt-get install docker.io)")


def _prints(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout if done.returncode == 0 else ""


@contextmanager
def _own_engine(program: str) -> Iterator[Docker]:
    daemon = shutil.which("dockerd", path=f"{os.environ['PATH']}:/usr/sbin")
    if daemon is None or os.geteuid():
        raise EngineMissing(
            "no DOCKER_HOST, and only root with dockerd (apt-get install docker.io) can start an engine"
        )
    # A short path of its own: an address of a socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="engine-", ignore_cleanup_errors=True) as folder:
        host = f"unix://{folder}/docker.sock"
        command = [daemon, "--default-ulimit=nofile=4096:4096", f"--host={host}", f"--pidfile={folder}/pid"]
        command += [f"--data-root={folder}/data", f"--exec-root={folder}/exec"]
        with (Path(folder) / "log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield _answering(Docker(program, host), process, Path(folder) / "log")
        finally:
            process.terminate()
            process.wait(timeout=60)


def _answering(docker: Docker, process: "subprocess.Popen[bytes]", log: Path) -> Docker:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if docker.result("info").returncode == 0:
            return docker
        time.sleep(0.2)
    last = (log.read_text().splitlines() or ["it wrote nothing"])[-1]
    raise EngineMissing(f"dockerd does not start here: {last}")


def base_image(docker: Docker) -> str:
    """The image that deploy/Dockerfile starts from, or the stand-in for it.

    Raises
    ------
    EngineMissing
        If there is neither, nor a way to make one.
    """
    if docker.has(OFFICIAL) or docker.result("pull", "--quiet", OFFICIAL, timeout=300).returncode == 0:
        return OFFICIAL
    if not docker.has(STAND_IN):
        _import_stand_in(docker, _debian())
    return STAND_IN


def _debian() -> Path:
    """An archive of Debian's files; made once for an installation of Python, in which it is kept."""
    archive = Path(sys.prefix) / "containers" / f"{DEBIAN}.tar"
    if archive.exists():
        return archive
    if shutil.which("mmdebstrap") is None:
        raise EngineMissing(f"no registry has {OFFICIAL}, and mmdebstrap is missing (apt-get install mmdebstrap)")
    archive.parent.mkdir(exist_ok=True)
    part = archive.with_suffix(".part.tar")
    command = ["mmdebstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", DEBIAN, str(part)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        raise EngineMissing(f"mmdebstrap fails: {(done.stderr.splitlines() or ['it wrote nothing'])[-1]}")
    return part.rename(archive)


def _import_stand_in(docker: Docker, archive: Path) -> None:
    raw = f"{STAND_IN}-raw"
    docker("import", "--change", 'CMD ["bash"]', str(archive), raw, timeout=300)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copyfile(AUTHORITIES, Path(folder) / "authorities.crt")  # those of a proxy between here and PyPI too
        docker.build(STAND_IN, _STAND_IN_FILE.format(raw=raw), context=Path(folder))


_STAND_IN_FILE: Final = """\
FROM {raw}
COPY authorities.crt /etc/ssl/certs/ca-certificates.crt
RUN ln -s python3 /usr/bin/python && rm -f /usr/lib/python3*/EXTERNALLY-MANAGED
"""

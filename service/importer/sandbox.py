"""A child process in which graphs are loaded and run, so that a bad one cannot hang or harm the import.

Tested in tests/importer/test_refusals.py.
"""

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from service.errors import GraphError
from service.runtime.limited_process import (
    GIBIBYTE,
    OUT_OF_MEMORY,
    Ended,
    LimitedProcess,
    Limits,
    limited_process,
)

Arrays = dict[str, npt.NDArray[Any]]
MODULE: Final = "service.importer.sandbox_process"
PATIENCE: Final = 3
"""Times the seconds of a run that a load, or an operator that cannot be stopped, may take."""
LOCALE = re.compile(r"Failed to construct locale with name:([^:]+)")


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """Time and memory of a dry run.

    Attributes
    ----------
    seconds : float
        For one run. A load or an operator that cannot be stopped gets three times as much; then the child is killed.
    memory : int
        Bytes, beyond what Python itself has.
    """

    seconds: float = 20.0
    memory: int = 4 * GIBIBYTE


class Sandbox:
    """Runs graphs in a child process, which starts with the first of them; made by `sandbox`.

    Attributes
    ----------
    alone : bool
        Whether rows are run one by one, as they will be served.
    """

    def __init__(self, exits: ExitStack, path: Path, folder: Path, limits: SandboxLimits) -> None:
        self._exits = exits
        self._path = path
        self._folder = folder
        self._limits = limits
        self._process: LimitedProcess | None = None
        self.alone = False

    def run(
        self, graph: Path, outputs: Sequence[str], feeds: Sequence[Arrays], *, together: bool = False
    ) -> list[Arrays]:
        """Outputs of a graph, by name, for several sets of rows; ``together``: one batch each, even with `alone`.

        Raises
        ------
        GraphError
            If the graph cannot be loaded or run within the limits.
        """
        files = [self._folder / f"feeds-{i}.npz" for i in range(len(feeds))]
        for file, arrays in zip(files, feeds, strict=True):
            np.savez(file, allow_pickle=False, **arrays)
        answers = self._folder / "answers.npz"
        request: dict[str, object] = {
            "graph": str(graph),
            "outputs": list(outputs),
            "feeds": list(map(str, files)),
            "answers": str(answers),
            "alone": self.alone and not together,
            "seconds": self._limits.seconds,
        }
        self._send(request)
        with np.load(answers, allow_pickle=False) as stored:
            return [{name: stored[f"{n}.{i}"] for i, name in enumerate(outputs)} for n in range(len(feeds))]

    def _send(self, request: dict[str, object]) -> None:
        self._process = process = self._process or self._exits.enter_context(limited_process(MODULE))
        seconds = PATIENCE * self._limits.seconds
        try:
            error = process.answer(request, Limits(seconds, self._limits.memory)).get("error")
        except Ended as end:
            late = f"the dry run did not end within {seconds:g} s and was stopped; {_BOMB}"
            raise GraphError(late if end.late else f"{_DIED}, and {_BOMB}") from None
        if error is not None:
            raise GraphError(self._explain(error).replace(str(request["graph"]), str(self._path)))

    def _explain(self, error: str) -> str:
        if error == OUT_OF_MEMORY:
            return f"the dry run needs more than {self._limits.memory / GIBIBYTE:g} GiB of memory; {_BOMB}"
        if lacking := LOCALE.search(error):
            return (
                f"{self._path}: StringNormalizer needs the locale {lacking[1]!r}, which this machine lacks; export the "
                "model with the locale 'C' (skl2onnx: options={TfidfVectorizer: {'locale': 'C'}}), or install it"
            )
        return error


@contextmanager
def sandbox(path: Path, limits: SandboxLimits) -> Iterator[Sandbox]:
    """A child process for one file and its changed graphs; its files are removed afterwards."""
    with ExitStack() as exits:
        folder = exits.enter_context(tempfile.TemporaryDirectory(prefix="temperance-"))
        yield Sandbox(exits, path, Path(folder), limits)


_DIED: Final = "the dry run's process died; a file that crashes ONNX Runtime is not served"
_BOMB: Final = "look for a loop that does not end, or a tensor of absurd size, and export the model again"

"""Sessions of ONNX Runtime: typed arrays in, finite logits out, of the width that their number of classes has."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state

from service.bundle.sections import Graph
from service.core.numerics import Array, Indices
from service.errors import MOST_FAULTS, DeadlineExceeded, Fault, GraphError, ModelOutputInvalid
from service.runtime.device_batches import run_of
from service.runtime.limited_process import is_out_of_memory
from service.runtime.logits import to_features, to_logits
from service.runtime.providers import Execution, make_session, placement_of
from service.runtime.watchdog import WATCHDOG

DTYPES: Final[dict[str, str]] = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(int16)": "int16",
    "tensor(int8)": "int8",
    "tensor(uint64)": "uint64",
    "tensor(uint32)": "uint32",
    "tensor(uint16)": "uint16",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}
TEXT: Final = "tensor(string)"
ORT_ERRORS: Final = tuple(  # they share no ancestor but Exception
    kind for kind in vars(onnxruntime_pybind11_state).values() if isinstance(kind, type) and issubclass(kind, Exception)
)
SCORE_TYPES: Final = ("tensor(float)", "tensor(double)", "tensor(float16)")
LARGE_BYTES = 1 << 20  # of a batch; smaller ones leave the arena as it is, which is faster
NOT_COMPUTABLE: Final = "not-computable"

ON_CPU: Final = Execution()

Feeds = dict[str, npt.NDArray[Any]]
Tensors = list[npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output as the graph declares it; a dimension that varies is None."""

    name: str
    type: str
    shape: tuple[int | None, ...]


class Session:
    """A loaded graph.

    Parameters
    ----------
    path : Path
        The .onnx file; external data is looked for beside it.
    threads : int
        ONNX Runtime's threads within an operator. Small models are fastest with one.
    shared : bool
        Leave weights of external files where the kernel maps them, for all processes alike, in place of a copy that
        is packed for this one.
    alone : bool
        Run every row by itself.
    execution : Execution
        Provider that the graph runs on.

    Attributes
    ----------
    placement : Placement
        Where its operators run.
    batch : int or None
        How many rows the graph takes at a time; None for any number.

    Raises
    ------
    GraphError
        If ONNX Runtime refuses the file.
    SettingsInvalid
        If the provider cannot be loaded.
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int = 1,
        shared: bool = False,
        alone: bool = False,
        execution: Execution = ON_CPU,
    ) -> None:
        options = ort.SessionOptions()
        if shared:
            options.add_session_config_entry("session.disable_prepacking", "1")
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # what matters comes back as an exception
        try:
            made = make_session(str(path), options, execution)
        except ORT_ERRORS as error:
            raise _refused(path, execution, error) from None
        self._session, self.placement = made.session, placement_of(made, execution.provider)
        self.inputs = tuple(_tensor(node) for node in self._session.get_inputs())
        self.outputs = tuple(_tensor(node) for node in self._session.get_outputs())
        sizes = {tensor.shape[0] for tensor in self.inputs if tensor.shape} - {None}
        self.batch = sizes.pop() if len(sizes) == 1 else None
        self._alone = alone
        self._run = run_of(made)

    def run(self, output: str, feeds: Feeds, *, deadline: float | None = None) -> npt.NDArray[Any]:
        """One named output for arrays of the declared types; `run_several` for one name."""
        return self._tensors([output], feeds, deadline)[0]

    def run_several(self, outputs: Iterable[str], feeds: Feeds, *, deadline: float | None = None) -> Feeds:
        """Named outputs of one run, for arrays of the declared types.

        A graph of a fixed batch size runs as often as it must; the last batch is filled up with its last row again.
        Rows that are to run alone run one at a time, a fixed batch filled with the same row.

        Parameters
        ----------
        outputs : iterable of str
        feeds : dict of str to ndarray
        deadline : float, optional
            On the monotonic clock.

        Raises
        ------
        ModelOutputInvalid
            With a fault for every row that a node of the graph fails on; or if an output is no tensor.
        DeadlineExceeded
            If the run had to be ended.
        """
        names = list(dict.fromkeys(outputs))
        return dict(zip(names, self._tensors(names, feeds, deadline), strict=True))

    def _tensors(self, names: list[str], feeds: Feeds, deadline: float | None) -> Tensors:
        try:
            values = self._batches(names, feeds, deadline)
        except ORT_ERRORS as error:
            raise self._failure(names, feeds, deadline, error) from None
        if strange := [name for name, value in zip(names, values, strict=True) if not isinstance(value, np.ndarray)]:
            raise ModelOutputInvalid(f"output {strange[0]!r} is no tensor")
        return values

    def _batches(self, names: list[str], feeds: Feeds, deadline: float | None) -> Tensors:
        rows, size = _rows(feeds), self.batch
        if self._alone and (rows > 1 or size not in (None, 1)):
            return self._one_by_one(names, feeds, deadline)
        if size is None or size == rows:
            return self._once(names, feeds, deadline)
        taken = [np.minimum(np.arange(start, start + size), rows - 1) for start in range(0, rows, size)]
        parts = [self._once(names, {n: feed[chosen] for n, feed in feeds.items()}, deadline) for chosen in taken]
        if any(len(value) != size for part in parts for value in part):
            raise ModelOutputInvalid(f"an output has not one row for each of the {size} rows that the graph takes")
        return [np.concatenate(values)[:rows] for values in zip(*parts, strict=True)]

    def _one_by_one(self, names: list[str], feeds: Feeds, deadline: float | None) -> Tensors:
        parts = []
        for row in range(_rows(feeds)):
            own = {name: np.repeat(feed[row : row + 1], self.batch or 1, axis=0) for name, feed in feeds.items()}
            values = self._once(names, own, deadline)
            if any(len(value) != (self.batch or 1) for value in values):
                raise ModelOutputInvalid("an output has not one row for each row that the graph takes")
            parts.append([value[:1] for value in values])
        return [np.concatenate(values) for values in zip(*parts, strict=True)]

    def _once(self, names: list[str], feeds: Feeds, deadline: float | None) -> Tensors:
        options = _run_options(feeds, deadline)
        if options is None or deadline is None:
            return self._run(names, feeds, options)
        if deadline <= time.monotonic():
            raise DeadlineExceeded.in_the_queue()
        WATCHDOG.begin(options, deadline)
        try:
            return self._run(names, feeds, options)
        except ORT_ERRORS:
            if options.terminate:
                raise DeadlineExceeded("the graph did not end in time; send fewer rows at a time") from None
            raise
        finally:
            WATCHDOG.end(options)

    def _failure(self, names: list[str], feeds: Feeds, deadline: float | None, error: Exception) -> ModelOutputInvalid:
        if is_out_of_memory(str(error)):  # which is no row's fault
            return ModelOutputInvalid("the graph failed while running: Failed to allocate memory")
        guilty = list(islice(self._guilty(names, feeds, deadline, range(_rows(feeds))), MOST_FAULTS))
        if not guilty:
            return ModelOutputInvalid(f"the graph failed while running: {type(error).__name__}")
        detail = "the graph fails on this row: it holds something that the model has never seen"
        faults = [Fault(("instances", row), NOT_COMPUTABLE, detail) for row in guilty]
        return ModelOutputInvalid(f"the graph failed while running: {type(error).__name__} (row {guilty[0]})", faults)

    def _guilty(self, names: list[str], feeds: Feeds, deadline: float | None, rows: range) -> Iterator[int]:
        """Rows that fail alone, found by halves: one among n costs some 2 log n runs."""
        try:
            self._batches(names, {name: feed[rows.start : rows.stop] for name, feed in feeds.items()}, deadline)
        except ORT_ERRORS:
            if len(rows) == 1:
                yield rows.start
                return
            half = len(rows) // 2
            yield from self._guilty(names, feeds, deadline, rows[:half])
            yield from self._guilty(names, feeds, deadline, rows[half:])

    def probe(self, outputs: Sequence[str], feeds: Feeds, *, seconds: float) -> list[npt.NDArray[Any]]:
        """Some named outputs for synthetic rows, within a time limit; errors carry ONNX Runtime's message.

        Raises
        ------
        GraphError
            If a node fails, an output is no tensor, or the limit is reached: the run then ends at the next node.
        """
        options = ort.RunOptions()
        options.log_severity_level = 4
        WATCHDOG.begin(options, time.monotonic() + seconds)
        try:
            values = self._session.run(list(outputs), feeds, options)
        except ORT_ERRORS as error:
            reason = f"it does not end within {seconds:g} s" if options.terminate else first_line(error)
            raise GraphError(f"the graph fails on synthetic rows: {reason}") from None
        finally:
            WATCHDOG.end(options)
        if strange := [name for name, value in zip(outputs, values, strict=True) if not isinstance(value, np.ndarray)]:
            raise GraphError(f"output {strange[0]!r} is no tensor")
        return list(values)

    def logits(
        self, graph: Graph, feeds: Feeds, *, lengths: Indices | None = None, deadline: float | None = None
    ) -> Array:
        """Finite raw logits of every row from an output of the declared kind; `logits.to_logits` gives their shape.

        Raises
        ------
        ModelOutputInvalid
            With a fault for every row whose output is not finite, or no probabilities where they are declared; or
            if there is not one answer for every row.
        """
        logits = to_logits(self.run(graph.output, feeds, deadline=deadline), graph, lengths=lengths)
        return _one_for_each_row(logits, graph.output, feeds)

    def logits_and_features(
        self,
        graph: Graph,
        tensor: str,
        feeds: Feeds,
        *,
        lengths: Indices | None = None,
        deadline: float | None = None,
    ) -> tuple[Array, Array]:
        """`logits`, and the finite rows, shape (N, D), of another output, both from one run."""
        values = self.run_several((graph.output, tensor), feeds, deadline=deadline)
        logits = _one_for_each_row(to_logits(values[graph.output], graph, lengths=lengths), graph.output, feeds)
        return logits, _one_for_each_row(to_features(values[tensor], tensor), tensor, feeds)


def _refused(path: Path, execution: Execution, error: Exception) -> GraphError:
    if execution.provider == "cpu":
        return GraphError(f"{path} cannot be loaded by ONNX Runtime: {first_line(error)}")
    return GraphError(
        f'{path} cannot be run by {execution.provider} ({last_line(error)}); run this model on cpu: provider = "cpu" '
        "under [models.NAME.runtime] of the file that TEMPERANCE_DEPLOYMENT names"
    )


def _rows(feeds: Feeds) -> int:
    return len(next(iter(feeds.values())))


def _run_options(feeds: Feeds, deadline: float | None) -> ort.RunOptions | None:
    large = sum(feed.nbytes for feed in feeds.values()) >= LARGE_BYTES
    if deadline is None and not large:
        return None
    options = ort.RunOptions()
    options.log_severity_level = 4
    if large:  # or what one huge batch needed would be held for ever
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def first_line(error: Exception) -> str:
    """ONNX Runtime's message without its source locations and repetitions."""
    text = str(error).strip().splitlines() or [type(error).__name__]
    return text[0].removeprefix("[ONNXRuntimeError] : ")[:300]


def last_line(error: Exception) -> str:
    """The reason that a provider's library gives below its places in the source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1].removeprefix("[ONNXRuntimeError] : ")[:300]


def _one_for_each_row(values: Array, name: str, feeds: Feeds) -> Array:
    rows = _rows(feeds)
    if len(values) != rows:
        raise ModelOutputInvalid(f"output {name!r} has {len(values)} rows for {rows}")
    return values


def _tensor(node: ort.NodeArg) -> Tensor:
    return Tensor(node.name, node.type, tuple(d if isinstance(d, int) else None for d in node.shape))

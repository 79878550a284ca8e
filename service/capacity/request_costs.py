"""What requests to a model cost a process of the service, and the file that keeps it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from service.errors import ServiceError
from service.prediction.queue import QUIET_ITERATIONS

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class CapacityError(ServiceError):
    """Costs that cannot be read or measured, or a goal that no number of processes reaches."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Of requests of one size to one model; times in seconds, on the processor where they were measured.

    Attributes
    ----------
    rows : int
        Rows in a request.
    request_seconds : float
        Of the event loop for a request, beside its rows and its run: connection, parsing, record, answer.
    row_seconds : float
        The same for each of its rows.
    turn_seconds, joint_turn_seconds : float
        Of the event loop around a run, whatever it joins: for one request, and for several, which take more turns.
    run_seconds, run_row_seconds : float
        A run of the graph with its calibration: the fixed part, and that of every row; as `runtime.timing.RunTime`.
    commit_seconds, commit_record_seconds : float
        Until a group of records is durable: the fixed part, and that of every record. Zeros: answers wait for none.
    commit_processor_seconds, record_processor_seconds : float
        Processor time of the thread that commits, for a group and for every record in it.
    commit_contention_seconds : float
        That a group takes longer while the event loop works all the time: its thread waits for the interpreter.
    transport_seconds : float
        From the client to the service and back; it delays every request and occupies no process.
    request_bytes, response_bytes : float
        On the network, with the headers of HTTP.
    record_bytes : float
        In the store.
    process_bytes : float
        Memory of a process with all models that it serves, its share of what processes share.
    batch_rows : int
        Most rows of a joint run, the manifest's ``[runtime] batch_rows``.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    rows: Count = 1
    request_seconds: Amount = 0.0
    row_seconds: Amount = 0.0
    turn_seconds: Amount = 0.0
    joint_turn_seconds: Amount = 0.0
    run_seconds: Amount = 0.0
    run_row_seconds: Amount = 0.0
    commit_seconds: Amount = 0.0
    commit_record_seconds: Amount = 0.0
    commit_processor_seconds: Amount = 0.0
    record_processor_seconds: Amount = 0.0
    commit_contention_seconds: Amount = 0.0
    transport_seconds: Amount = 0.0
    request_bytes: Amount = 0.0
    response_bytes: Amount = 0.0
    record_bytes: Amount = 0.0
    process_bytes: Amount = 0.0
    batch_rows: Count = 1024

    @property
    def handling_seconds(self) -> float:
        """Of one request on the event loop: reading it and writing its answer."""
        return self.request_seconds + self.rows * self.row_seconds

    @property
    def is_recorded(self) -> bool:
        """Whether an answer waits until its record is durable."""
        return self.commit_seconds + self.commit_record_seconds > 0.0

    @property
    def alone_seconds(self) -> float:
        """Latency of a request that meets no other."""
        return (
            self.handling_seconds
            + self.turn_seconds
            + self.run_of(self.rows)
            + max(self.commit_of(1), self.commit_interpreter_of(1))
            + self.transport_seconds
        )

    def commit_of(self, records: int) -> float:
        """Seconds until a group of so many records is durable, on a process that does nothing else."""
        return self.commit_seconds + records * self.commit_record_seconds

    def commit_interpreter_of(self, records: int) -> float:
        """Seconds of these in which the event loop waits: the thread that commits computes."""
        return self.commit_processor_seconds + records * self.record_processor_seconds

    def run_of(self, rows: int) -> float:
        """Seconds that a run of so many rows takes."""
        return self.run_seconds + rows * self.run_row_seconds

    @property
    def gather_seconds(self) -> float:
        """Of one more turn of the event loop: a joint run has the quiet ones, and one that wakes those who wait."""
        return max(0.0, self.joint_turn_seconds - self.turn_seconds) / (QUIET_ITERATIONS + 1)

    def turn_of(self, requests: int) -> float:
        """Of the event loop around a run for so many requests, beside the quiet turns."""
        if requests == 1:
            return self.turn_seconds
        return self.joint_turn_seconds - QUIET_ITERATIONS * self.gather_seconds


NAMES: Final = tuple(field.name for field in fields(Costs))
_SCHEMA: Final = TypeAdapter(Costs)


def read_costs(path: Path) -> Costs:
    """Costs that `write_costs` wrote, or that were typed.

    Raises
    ------
    CapacityError
    OSError
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise CapacityError(f"{path}: no JSON; `temperance capacity measure` writes such a file") from None
    if not isinstance(values, dict):
        raise CapacityError(f"{path}: no JSON object of costs")
    return _checked(values, place=f"{path}: ")


def write_costs(costs: Costs, path: Path) -> None:
    """Write a file that `read_costs` reads."""
    path.write_text(json.dumps(asdict(costs), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def with_values(costs: Costs, texts: Sequence[str]) -> Costs:
    """The same costs but for some of them, each given as ``NAME=NUMBER``.

    Raises
    ------
    CapacityError
    """
    values = dict(text.partition("=")[::2] for text in texts)
    return _checked(asdict(costs) | values)


def _checked(values: Mapping[str, Any], *, place: str = "") -> Costs:
    try:
        return _SCHEMA.validate_python(values)
    except ValidationError as error:
        name = error.errors()[0]["loc"][0]
        if name not in NAMES:
            raise CapacityError(f"{place}there is no such cost; the costs are {', '.join(NAMES)}") from None
        raise CapacityError(f"{place}{name} must be a number of at least {1 if name in WHOLE else 0}") from None


WHOLE: Final = ("rows", "batch_rows")

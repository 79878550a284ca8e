"""Records written for other programs: Parquet, JSON Lines, and the two tables of Epic's seismometer.

Tested in tests/cli/test_audit_export_command.py.

References
----------
epic-open-source/seismometer: ``usage_config.yml`` names the columns of a table of predictions and one of events.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import orjson

from service.errors import DataError
from service.monitoring.record_table import AnsweredRow, plain_columns, time_of
from service.prediction.record_rows import Row, flat_columns

Rows = Iterable[AnsweredRow]


def export(rows: Rows, format_name: str, out: Path) -> int:
    """Write rows in a format of `FORMATS`; how many there were.

    Raises
    ------
    DataError
        If the format cannot hold them.
    OSError
    """
    return FORMATS[format_name](rows, out)


def _columns(row: AnsweredRow) -> Row:
    return plain_columns(row) | dict(flat_columns(row.members))


def _jsonl(rows: Rows, out: Path) -> int:
    count = 0
    with out.open("xb") as file:
        for row in rows:
            line = plain_columns(row) | row.members
            file.write(orjson.dumps(line, option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE))
            count += 1
    return count


def _parquet(rows: Rows, out: Path) -> int:
    found: dict[bytes, list[Row]] = defaultdict(list)
    tasks: set[str] = set()
    for row in rows:
        found[row.context.digest].append(_columns(row))
        tasks.add(row.context.task)
    if "sequence" in tasks and len(tasks) > 1:
        raise DataError("a table cannot hold sequences beside other models: name a model with --model, or write jsonl")
    return _write(list(found.values()), out)


def _write(tables: list[list[Row]], out: Path) -> int:
    import polars as pl  # noqa: PLC0415  # serving never imports it

    frames = [pl.DataFrame(table, infer_schema_length=None) for table in tables]
    frame = pl.concat(frames, how="diagonal_relaxed") if frames else pl.DataFrame()
    with out.open("xb") as file:
        frame.write_parquet(file)
    return len(frame)


def _seismometer(rows: Rows, out: Path) -> int:
    """A folder: two tables and the three files that describe them. JSON is YAML, so no library is needed."""
    found = list(rows)
    if any(row.context.task == "sequence" for row in found):
        raise DataError("seismometer's tables have one score for a row; a sequence has one for every position")
    if len({row.context.model for row in found}) != 1:
        raise DataError("seismometer's tables are of one model: name it with --model, and a time that has answers")
    scores = list(dict.fromkeys(name for row in found for name in _probabilities(row)))
    if not scores:
        raise DataError("these answers have no probabilities, and seismometer needs scores")
    out.mkdir()
    (out / "data").mkdir()
    count = _write([[_prediction(row, scores) for row in found]], out / "data" / "predictions.parquet")
    events = [event for row in found for event in _events(row)]
    _write([events or [_event("", "", "", None, None)]], out / "data" / "events.parquet")
    for name, content in _descriptions(scores).items():
        (out / name).write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))
    return count


def _prediction(row: AnsweredRow, scores: list[str]) -> Row:
    members = row.members
    probabilities = _probabilities(row)
    named = {_score(name): probabilities.get(name) for name in scores}
    actions = {path: value for path, value in members.items() if path.endswith(".action") and "overridden" not in path}
    own = {"entity_id": row.entity, "prediction_id": row.prediction_id, "ScoringTime": _naive(row.created)}
    return {**own, **named, "flagged": members.get("ood.flagged"), "site": row.context.site, **actions}


def _events(row: AnsweredRow) -> Iterator[Row]:
    last = row.outcome
    if last is not None:
        for name, value in _truths(orjson.loads(last.truth), row).items():
            yield _event(row.entity, row.prediction_id, _target(name), time_of(last.observed_at), value)


def _truths(truth: Any, row: AnsweredRow) -> dict[str, int]:
    if isinstance(truth, dict):
        return {name: int(state) for name, state in truth.items() if state is not None}
    return {name: int(name == truth) for name in _probabilities(row)}


def _probabilities(row: AnsweredRow) -> dict[str, float | None]:
    found: dict[str, float | None] = row.members.get("probabilities") or {}
    return found


def _event(entity: str, prediction_id: str, kind: str, when: datetime | None, value: int | None) -> Row:
    time = None if when is None else _naive(when)
    return {"entity_id": entity, "prediction_id": prediction_id, "Type": kind, "EventTime": time, "Value": value}


def _naive(when: datetime) -> datetime:
    return when.replace(tzinfo=None)  # UTC: pandas compares times without a zone


def _score(name: str) -> str:
    return f"probability_{name}"


def _target(name: str) -> str:
    return f"is_{name}"


def _descriptions(scores: list[str]) -> dict[str, Any]:
    last = scores[-1]
    usage = {
        "entity_id": "entity_id",
        "context_id": "prediction_id",
        "primary_output": _score(last),
        "primary_target": _target(last),
        "predict_time": "ScoringTime",
        "outputs": [_score(name) for name in scores],
        "cohorts": [{"source": "site", "display_name": "Site"}],
        "event_table": {"type": "Type", "time": "EventTime", "value": "Value"},
        "events": [
            {"source": _target(name), "display_name": _target(name), "usage": "target", "combine_strategy": "max"}
            for name in scores
        ],
        "censor_min_count": 20,
    }
    return {"usage_config.yml": {"data_usage": usage}, "config.yml": CONFIG, "data_dictionary.yml": _dictionary(scores)}


def _dictionary(scores: list[str]) -> dict[str, Any]:
    named = [("entity_id", "object"), ("prediction_id", "object"), ("ScoringTime", "datetime64[ns]")]
    named += [(_score(name), "float64") for name in scores]
    return {
        "predictions": [{"name": name, "dtype": dtype, "definition": name} for name, dtype in named],
        "events": [{"name": _target(name), "dtype": "int64", "definition": _target(name)} for name in scores],
    }


CONFIG: Final = {
    "other_info": {
        "usage_config": "usage_config.yml",
        "template": "binary",
        "info_dir": "outputs",
        "event_definition": "data_dictionary.yml",
        "prediction_definition": "data_dictionary.yml",
        "data_dir": "data",
        "event_path": "events.parquet",
        "prediction_path": "predictions.parquet",
    }
}
FORMATS: Final[dict[str, Callable[[Rows, Path], int]]] = {
    "parquet": _parquet,
    "jsonl": _jsonl,
    "seismometer": _seismometer,
}

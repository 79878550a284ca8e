"""`temperance audit show`: one answer with everything it rested on, and its action computed again.

Tested in tests/cli/test_audit_show_command.py.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Any, Final

import click
import orjson

from service.api.v1.recorded_prediction import recorded_prediction
from service.cli.arguments import json_flag
from service.cli.audit_options import opened, place_options, settings_of
from service.cli.console import print_json
from service.prediction.record_reader import Recorded, read_records
from service.prediction.record_recomputation import differences, recomputed
from service.prediction.record_rows import rows_of
from service.record_errors import StoreDamaged
from service.record_places import secrets_path
from service.settings import Settings
from service.store.engine import Store
from service.store.seals import Seals
from service.store.secrets import Secrets

Json = dict[str, Any]


@click.command()
@click.argument("prediction_id")
@place_options("data", "store", "secrets")
@json_flag
def show(prediction_id: str, *, as_json: bool, **flags: Any) -> None:
    """Print one answer with everything it rested on, and compute its action again."""
    settings = settings_of(flags)
    with opened(settings) as store:
        found = shown(store, prediction_id, _seals(settings))
    if as_json:
        print_json(found)
    else:
        for line in _lines(found):
            click.echo(line)
    if found["recomputed"]["agrees"] is False:
        raise StoreDamaged("the recorded action is not the one that the recorded logits and costs give")


def shown(store: Store, prediction_id: str, seals: Seals | None) -> Json:
    """The record of an answer, its values, its clear text where it can be read, and what its action is now.

    Raises
    ------
    PredictionNotFound, StoreUnavailable, StoreDamaged
    """
    common = recorded_prediction(store, prediction_id, lambda _: True)
    request_id, _, place = prediction_id.partition(".")
    recorded = _recorded(store, request_id)
    row = int(place) if place else None
    texts = _texts(store, request_id, seals)
    answer = common.pop("columns", None)
    return {
        **common,
        "answer": answer if recorded is None or row is not None else rows_of(recorded),
        "recomputed": _recomputed(recorded, common["basis"]),
        "clear_text": texts if row is None else texts.get(str(row), {}),
    }


def _recorded(store: Store, request_id: str) -> Recorded | None:
    entry = store.prediction(request_id)
    context = None if entry is None else store.context(entry.context)
    schema = None if context is None or context.schema is None else store.document(context.schema)
    return None if entry is None or schema is None or not entry.columns else read_records([entry], schema)


def _recomputed(recorded: Recorded | None, basis: Json) -> Json:
    if recorded is None:
        return {"agrees": None, "reason": "the record has no columns", "differs": []}
    found = recomputed(recorded, basis)
    other = differences(recorded, found)
    return {"agrees": None if found.reason else not other, "reason": found.reason, "differs": other}


def _texts(store: Store, request_id: str, seals: Seals | None) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    if seals is not None:
        readable = seals.readable(store.sealed_of(request_id), store.subject_keys(request_id))
        for (row, kind), text in readable.items():
            found.setdefault(str(row), {})[kind] = text
    return found


def _seals(settings: Settings) -> Seals | None:
    path = secrets_path(settings)
    return Seals(Secrets.read(path)) if path.exists() else None


def _lines(found: Json) -> list[str]:
    again = found["recomputed"]
    state = {True: "agrees", False: f"differs in {', '.join(again['differs'])}", None: again["reason"]}[again["agrees"]]
    shown_members = [name for name in ORDER if found.get(name) not in (None, {}, [])]
    return [*chain.from_iterable(_member(name, found[name]) for name in shown_members), f"recomputed: {state}"]


def _member(name: str, value: object, depth: int = 0) -> Iterator[str]:
    start = f"{'  ' * depth}{name}:"
    if isinstance(value, dict) and value and not all(flag is False for flag in value.values()):
        yield start
        for key, inner in value.items():
            yield from _member(key, inner, depth + 1)
    else:
        yield f"{start} {_text(value)}"


def _text(value: object) -> str:
    if isinstance(value, dict):
        return "none"
    return value if isinstance(value, str) else orjson.dumps(value).decode()


ORDER: Final = (
    "prediction_id", "id", "created", "caller", "x_request_id", "traceparent", "shadow_of", "rows", "latency_seconds",
    "model", "version", "verb", "task", "digest", "graph_digest", "calibration_digest", "policy", "site", "prevalence",
    "options", "software", "key_id", "row_digest", "id_token", "subject_token", "group_token", "clear_text", "place",
    "basis_digest", "basis", "answer", "outcome", "outcomes",
)  # fmt: skip
"""Members in the order in which they are printed."""

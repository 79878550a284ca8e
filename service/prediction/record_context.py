"""What the records of a query have in common: who answered, under which options.

Tested in tests/prediction/test_records.py.
"""

import platform
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import version

from service.bundle.record import RECORD_FILE
from service.core.pipeline import Policy
from service.prediction.answer_member import Json
from service.prediction.header import shares
from service.prediction.query import Query
from service.prediction.record_basis import json_values
from service.runtime.model import Model
from service.runtime.provider_packages import runtime_release
from service.store.canonical import context_digest
from service.store.entries import Context

NO_DIGEST = b""
BY_ROW = "by row"
SOFTWARE = ("temperance", "numpy")


def context_of(
    query: Query,
    *,
    verb: str,
    software: str,
    kept: int | None,
    schema: bytes | None,
    basis: bytes,
    shadow_of: int | None,
) -> Context:
    """The context of a query's records; arguments as its attributes, ``kept`` as `Layout.kept`."""
    model, site = query.model, query.options.site
    bare = Context(
        NO_DIGEST,
        verb,
        model.name,
        model.bundle.version or 0,
        model.bundle.digest or "",
        f"sha256:{model.bundle.graph_sha256}",
        _calibration_digest(model),
        _policy_name(query.stages.chosen),
        site if isinstance(site, str) else None,
        _prevalence(query),
        json_values(_options(query, kept)),
        software,
        model.task,
        schema,
        basis,
        shadow_of,
    )
    return replace(bare, digest=context_digest(bare))


@cache
def software() -> str:
    """Versions of the software that answers, as a context holds them."""
    versions = (
        {"python": platform.python_version()}
        | {name: version(name) for name in SOFTWARE}
        | {"onnxruntime": runtime_release()}
    )
    return json_values(versions)


def _calibration_digest(model: Model) -> str:
    found = model.bundle.sums.get(RECORD_FILE)
    return "" if found is None else f"sha256:{found}"


def _policy_name(chosen: Sequence[Policy]) -> str | None:
    names = {policy.name for policy in chosen}
    return names.pop() if len(names) == 1 else None


def _prevalence(query: Query) -> str | None:
    found = shares(query.model, query.target)
    return json_values(found) if isinstance(found, dict) else None


def _options(query: Query, kept: int | None) -> Json:
    """Options that were requested; costs are in the basis, and what varies by row is a column."""
    options = query.options
    requested = {
        "decide": options.decide or None,
        "coverage": options.coverage,
        "fdr": options.fdr,
        "session": None if options.session is None else {"false_alarms_per_1000_steps": options.session.per_thousand},
        "smoother": query.stages.smoother,
        "strength": options.strength if query.stages.smoother == "jsd" else None,
        "switch": options.switch,
        "top_k": options.top_k,
        "policy": BY_ROW if isinstance(options.policy, tuple) else None,
        "site": BY_ROW if isinstance(options.site, tuple) else None,
        "prevalence": BY_ROW if isinstance(options.prevalence, tuple) else None,
        "kept_classes": kept,
    }
    return {name: value for name, value in requested.items() if value is not None}

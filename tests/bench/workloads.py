"""Every kind of request that a client may send, in groups that are compared with the plain rows of the same model."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from service.bundle.manifest import MANIFEST_FILE, parse_manifest
from tests.bench import task_models, tensors
from tests.bench.servers import ROOT
from tests.bench.shipped import DECIDE, INFER, breast_rows
from tests.bench.synthetic import Network
from tests.bench.wrk import JSON, Request

FIVE: Final = Network("five", (30, 64, 5), actions=5, rows=1000)
SHIPPED: Final = ROOT / "models/breast-cancer/1"
MANY: Final = 256
OF_PLAIN_ROWS: Final = 0.7
COLUMNS_OF_BARE: Final = 4.0
TASKS_OF_BEFORE: Final = 3.0
PLAIN_ROWS_OF_BEFORE: Final = 0.95
P50_OF_FLOOR: Final = 4.0
BUSY: Final = 64
"""Connections at which most targets hold."""


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of request, and what is required of it.

    Attributes
    ----------
    name : str
    request : Request
    baseline : Request or None
        What both baselines get: plain rows of the same number; None where they cannot answer the model.
    of_plain_rows, of_bare, of_before : float or None
        Least ratio of requests per second to plain rows on the same server, to the bare baseline, and to the other
        checkout.
    """

    name: str
    request: Request
    baseline: Request | None = None
    of_plain_rows: float | None = None
    of_bare: float | None = None
    of_before: float | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Workloads of one model; the first holds plain rows, and every round measures all of them.

    Attributes
    ----------
    title : str
    workloads : sequence of Workload
    connections : tuple of int
    bundle : Path or None
        What the baselines read; None: there are none.
    targets_at : int
        Connections at which the targets hold; that of plain rows beside baselines holds at all.
    """

    title: str
    workloads: Sequence[Workload]
    connections: tuple[int, ...]
    bundle: Path | None = None
    targets_at: int = BUSY


def groups(models: Path) -> list[Group]:
    """All of them, over the repository where `FIVE` and `task_models` were published."""
    return [
        Group("1 row", _single_rows(), (1, 8, BUSY), SHIPPED),
        Group("256 rows", _many_rows(), (8,), models / FIVE.name / "1", targets_at=8),
        *(Group(name, [work], (1, 8, BUSY)) for name, work in _other_tasks()),
    ]


def decide(rows: Sequence[Any], path: str = DECIDE, **parameters: Any) -> Request:
    """Rows of a JSON body, with parameters where there are any."""
    document = {"instances": rows, **({"parameters": parameters} if parameters else {})}
    return Request(path, json.dumps(document).encode(), JSON)


def _single_rows() -> list[Workload]:
    row = breast_rows(1)
    features: Sequence[str] = (
        parse_manifest((SHIPPED / MANIFEST_FILE).read_text(encoding="utf-8")).inputs[0].features or []
    )
    plain, predict = decide(row), decide(row, DECIDE.replace("decide", "predict"))
    options: dict[str, Request] = {
        "ids": decide(row, ids=["row-1"]),
        "top_k": decide(row, top_k=1),
        "layout columns": decide(row, layout="columns"),
        "coverage": decide(row, coverage=0.9),
        "row objects": decide([dict(zip(features, row[0], strict=True))]),
        "policy by name": decide(row, policy="biopsy"),
        "site by name": decide(row, site="screening"),
    }
    return [
        Workload("plain rows", plain, plain, of_before=PLAIN_ROWS_OF_BEFORE),
        *(Workload(name, one, plain, of_plain_rows=OF_PLAIN_ROWS) for name, one in options.items()),
        Workload("detect", decide(row, DECIDE.replace("decide", "detect")), plain),
        Workload("predict", predict, predict),
        Workload("/v2 JSON", tensors.flat(INFER, row), plain),
        Workload("/v2 binary", tensors.binary(INFER, row), plain),
    ]


def _many_rows() -> list[Workload]:
    plain, infer = FIVE.request("decide", MANY), f"/v2/models/{FIVE.name}/infer"
    binary = tensors.binary(infer, FIVE.sample(MANY, seed=FIVE.seed + 4).tolist())
    columns = FIVE.request("decide", MANY, layout="columns")
    return [
        Workload("plain rows", plain, plain),
        Workload("layout columns", columns, plain, of_bare=COLUMNS_OF_BARE),
        Workload("/v2 binary", binary, plain),
    ]


def _other_tasks() -> list[tuple[str, Workload]]:
    rows = {
        task_models.MULTILABEL: (task_models.multilabel_row(), TASKS_OF_BEFORE),
        task_models.TEXT: (task_models.text_row(), TASKS_OF_BEFORE),
        task_models.SEQUENCE: (task_models.sequence_row(), None),
    }
    titles = {task_models.MULTILABEL: "multilabel", task_models.TEXT: "text", task_models.SEQUENCE: "sequence"}
    return [
        (titles[name], Workload("plain rows", decide([row], f"/v1/models/{name}:decide"), of_before=target))
        for name, (row, target) in rows.items()
    ]

"""A calibrated model of every task, and every kind of request that each can answer."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from service.api.encoders.encoder import encoder_of
from service.api.v1.verbs import VERBS
from service.bundle.repository import Repository
from service.bundle.writer import create_draft
from service.core.pipeline import Policy
from service.core.trajectory import State
from service.fitting.fit import FitRequest, fit
from service.fitting.publish import publish_draft
from service.prediction.answer import Answer, Part
from service.prediction.options import FROM_REQUEST, Options
from service.prediction.query import Query
from service.prediction.sessions import Session, monitor_of
from service.runtime.model import Model
from service.runtime.registry import Registry, load_registry
from tests.tasks.conftest import (
    draw_labels,
    draw_sequences,
    label_draft,
    save_graph,
    sequence_draft,
)

Json = dict[str, Any]
CREATED = datetime(2026, 1, 1, 12, tzinfo=UTC)
ROWS = 12
IDS = [f'"row" {i}' for i in range(ROWS)]
CLASSES = ("a", "b.c", "d")
SCORES = """
[ood]
scores = ["nll", "energy"]
gate = ["nll"]
false_alarm = 0.1
"""
CLASS_COSTS = """
[policies.walk]
default = true
on_ood = "ask"
[policies.walk.costs]
go = { a = 0, "b.c" = 10, d = 3 }
ask = { a = 1, "b.c" = 1, d = 1 }
[policies.fly]
[policies.fly.costs]
land = { a = 4, "b.c" = 0, d = 1 }
go = { a = 0, "b.c" = 4, d = 1 }
climb = { a = 1, "b.c" = 9, d = 0 }
[policies.ponder]
on_ood = "ask"
[policies.ponder.costs]
go = { a = 0, "b.c" = 10, d = 3 }
ask = { a = 9, "b.c" = 9, d = 9 }
[sites.north]
prevalence = { a = 0.8, "b.c" = 0.1, d = 0.1 }
[sites.south]
prevalence = { a = 0.2, "b.c" = 0.7, d = 0.1 }
"""


@dataclass(frozen=True)
class Case:
    """One kind of request: a model, a verb and options."""

    model: str
    verb: str
    options: Json = field(default_factory=dict)
    ids: list[str] | None = None

    def query(self, registry: Registry) -> Query:
        """The query of such a request."""
        return Query.of(registry.model(self.model), Options(self.verb, decide=self.verb == "decide", **self.options))

    def __str__(self) -> str:
        """What the test is called."""
        named = [given for given in self.options.values() if given == "ponder"]
        named += ["by row"] if any(isinstance(given, tuple) for given in self.options.values()) else []
        named += [f"costs {given.cost.ndim}" for given in self.options.values() if isinstance(given, Policy)]
        return "-".join([self.model, self.verb, *self.options, *named, *([] if self.ids is None else ["ids"])])


def answer_of(query: Query, rows: Any) -> Answer:
    """The answer to rows."""
    session = query.options.session
    monitor = None if session is None else monitor_of(query.model, session)
    return query.conclude(query.model.posterior(rows), monitor=monitor)


def written(query: Query, answer: Answer, verb: str, layout: str, parts: list[Part]) -> list[Json]:
    """Bodies of the responses with an answer."""
    encoder = encoder_of(query, topics=VERBS[verb].topics, layout=layout)
    return [orjson.loads(body) for body in encoder.write(answer, parts, created=CREATED)]


def rows_of(model: Model) -> Any:
    """Rows of which some are out of distribution."""
    return rows_of_name(model.name)


def rows_of_name(name: str) -> Any:
    """The same for the model of a name."""
    rng = np.random.default_rng(5)
    if name in ("letters", "raw"):
        logits = np.log(rng.dirichlet(np.ones(3), size=ROWS))
        logits[[2, 7]] = 0.0  # as flat as a row can be
        return logits
    if name == "complaints":
        return np.linspace(-3.0, 3.0, ROWS)[:, None]
    return draw_sequences(ROWS, 6)[0].astype(np.float64)


def class_draft(folder: Path, *, more: str = CLASS_COSTS, name: str = "letters") -> Repository:
    """A draft of a multiclass model that answers its own instances."""
    from onnx import helper

    nodes = [helper.make_node("Identity", ["x"], ["scores"])]
    graph = save_graph(folder / "letters.onnx", nodes, [None, 3], 3)
    head = (
        'schema = 1\ntitle = "letters"\n[graph]\noutput = "scores"\noutput_kind = "logits"\ntask = "multiclass"\n'
        'classes = ["a", "b.c", "d"]\n[[inputs]]\nname = "x"\nfeatures = ["u", "v", "w"]\n[features.u]\n'
        "plausible = [-50, 1]\n"
    )
    repository = Repository(folder / "models")
    repository.root.mkdir(exist_ok=True)
    create_draft(repository, name, {"model.onnx": graph, "manifest.toml": head + SCORES + more}, force=True)
    return repository


def models_of_every_task(folder: Path) -> Registry:
    """`letters`, `complaints` and `motion`: a calibrated model of every task; `raw`, an uncalibrated one."""
    labels, sequences, repository = label_draft(folder), sequence_draft(folder), class_draft(folder)
    x, y, _ = draw_labels(800, 0)
    labels.fit(labels.rows("labels", X=x, y=y))
    x, y = draw_sequences(150, 0)
    sequences.fit(sequences.rows("sequences", X=x, y=y))
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), size=300)
    data = labels.rows("letters", X=np.log(p), y=(p.cumsum(axis=1) > rng.random((300, 1))).argmax(axis=1))
    fit(repository, "letters", FitRequest(data, calibrator="temperature"))
    publish_draft(class_draft(folder, name="raw"), "raw")
    return load_registry(repository)


def own_costs(*shape: int) -> Policy:
    """Costs of a request's own, of all rows or row by row."""
    rng = np.random.default_rng(1)
    return Policy(FROM_REQUEST, "request", ("left", "right"), rng.integers(0, 9, (*shape, 2, 3)).astype(float), None)


SESSION = Session(50.0, State(0.1, 3, 1, standing=False))
SHARED: list[Json] = [{}, {"site": "north"}, {"coverage": 0.8}, {"top_k": 2}, {"top_k": 9, "coverage": 0.5}]
BY_ROW: list[Json] = [{"site": ("north", "south") * 6}]
POLICIES: list[Json] = [
    {"policy": "fly"},
    {"policy": "ponder"},
    {"policy": ("ponder", "fly") * 6},
    {"policy": own_costs()},
    {"policy": own_costs(ROWS)},
    {"policy": ("walk", "fly", "fly") * 4},
    {"policy": ("walk", "fly", "fly") * 4, "fdr": 0.3, "session": SESSION, "top_k": 1},
]
WATCHED: list[Json] = [{}, {"fdr": 0.3}, {"session": SESSION}]
SWITCHED: list[Json] = [{}, {"policy": "path"}, {"switch": 0.0}, {"smoother": "jsd", "switch": 2.5}]
CASES = [
    *(Case("letters", "predict", options) for options in SHARED + BY_ROW),
    *(Case("letters", "detect", options) for options in WATCHED),
    *(Case("letters", "decide", options) for options in SHARED + BY_ROW + POLICIES + WATCHED[1:]),
    *(Case("letters", verb, {}, IDS) for verb in ("predict", "detect", "decide")),
    Case("letters", "decide", {"policy": ("walk", "fly", "fly") * 4}, IDS),
    *(Case("raw", verb) for verb in ("predict", "detect", "decide")),
    *(Case("complaints", "predict", options) for options in ({}, {"site": "ward"})),
    *(Case("complaints", "detect", options) for options in WATCHED),
    *(Case("complaints", "decide", options) for options in WATCHED),
    Case("complaints", "decide", {}, IDS),
    *(Case("motion", "predict", options) for options in ({}, {"smoother": "jsd"})),
    *(Case("motion", "detect", options) for options in WATCHED),
    *(Case("motion", "decide", options) for options in SWITCHED + WATCHED[1:]),
    Case("motion", "decide", {}, IDS),
]

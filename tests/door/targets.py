"""Where bad requests are sent: paths, good bodies for them, and forms with one place for a bad value."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
MODEL: Final = "breast-cancer"
CANARY: Final = "ZqCanary7319"
HOST: Final = "door.test"


@dataclass(frozen=True, slots=True)
class Target:
    """A path that is answered.

    Attributes
    ----------
    name, method, path : str
    good : str
        A body that it answers with 200.
    """

    name: str
    method: str
    path: str
    good: str = ""

    @property
    def is_v2(self) -> bool:
        """Whether it is of the Open Inference Protocol."""
        return self.path.startswith("/v2")


def _rows(name: str) -> list[list[float]]:
    rows: list[list[float]] = json.loads((ROOT / "docs/examples" / name).read_text("utf-8"))
    return rows


ROW: Final = _rows("mass.json")[0]
REST: Final = json.dumps(ROW[1:])[1:-1]
_FORTY: Final = json.dumps(_rows("forty-masses.json"))
_LABELS: Final = (ROOT / "docs/examples/forty-labels.json").read_text("utf-8").strip()
_OUTCOME: Final = '{"prediction_id": "01900000-0000-7000-8000-000000000000.0", "outcome": "benign"}'
_V1 = f"/v1/models/{MODEL}"


def _tensor(data: str, *, shape: str = "[1, 30]", datatype: str = "FP64") -> str:
    return '{"inputs": [{"name": "X", "shape": ' + shape + ', "datatype": "' + datatype + '", "data": [' + data + "]}]}"


def _labelled(instances: str) -> str:
    return '{"instances": ' + instances + ', "labels": ["benign"]}'


def _verbs(body: str) -> dict[str, str]:
    return dict.fromkeys(("predict", "detect", "decide", "estimate"), '{"instances": ' + body + "}") | {
        "evaluate": _labelled(body)
    }


def _everywhere(text: str) -> dict[str, str]:
    return dict.fromkeys(("predict", "detect", "decide", "estimate", "evaluate", "infer", "outcomes"), text)


TARGETS: Final = {
    target.name: target
    for target in (
        Target("predict", "POST", f"{_V1}:predict", '{"instances": [$row]}'),
        Target("detect", "POST", f"{_V1}:detect", '{"instances": [$row]}'),
        Target("decide", "POST", f"{_V1}:decide", '{"instances": [$row]}'),
        Target("evaluate", "POST", f"{_V1}:evaluate", '{"instances": ' + _FORTY + ', "labels": ' + _LABELS + "}"),
        Target("estimate", "POST", f"{_V1}:estimate", '{"instances": ' + _FORTY + "}"),
        Target("outcomes", "POST", "/v1/outcomes", '{"outcomes": [' + _OUTCOME + "]}"),
        Target("infer", "POST", f"/v2/models/{MODEL}/infer", _tensor("$first, $rest")),
        Target("models", "GET", "/v1/models"),
        Target("model", "GET", _V1),
        Target("livez", "GET", "/livez"),
        Target("readyz", "GET", "/readyz"),
        Target("metrics", "GET", "/metrics"),
        Target("docs", "GET", "/docs"),
        Target("asset", "GET", "/docs/swagger-ui.css"),
        Target("document", "GET", "/openapi.json"),
        Target("server", "GET", "/v2"),
        Target("live", "GET", "/v2/health/live"),
        Target("ready", "GET", "/v2/health/ready"),
        Target("metadata", "GET", f"/v2/models/{MODEL}"),
        Target("stats", "GET", "/v2/models/stats"),
        Target("index", "POST", "/v2/repository/index", "{}"),
        Target("load", "POST", f"/v2/repository/models/{MODEL}/load", "{}"),
    )
}

FORMS: Final[Mapping[str, Mapping[str, str]]] = {
    "cell": _verbs("[[$value, $rest]]") | {"infer": _tensor("$value, $rest")},
    "outcome": {"outcomes": '{"outcomes": [$value]}'},
    "field": {"outcomes": '{"outcomes": [' + _OUTCOME + ", " + _OUTCOME[:-1] + ", $value}]}"},
    "rows": _verbs("$value")
    | {"infer": '{"inputs": [{"name": "X", "shape": [1, 30], "datatype": "FP64", "data": $value}]}'},
    "row": _verbs("[$value]"),
    "parameters": {verb: body[:-1] + ', "parameters": $value}' for verb, body in _verbs("[$row]").items()}
    | {"infer": _tensor("$first, $rest")[:-1] + ', "parameters": $value}'},
    "member": {verb: body[:-1] + ", $value}" for verb, body in _verbs("[$row]").items()}
    | {"infer": _tensor("$first, $rest")[:-1] + ", $value}"},
    "text": _everywhere("$value"),
}
"""Form -> target -> a body with one place for ``$value``."""


@cache
def words(target: Target, limit: int, key: str = "") -> dict[str, str]:
    """What the words of a case's texts stand for.

    ``$row`` a good row, ``$first`` its first cell and ``$rest`` the other ones, ``$good`` the target's good body,
    ``$length`` its number of bytes, ``$path`` and ``$host``, ``$limit`` the most bytes of a body, ``$over`` one more,
    ``$canary`` a text that must come back nowhere, ``$key`` a key that the server knows.
    """
    known = {
        "row": json.dumps(ROW),
        "first": json.dumps(ROW[0]),
        "rest": REST,
        "path": target.path,
        "host": HOST,
        "limit": str(limit),
        "over": str(limit + 1),
        "canary": CANARY,
        "key": key,
        "v1": _V1,
        "v2": f"/v2/models/{MODEL}",
    }
    good = target.good
    for word in ("row", "first", "rest"):
        good = good.replace(f"${word}", known[word])
    return {**known, "good": good, "length": str(len(good.encode()))}

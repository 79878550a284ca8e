"""Requests of `/v2` as they are checked: rows, outputs and parameters."""

from collections.abc import Sequence
from dataclasses import dataclass

from service.api.v2.documents import parse_document, split
from service.api.v2.input_tensors import raw_tensor, rows_of
from service.api.v2.output_tensors import VERB, RequestedOutput, decision_names, output_names, ranked_names
from service.api.v2.parameter_names import check_document, check_parameters
from service.api.v2.tensors import Blobs, Json, Tensor, read_tensors, refusal
from service.errors import InvalidInstances, InvalidRequest, TooManyRows
from service.prediction.options import Options
from service.runtime.model import Model
from service.runtime.rows import Rows


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A request, read.

    Attributes
    ----------
    id : str or None
        The client's own, to be returned.
    tensors : tuple of Tensor
        As they were sent; errors point into them.
    rows : ndarray of shape (N, F), or Fields
    outputs : tuple of RequestedOutput
    options : Options
    timeout : float or None
        In seconds: how long the client will wait.
    """

    id: str | None
    tensors: tuple[Tensor, ...]
    rows: Rows
    outputs: tuple[RequestedOutput, ...]
    options: Options
    timeout: float | None = None


def read_request(body: bytes, json_length: str | None, model: Model, *, most_rows: int) -> InferRequest:
    """A request to a model.

    Parameters
    ----------
    body : bytes
        Not compressed.
    json_length : str or None
        The header ``Inference-Header-Content-Length``; None where the body is JSON alone.
    model : Model
    most_rows : int

    Raises
    ------
    MalformedBody, InvalidRequest, InvalidInstances, TooManyRows
    """
    text, rest = split(body, json_length)
    if not text:
        return _raw_request(rest, model, most_rows)
    document = parse_document(text)
    if not isinstance(document, dict):
        raise InvalidRequest("the body must be a JSON object")
    _check_names(document)
    tensors = read_tensors(document.get("inputs"), Blobs(rest))
    parameters = document.get("parameters")
    binary = _switch(parameters, "binary_data_output", default=False)
    outputs = _outputs(document.get("outputs"), parameters, model, binary=binary)
    return InferRequest(
        _text(document, "id"),
        tuple(tensors),
        _checked(rows_of(tensors, model.inputs), most_rows),
        outputs,
        _options(outputs, parameters, model),
        _seconds(parameters),
    )


def _raw_request(body: bytes, model: Model, most_rows: int) -> InferRequest:
    tensor = raw_tensor(body, model.inputs)
    rows = _checked(rows_of([tensor], model.inputs), most_rows)
    outputs = _outputs(None, None, model, binary=True)
    return InferRequest(None, (tensor,), rows, outputs, _options(outputs, None, model))


def _checked(rows: Rows, most: int) -> Rows:
    if len(rows) > most:
        raise TooManyRows(f"a request has at most {most} rows; send them in parts")
    if len(rows) == 0:
        raise InvalidInstances("there is no row to predict")
    return rows


def _check_names(document: Json) -> None:
    check_document(document)
    check_parameters(document.get("parameters"), ("parameters",))
    for side in ("inputs", "outputs"):
        tensors = document.get(side)
        for i, entry in enumerate(tensors if isinstance(tensors, list) else ()):
            if isinstance(entry, dict):
                check_parameters(entry.get("parameters"), (side, i, "parameters"))


def _options(outputs: Sequence[RequestedOutput], parameters: object, model: Model) -> Options:
    decide = not decision_names(model).isdisjoint(output.name for output in outputs)
    return Options(VERB, decide=decide, policy=_text(parameters, "policy"), site=_text(parameters, "site"))


def _outputs(outputs: object, parameters: object, model: Model, *, binary: bool) -> tuple[RequestedOutput, ...]:
    if outputs is None:
        chosen = _text(parameters, "policy") or model.manifest.default_policy
        return tuple(RequestedOutput(name, binary) for name in output_names(model, decide=chosen is not None))
    if not isinstance(outputs, list) or not outputs:
        raise refusal(("outputs",), "wrong-type", "must be a list of outputs, or absent")
    known = output_names(model, decide=bool(model.manifest.policies))
    return tuple(_output(entry, i, known, model, binary=binary) for i, entry in enumerate(outputs))


def _output(entry: object, i: int, known: Sequence[str], model: Model, *, binary: bool) -> RequestedOutput:
    name = entry.get("name") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(name, str) or name not in known:
        raise refusal(("outputs", i, "name"), "unknown-output", f"must be one of {', '.join(known)}")
    own = entry.get("parameters")
    return RequestedOutput(name, _switch(own, "binary_data", default=binary), _classification(own, name, i, model))


def _classification(parameters: object, name: str, i: int, model: Model) -> int | None:
    count = parameters.get("classification") if isinstance(parameters, dict) else None
    if count is None:
        return None
    ranked = ranked_names(model)
    if type(count) is not int or count < 1 or name not in ranked:
        where = ("outputs", i, "parameters", "classification")
        raise refusal(where, "wrong-type", f"must be a positive number, on {' or '.join(sorted(ranked))}")
    return count


def _switch(parameters: object, name: str, *, default: bool) -> bool:
    value = parameters.get(name) if isinstance(parameters, dict) else None
    return value if isinstance(value, bool) else default


def _text(of: object, key: str) -> str | None:
    value = of.get(key) if isinstance(of, dict) else None
    return value if isinstance(value, str) else None


def _seconds(parameters: object) -> float | None:
    microseconds = parameters.get("timeout") if isinstance(parameters, dict) else None
    return microseconds / 1e6 if type(microseconds) is int and microseconds > 0 else None

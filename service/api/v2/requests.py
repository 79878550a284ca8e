"""Requests of `/v2` as they are checked: rows, outputs and parameters."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

from service.api.v2.documents import parse_document, split
from service.api.v2.input_tensors import raw_tensor, rows_of
from service.api.v2.output_tensors import VERB, OutputNames, RequestedOutput
from service.api.v2.parameter_names import check_document, check_number, check_parameters
from service.api.v2.row_texts import without_texts
from service.api.v2.tensors import Blobs, Json, Tensor, read_tensors, refusal
from service.errors import InvalidInstances, InvalidRequest, TooManyRows
from service.prediction.options import Options
from service.runtime.model import Model
from service.runtime.rows import Rows

Outputs = tuple[RequestedOutput, ...]
MOST_OUTPUTS: Final = 64  # a model has a dozen; one that is requested thousands of times would make an endless answer
BOTH_WAYS: Final = tuple(product((False, True), repeat=2))


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
    subjects, groups : list of str or None
        As in `Part`.
    """

    id: str | None
    tensors: tuple[Tensor, ...]
    rows: Rows
    outputs: tuple[RequestedOutput, ...]
    options: Options
    timeout: float | None = None
    subjects: list[str] | None = None
    groups: list[str] | None = None


class RequestReader:
    """Reads the requests to one model.

    Parameters
    ----------
    model : Model
    most_rows : int
        In one request.
    """

    def __init__(self, model: Model, *, most_rows: int) -> None:
        self._inputs = model.inputs
        self._most_rows = most_rows
        self._names = OutputNames.of(model)
        self._policies = bool(model.manifest.policies)
        self._default = model.manifest.default_policy
        self._all = {(decide, binary): self._names.all(decide=decide, binary=binary) for decide, binary in BOTH_WAYS}

    def read(self, body: bytes, json_length: bytes | None) -> InferRequest:
        """A request.

        Parameters
        ----------
        body : bytes
            Not compressed.
        json_length : bytes or None
            The header ``Inference-Header-Content-Length``; None where the body is JSON alone.

        Raises
        ------
        MalformedBody, InvalidRequest, InvalidInstances, TooManyRows
        """
        text, rest = split(body, json_length)
        if not text:
            return self._of([raw_tensor(rest, self._inputs)], {}, binary=True)
        document = parse_document(text)
        if not isinstance(document, dict):
            raise InvalidRequest("the body must be a JSON object")
        _check_names(document)
        tensors = read_tensors(document.get("inputs"), Blobs(rest))
        return self._of(tensors, document, binary=_switch(document.get("parameters"), "binary_data_output"))

    def _of(self, tensors: Sequence[Tensor], document: Json, *, binary: bool) -> InferRequest:
        parameters = document.get("parameters")
        own, texts = without_texts(tensors, self._inputs)
        rows = _checked(rows_of(own, self._inputs), self._most_rows)
        outputs, decide = self._outputs(document.get("outputs"), parameters, binary=binary)
        options = Options(VERB, decide=decide, policy=_text(parameters, "policy"), site=_text(parameters, "site"))
        seconds = _seconds(parameters)
        return InferRequest(_text(document, "id"), tuple(tensors), rows, outputs, options, seconds, **texts)

    def _outputs(self, outputs: object, parameters: object, *, binary: bool) -> tuple[Outputs, bool]:
        """The requested outputs, and whether one of them is of decisions."""
        if outputs is None:
            decide = _text(parameters, "policy") is not None or self._default is not None
            return self._all[decide, binary], decide
        if not isinstance(outputs, list) or not outputs:
            raise refusal(("outputs",), "wrong-type", "must be a list of outputs, or absent")
        if len(outputs) > MOST_OUTPUTS:
            raise refusal(("outputs",), "wrong-length", f"must have at most {MOST_OUTPUTS} entries")
        chosen = tuple(self._output(entry, i, binary=binary) for i, entry in enumerate(outputs))
        return chosen, self._names.need_decision(output.name for output in chosen)

    def _output(self, entry: object, i: int, *, binary: bool) -> RequestedOutput:
        name = entry.get("name") if isinstance(entry, dict) else None
        known = self._names.chosen(decide=self._policies)
        if not isinstance(entry, dict) or not isinstance(name, str) or name not in known:
            raise refusal(("outputs", i, "name"), "unknown-output", f"must be one of {', '.join(known)}")
        own = entry.get("parameters")
        return RequestedOutput(name, _switch(own, "binary_data", default=binary), self._classification(own, name, i))

    def _classification(self, parameters: object, name: str, i: int) -> int | None:
        count = parameters.get("classification") if isinstance(parameters, dict) else None
        if count is None:
            return None
        if type(count) is not int or count < 1 or name not in self._names.ranked:
            where = ("outputs", i, "parameters", "classification")
            detail = f"must be a positive number, on {' or '.join(sorted(self._names.ranked))}"
            raise refusal(where, "wrong-type", detail)
        return count


def _checked(rows: Rows, most: int) -> Rows:
    if len(rows) > most:
        raise TooManyRows(f"a request has at most {most} rows; send them in parts")
    if len(rows) == 0:
        raise InvalidInstances("there is no row to predict")
    return rows


def _check_names(document: Json) -> None:
    check_number(document)
    check_document(document)
    check_parameters(document.get("parameters"), ("parameters",))
    for side in ("inputs", "outputs"):
        tensors = document.get(side)
        for i, entry in enumerate(tensors if isinstance(tensors, list) else ()):
            if isinstance(entry, dict):
                check_parameters(entry.get("parameters"), (side, i, "parameters"))


def _switch(parameters: object, name: str, *, default: bool = False) -> bool:
    value = parameters.get(name) if isinstance(parameters, dict) else None
    return value if isinstance(value, bool) else default


def _text(of: object, key: str) -> str | None:
    value = of.get(key) if isinstance(of, dict) else None
    return value if isinstance(value, str) else None


def _seconds(parameters: object) -> float | None:
    microseconds = parameters.get("timeout") if isinstance(parameters, dict) else None
    return microseconds / 1e6 if type(microseconds) is int and microseconds > 0 else None

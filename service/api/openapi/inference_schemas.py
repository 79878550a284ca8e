"""Requests and responses of `/v2` inference, as the document describes them.

Requests are read by `service.api.v2.requests`, which checks more than a schema can say; tests hold responses against
these. Tested in tests/api/openapi/test_document.py.
What may be absent has a default factory: a default in the schema would be sent by generated clients.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Datatype = Literal[
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "BYTES",
]


class Open(BaseModel):
    """An object that may hold more than is described."""

    model_config = ConfigDict(extra="allow")


class InputParameters(Open):
    """How a tensor is sent.

    Attributes
    ----------
    binary_data_size : int
        Bytes of the tensor behind the JSON; `data` is then absent.
    """

    binary_data_size: int = Field(default_factory=int, ge=0)


class RequestInput(Open):
    """A tensor of a request.

    Attributes
    ----------
    name : str
        An input of the model, or one of its columns.
    shape : list of int
        Sizes of its axes, rows first.
    datatype : str
        Type of its values.
    data : list
        Values, flat or nested, rows first.
    parameters : InputParameters
        Options of this tensor.
    """

    name: str
    shape: list[int]
    datatype: Datatype
    data: list[Any] = Field(default_factory=list)
    parameters: InputParameters = Field(default_factory=InputParameters)


class OutputParameters(Open):
    """How a tensor is returned.

    Attributes
    ----------
    binary_data : bool
        Whether its values come as bytes behind the JSON.
    classification : int
        How many of the largest values to return, as strings `value:index:class`.
    """

    binary_data: bool = Field(default_factory=bool)
    classification: int = Field(default_factory=lambda: 1, ge=1)


class RequestOutput(Open):
    """A tensor to be returned.

    Attributes
    ----------
    name : str
        Name of the tensor.
    parameters : OutputParameters
        Options of this tensor.
    """

    name: str
    parameters: OutputParameters = Field(default_factory=OutputParameters)


class InferenceParameters(Open):
    """Options of a request.

    Attributes
    ----------
    policy : str
        A policy of the model; without it the default policy decides.
    site : str
        A site of the model, for its prevalence.
    timeout : int
        Microseconds that the client will wait.
    binary_data_output : bool
        Whether all tensors come as bytes behind the JSON.
    """

    policy: str = Field(default_factory=str)
    site: str = Field(default_factory=str)
    timeout: int = Field(default_factory=int, ge=0)
    binary_data_output: bool = Field(default_factory=bool)


class InferenceRequest(Open):
    """Rows as tensors.

    Attributes
    ----------
    id : str
        The client's own; returned as it is.
    parameters : InferenceParameters
        Options of the request.
    inputs : list of RequestInput
        Tensors of the rows.
    outputs : list of RequestOutput
        Tensors to return; without it all of them.
    """

    id: str = Field(default_factory=str)
    parameters: InferenceParameters = Field(default_factory=InferenceParameters)
    inputs: list[RequestInput]
    outputs: list[RequestOutput] = Field(default_factory=list)


class ResponseOutput(BaseModel):
    """A tensor of a response.

    Attributes
    ----------
    name : str
        Name of the tensor.
    shape : list of int
        Sizes of its axes, rows first.
    datatype : str
        Type of its values.
    data : list
        Values, flat, rows first; absent where they are bytes behind the JSON.
    parameters : InputParameters
        Size of the values that come as bytes.
    """

    name: str
    shape: list[int]
    datatype: Datatype
    data: list[Any] = Field(default_factory=list)
    parameters: InputParameters = Field(default_factory=InputParameters)


class ResponseParameters(BaseModel):
    """What the answers rest on.

    Attributes
    ----------
    digest : str
        SHA-256 of the version's files.
    version : str
        Version of the model that answered.
    site : str
        The site that was requested, or an empty string.
    policy : str
        The policy that decided, or an empty string.
    """

    digest: str
    version: str
    site: str
    policy: str


class InferenceResponse(BaseModel):
    """Answers as tensors.

    Attributes
    ----------
    model_name, model_version : str
        The model that answered.
    id : str
        The client's own id, or that of the request.
    parameters : ResponseParameters
        What the answers rest on.
    outputs : list of ResponseOutput
        Tensors, one row for every row of the request.
    """

    model_config = ConfigDict(protected_namespaces=())

    model_name: str
    model_version: str
    id: str
    parameters: ResponseParameters
    outputs: list[ResponseOutput]


class InferenceError(BaseModel):
    """An error of `/v2`.

    Attributes
    ----------
    error : str
        What is wrong, where, and what to do.
    """

    error: str

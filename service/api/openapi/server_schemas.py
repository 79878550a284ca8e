"""What `/v2` answers about the server, its models and the repository, as the document describes it.

Tested in tests/api/openapi/test_document.py: responses fit these.
"""

from typing import Any, Literal

from pydantic import BaseModel, Field

from service.api.openapi.inference_schemas import Datatype


class ServerMetadata(BaseModel):
    """The server.

    Attributes
    ----------
    name : str
        Always `temperance`.
    version : str
        Version of this service.
    extensions : list of str
        Extensions of the protocol that it has.
    """

    name: str
    version: str
    extensions: list[str]


class ServerLive(BaseModel):
    """Whether the process responds.

    Attributes
    ----------
    live : bool
        Always true.
    """

    live: bool


class ServerReady(BaseModel):
    """Whether a model is served, and the service does not end.

    Attributes
    ----------
    ready : bool
        Always true; a server that is not ready answers 503.
    """

    ready: bool


class ModelReady(BaseModel):
    """Whether a model is ready.

    Attributes
    ----------
    name : str
        Name of the model.
    ready : bool
        Always true; a model that is not served is 404.
    """

    name: str
    ready: bool


class TensorMetadata(BaseModel):
    """A tensor that a model takes or answers.

    Attributes
    ----------
    name : str
        Name of the tensor.
    datatype : str
        Type of its values.
    shape : list of int
        Sizes of its axes; -1 where any size fits.
    """

    name: str
    datatype: Datatype
    shape: list[int]


class ModelMetadata(BaseModel):
    """What a model takes and answers.

    Attributes
    ----------
    name : str
        Name of the model.
    versions : list of str
        Versions that are served.
    platform : str
        Always `onnx_onnxv1`.
    inputs, outputs : list of TensorMetadata
        Tensors in the order of the model.
    properties : dict of str to str
        Task, classes, actions and more; lists and objects are JSON in a string.
    """

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    properties: dict[str, str]


class Duration(BaseModel):
    """Events of one kind: how many, and how long they took.

    Attributes
    ----------
    count : int
        How often.
    ns : int
        Nanoseconds in all.
    """

    count: int
    ns: int


class InferenceStatistics(BaseModel):
    """Runs of a model by outcome and stage.

    Attributes
    ----------
    success, fail : Duration
        Runs that ended well, and that failed.
    queue : Duration
        Waiting for a run.
    compute_input, compute_infer, compute_output : Duration
        Stages of a run; all of it counts as inference.
    cache_hit, cache_miss : Duration
        Always zero: nothing is cached.
    """

    success: Duration
    fail: Duration
    queue: Duration
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration
    cache_hit: Duration
    cache_miss: Duration


class ModelStatistics(BaseModel):
    """Counts of one model since it was loaded.

    Attributes
    ----------
    name, version : str
        The model.
    last_inference : int
        When it last ran, in milliseconds since 1970; 0 where it never did.
    inference_count : int
        Rows.
    execution_count : int
        Runs.
    inference_stats : InferenceStatistics
        Durations.
    batch_stats : list
        Always empty.
    """

    name: str
    version: str
    last_inference: int
    inference_count: int
    execution_count: int
    inference_stats: InferenceStatistics
    batch_stats: list[Any]


class Statistics(BaseModel):
    """Counts of models since they were loaded.

    Attributes
    ----------
    model_stats : list of ModelStatistics
        One entry for every model.
    """

    model_stats: list[ModelStatistics]


class IndexRequest(BaseModel):
    """Which published models to list.

    Attributes
    ----------
    ready : bool
        Whether to list only those that are served.
    """

    ready: bool = Field(default_factory=bool)


class LoadRequest(BaseModel):
    """Nothing: what is loaded is what was published."""


class RepositoryEntry(BaseModel):
    """A published version.

    Attributes
    ----------
    name : str
        Name of the model.
    version : str
        The version.
    state : str
        `READY` or `UNAVAILABLE`.
    reason : str
        Why it is unavailable, or an empty string.
    """

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str

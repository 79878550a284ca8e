"""Where requests go: what a path names, found once and remembered until the served models change."""

from typing import NamedTuple

from starlette.types import Scope

from service.api.addresses import Limits, addressed
from service.api.intake import Intake
from service.api.v1.request_reader import RequestReader
from service.api.v1.verbs import Verb
from service.prediction.predictor import Predictor
from service.runtime.model import Model
from service.runtime.registry import Registry


class Target(NamedTuple):
    """A verb of a model.

    Attributes
    ----------
    model : Model
    reader : RequestReader
        Of its requests.
    intake : Intake
        How they come in.
    most_bytes : int
        That a body may have.
    """

    model: Model
    reader: RequestReader
    intake: Intake
    most_bytes: int


class Targets:
    """Targets of all paths of all verbs.

    Parameters
    ----------
    registry : Registry
    predictor : Predictor
    limits : Limits
    """

    def __init__(self, registry: Registry, predictor: Predictor, limits: Limits) -> None:
        self._registry = registry
        self._predictor = predictor
        self._limits = limits
        self._generation = -1
        self._by_path: dict[str, Target] = {}
        self._readers: dict[tuple[str, Model], RequestReader] = {}

    def target(self, verb: Verb, scope: Scope) -> Target:
        """What the path of a request names.

        Raises
        ------
        ModelNotFound, VersionNotServed
        """
        if self._generation != self._registry.generation:  # targets hold models
            self._by_path.clear()
            self._readers.clear()
            self._generation = self._registry.generation
        found = self._by_path.get(scope["path"])
        if found is None:  # there are as many as there are names of served models
            found = self._by_path[scope["path"]] = self._target(verb, addressed(self._registry, scope["path_params"]))
        return found

    def _target(self, verb: Verb, model: Model) -> Target:
        reader = self._readers.get((verb.name, model))
        if reader is None:
            reader = RequestReader(verb, model, most_rows=self._limits.rows)
            self._readers[verb.name, model] = reader
        intake = Intake(model, self._predictor.queue(model), self._limits)
        return Target(model, reader, intake, self._limits.body())

"""Bytes of a request to its query and rows: one reader, with a quick and a careful branch.

The quick branch is for plain rows of numbers: what stands around them is nearly always one of a few texts, each of
which is read once and remembered. The careful branch reads everything else, and reports what is wrong with a
request; it remembers what parameters mean, whatever the texts and rows beside them. Both give the same.
"""

import re
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final, Generic, NamedTuple, TypeVar

import orjson

from service.api.body import parse_json
from service.api.encoders.encoder import Encoder, encoder_of
from service.api.plain_numbers import end_of_numbers
from service.api.v1.instances import InstanceReader
from service.api.v1.parameters import check_task, parameter_error
from service.api.v1.reports import ReportEncoder
from service.api.v1.requests import parse_request, valid_texts
from service.api.v1.verbs import Verb
from service.bundle.tasks import ABSENT, PRESENT
from service.errors import InvalidInstances, ServiceError
from service.prediction.query import Query
from service.prediction.record_context import software
from service.prediction.records import RecordPlan
from service.runtime.model import Model
from service.runtime.rows import Rows

LONGEST_REMEMBERED: Final = 4096  # bytes around the rows, or of parameters; longer ones hardly ever come again
MOST_REMEMBERED: Final = 128  # of a verb of a model
STAND_IN: Final = b"[[0]]"
MEMBERS: Final = frozenset({"instances", "parameters"})
KEY: Final = re.compile(rb'"instances"\s*:\s*\Z')

Ids = list[str]
ROW_TEXTS: Final = ("ids", "subjects", "groups")
"""Parameters that are one text per instance, and change no answer."""
Key = TypeVar("Key")


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """What requests with the same parameters have in common.

    Attributes
    ----------
    query : Query
    encoder : Encoder
    plan : RecordPlan
        Of the records of their answers.
    """

    query: Query
    encoder: Encoder
    plan: RecordPlan


class RowTexts(NamedTuple):
    """What a request calls its rows, as in `Part`."""

    ids: Ids | None = None
    subjects: Ids | None = None
    groups: Ids | None = None


NO_TEXTS: Final = RowTexts()


class ReadRequest(NamedTuple):
    """A request, read and checked.

    Attributes
    ----------
    kind : Kind
    rows : Rows
    instances : list
        The rows as they were sent.
    texts : RowTexts
    """

    kind: Kind
    rows: Rows
    instances: list[Any]
    texts: RowTexts = NO_TEXTS

    @property
    def ids(self) -> Ids | None:
        """The caller's names of the rows."""
        return self.texts.ids


class Remembered(Generic[Key]):
    """Kinds of requests by what they were read from; the one not met for longest makes room for another."""

    def __init__(self) -> None:
        self._kinds: OrderedDict[Key, Kind] = OrderedDict()
        self._lock = Lock()  # the largest bodies are read on a thread

    def get(self, key: Key) -> Kind | None:
        """A kind that was kept."""
        with self._lock:
            kind = self._kinds.get(key)
            if kind is not None:
                self._kinds.move_to_end(key)
            return kind

    def keep(self, key: Key, kind: Kind) -> None:
        """Keep a kind for the next request."""
        with self._lock:
            self._kinds[key] = kind
            if len(self._kinds) > MOST_REMEMBERED:
                self._kinds.popitem(last=False)


class RequestReader:
    """Reads the requests of one verb to one model.

    Parameters
    ----------
    verb : Verb
    model : Model
    most_rows : int
        In one request.
    """

    def __init__(self, verb: Verb, model: Model, *, most_rows: int) -> None:
        self._verb = verb
        self._model = model
        self._instances = InstanceReader(model.inputs, most=most_rows)
        self._by_text: Remembered[tuple[bytes, bytes]] = Remembered()
        self._by_parameters: Remembered[bytes] = Remembered()

    def read(self, raw: bytes) -> ReadRequest:
        """A request.

        Raises
        ------
        MalformedBody, InvalidRequest, InvalidParameters, InvalidInstances, InvalidLabels, TooManyRows, PolicyRequired,
        PrevalenceUnavailable, CoverageUnavailable
        """
        return self._quick(raw) or self.careful(raw)

    def careful(self, raw: bytes) -> ReadRequest:
        """The same, by the careful branch, which reports what is wrong with a request."""
        document = parse_json(raw)
        known = self._known(document)
        if known is None:
            return self._new(document)
        kind, texts, instances = known
        return ReadRequest(kind, self._instances.parse(instances), instances, texts)

    def located(self, error: InvalidInstances, request: ReadRequest) -> InvalidInstances:
        """An error about rows, its paths pointing into the rows as they were sent."""
        return self._instances.located(error, request.instances)

    def _quick(self, raw: bytes) -> ReadRequest | None:
        start = raw.find(b"[")
        end = end_of_numbers(raw, start) if start >= 0 else 0
        if end <= start or len(raw) - (end - start) > LONGEST_REMEMBERED:
            return None
        plain = self._instances.plain(raw[start:end])
        if plain is None:
            return None
        around = self._around(raw[:start], raw[end:], rows=len(plain[0]))
        if around is None:
            return None
        return ReadRequest(around[0], plain[1], plain[0], around[1])

    def _around(self, before: bytes, after: bytes, *, rows: int) -> tuple[Kind, RowTexts] | None:
        kind = self._by_text.get((before, after))
        if kind is not None:
            return kind, NO_TEXTS
        known = self._known(_document(before, after), rows=rows)
        if known is None:
            return None
        kind, texts, _ = known
        if texts == NO_TEXTS:
            self._by_text.keep((before, after), kind)
        return kind, texts

    def _known(self, document: Any, *, rows: int | None = None) -> tuple[Kind, RowTexts, list[Any]] | None:
        # Whether the parameters were met before, whatever the texts and rows beside them.
        if type(document) is not dict or not MEMBERS.issuperset(document):
            return None
        instances, parameters = document.get("instances"), document.get("parameters", {})
        if type(instances) is not list or not instances or type(parameters) is not dict:
            return None
        key, texts = _key(parameters), RowTexts(*map(parameters.get, ROW_TEXTS))
        kind = None if key is None else self._by_parameters.get(key)
        if kind is None or not _are_texts(texts, len(instances) if rows is None else rows):
            return None
        return kind, texts, instances

    def _new(self, document: object) -> ReadRequest:
        # By every rule, in the order in which faults are reported.
        verb, model = self._verb, self._model
        sent = document.get("instances") if isinstance(document, dict) else None
        if isinstance(sent, list):
            self._instances.check_number(sent)
        request: Any = parse_request(verb.request, document, _names(model))
        parameters, count = request.parameters, len(request.instances)
        check_task(parameters, model)
        compute = None if verb.report is None else verb.report.prepared(request, model)
        options = verb.options(verb.name, parameters, model, count)
        texts = _texts(parameters, count)
        rows, query = self._instances.parse(request.instances), Query.of(model, options)
        if verb.report is not None and compute is not None:
            kind = Kind(query, ReportEncoder(verb.report.member, compute), self._plan(query))
            return ReadRequest(kind, rows, request.instances)
        kind = Kind(query, encoder_of(query, topics=verb.topics, layout=parameters.layout), self._plan(query))
        self._keep(kind, document)
        return ReadRequest(kind, rows, request.instances, texts)

    def _plan(self, query: Query) -> RecordPlan:
        return RecordPlan(query, verb=self._verb.name, topics=self._verb.topics, software=software())

    def _keep(self, kind: Kind, document: Any) -> None:
        options, key = kind.query.options, _key(document.get("parameters", {}))
        if key is not None and options.session is None and not options.vary_by_row:
            self._by_parameters.keep(key, kind)


def _document(before: bytes, after: bytes) -> object:
    # Something short stands in for the rows, and the ordinary rules hold for the rest.
    if not KEY.search(before):
        return None
    try:
        return parse_json(before + STAND_IN + after)
    except ServiceError:
        return None


def _key(parameters: dict[str, Any]) -> bytes | None:
    try:
        key = orjson.dumps({name: value for name, value in parameters.items() if name not in ROW_TEXTS})
    except TypeError:  # an integer beyond 64 bits
        return None
    return key if len(key) <= LONGEST_REMEMBERED else None


def _are_texts(texts: RowTexts, count: int) -> bool:
    return all(given is None or (valid_texts(given) and len(given) == count) for given in texts)


def _texts(parameters: Any, count: int) -> RowTexts:
    texts = RowTexts(*(getattr(parameters, name, None) for name in ROW_TEXTS))
    for name, given in zip(ROW_TEXTS, texts, strict=True):
        if given is not None and len(given) != count:
            raise parameter_error((name,), "wrong-length", "must have one entry per instance")
    return texts


def _names(model: Model) -> list[str]:
    return [*model.classes, *model.manifest.policies, *model.manifest.sites, ABSENT, PRESENT]

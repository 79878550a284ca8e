"""What a client notices when an alias moves from one version to another, in words."""

from collections.abc import Iterator, Mapping

from service.bundle.manifest import Manifest
from service.bundle.repository import Repository
from service.bundle.sections import Input
from service.errors import ServiceError


def replaced(repository: Repository, name: str, label: str, version: int) -> list[str]:
    """A sentence for every difference that clients may depend on; none where the alias is new.

    Parameters
    ----------
    repository : Repository
    name, label : str
    version : int
        What the alias will name.
    """
    old = repository.aliases(name).get(label)
    if old is None or old == version:
        return []
    new = repository.bundle(name, version).manifest
    try:
        before = repository.bundle(name, old).manifest
    except ServiceError:
        return [f"version {old} cannot be read, so what changes for clients of {label} is unknown"]
    return [f"from version {old} to {version}: {sentence}" for sentence in changes(before, new)]


def changes(old: Manifest, new: Manifest) -> list[str]:
    """Differences in task, classes, inputs, policies and sites.

    Parameters
    ----------
    old, new : Manifest
    """
    found = [*_graph(old, new), *_inputs(old, new), *_policies(old, new)]
    found += _tables("site", *({n: s.model_dump() for n, s in m.sites.items()} for m in (old, new)))
    return found


def _graph(old: Manifest, new: Manifest) -> Iterator[str]:
    if old.graph.task != new.graph.task:
        yield f"the task was {old.graph.task} and is {new.graph.task}"
    yield from _lists("classes", old.graph.classes, new.graph.classes)


def _inputs(old: Manifest, new: Manifest) -> Iterator[str]:
    before, after = ({entry.name: entry for entry in m.inputs} for m in (old, new))
    yield from _lists("inputs", tuple(before), tuple(after))
    for name in before.keys() & after.keys():
        yield from _input(before[name], after[name])
    features = ({n: f.model_dump() for n, f in m.features.items()} for m in (old, new))
    yield from _tables("declaration of feature", *features)


def _input(old: Input, new: Input) -> Iterator[str]:
    yield from _lists(f"columns of input {old.name!r}", old.columns, new.columns)
    others = (entry.model_dump(exclude={"name", "features"}) for entry in (old, new))
    before, after = others
    for key in sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key)):
        yield f"{key} of input {old.name!r} was {before.get(key)} and is {after.get(key)}"


def _policies(old: Manifest, new: Manifest) -> Iterator[str]:
    if old.default_policy != new.default_policy:
        yield f"the default policy was {old.default_policy or 'none'} and is {new.default_policy or 'none'}"
    before, after = ({n: p.model_dump(exclude={"default"}) for n, p in m.policies.items()} for m in (old, new))
    yield from _tables("policy", before, after)


def _tables(kind: str, old: Mapping[str, object], new: Mapping[str, object]) -> Iterator[str]:
    for name in sorted(old.keys() - new.keys()):
        yield f"{kind} {name!r} was removed"
    for name in sorted(new.keys() - old.keys()):
        yield f"{kind} {name!r} is new"
    for name in sorted(old.keys() & new.keys()):
        before, after = dict(_leaves(old[name])), dict(_leaves(new[name]))
        for place in sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key)):
            values = (values.get(place, "absent") for values in (before, after))
            yield f"{kind} {name!r}: {place or 'its value'} was {next(values)} and is {next(values)}"


def _leaves(value: object, place: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{place}.{key}" if place else str(key))
    else:
        yield place, value


def _lists(what: str, old: tuple[str, ...], new: tuple[str, ...]) -> Iterator[str]:
    removed, added = [n for n in old if n not in new], [n for n in new if n not in old]
    if removed:
        yield f"{what}: {', '.join(map(repr, removed))} no longer there"
    if added:
        yield f"{what}: {', '.join(map(repr, added))} added"
    if not removed and not added and old != new:
        yield f"{what}: in another order, which rows and answers without names depend on"

"""JSON schemas of responses, made of the descriptions of their members.

They are of every model of a task: what depends on one model (its classes, scores, labels and actions) is described by
`additionalProperties` and, where it is in the name of a column, by `patternProperties`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from service.core.decision import REASONS
from service.prediction.answer_member import Group, Json, Member, always, is_axis, parse_path
from service.prediction.header import HEADER, SESSION
from service.prediction.query import groups_of

NULL: Final = "null"
ANY_NAME: Final = "[^.]+"
AXES: Final = {
    "class": "Names of the classes, in the order in which columns have values for them.",
    "action": "Names of the actions, in the order in which columns have values for them; by label if multilabel.",
}


def row_schema(task: str, topics: Sequence[str]) -> Json:
    """Schema of a row's JSON.

    Parameters
    ----------
    task : str
        ``multiclass``, ``multilabel`` or ``sequence``.
    topics : sequence of str
        As `Query.plan`; those of a verb are its `topics`.
    """
    root = _object("One answered row.")
    groups = groups_of(task, topics)
    about = {path: text for group in groups for path, text in group.objects.items()}
    for group in groups:
        for member in group.members:
            _place(root, group, member, about)
    return root


def columns_schema(task: str, topics: Sequence[str]) -> Json:
    """Schema of `columns`; as `row_schema`."""
    schema = {**_object("One array for every member of a row, under its dotted path."), "patternProperties": {}}
    for group in groups_of(task, topics):
        for member in group.members:
            name, entry = ".".join(parse_path(group.path, member.path).steps), _entry_of_column(group, member)
            column = {"type": "array", "description": _sentence(group, member), "items": entry}
            if "{" in name:
                schema["patternProperties"][_pattern(name)] = column
                continue
            schema["properties"][name] = column
            schema["required"] += [name] if _is_always_there(group, member) else []
    return schema


def rows_response_schema(task: str, topics: Sequence[str]) -> Json:
    """Schema of a response by row; as `row_schema`."""
    rows = {"type": "array", "description": "One object for every instance.", "items": row_schema(task, topics)}
    return _response("Response by row.", {"predictions": rows})


def columns_response_schema(task: str, topics: Sequence[str]) -> Json:
    """Schema of a response by column; as `row_schema`."""
    text = {"type": "string"}
    names = {"type": "array", "items": text}
    by_label = {"type": "object", "additionalProperties": names}
    members: dict[str, Json] = {"classes": {**names, "description": AXES["class"]}}
    if "decision" in topics:
        members["actions"] = {**(by_label if task == "multilabel" else names), "description": AXES["action"]}
    if task == "sequence" and {"probabilities", "decision"} & set(topics):
        about = "Unpadded positions of every sequence; columns of positions hold all sequences one after the other."
        members["lengths"] = {"type": "array", "items": {"type": "integer"}, "description": about}
    return _response("Response by column.", {**members, "columns": columns_schema(task, topics)})


def header_schema() -> Json:
    """Schema of what every response states, of `:evaluate` and `:estimate` too."""
    return _of_members("What every response states.", HEADER, HEADER_OBJECTS)


def session_schema() -> Json:
    """Schema of a session in a response."""
    return _of_members("The session after these rows, to be sent back with the next ones.", SESSION, {})


def _response(about: str, members: Mapping[str, Json]) -> Json:
    schema = header_schema()
    schema["description"] = about
    schema["properties"] |= {**members, "session": session_schema()}
    schema["required"] += [*members]
    return schema


def _of_members(about: str, members: Iterable[Member[Any]], objects: Mapping[str, str]) -> Json:
    root, group = _object(about), Group("", (), lambda *_: None)
    for member in members:
        _place(root, group, member, objects)
    return root


def _object(about: str) -> Json:
    return {"type": "object", "description": about, "properties": {}, "required": []}


def _place(root: Json, group: Group[Any], member: Member[Any], about: Mapping[str, str]) -> None:
    # Walk down to the object that holds the member, making what is not there yet.
    node, path, needed = root, "", _is_always_there(group, member)
    *steps, last = [*group.steps, *_steps(member)]
    for step in steps:
        path = f"{path}.{step}" if path else step
        node = _inner(node, step, about.get(path, ""), needed=needed)
    _leaf(node, last, member, needed=needed)


def _inner(node: Json, step: str, about: str, *, needed: bool) -> Json:
    name, inner = step.removesuffix("[]"), _object(about)
    found: Json
    if is_axis(step):
        found = node.setdefault("additionalProperties", inner)
    elif step == name:
        found = node["properties"].setdefault(name, inner)
    else:
        found = node["properties"].setdefault(name, {"type": "array", "description": about, "items": inner})["items"]
    _require(node, name, needed=needed and not is_axis(step))
    return found


def _leaf(node: Json, step: str, member: Member[Any], *, needed: bool) -> None:
    name, axis = step.removesuffix("[]"), parse_path("", member.path).axis
    _require(node, name, needed=needed)
    schema = _value(member)
    if axis:
        schema = {"type": "object", "additionalProperties": schema}
    if name != step:
        schema = {"type": "array", "items": schema}
    node["properties"][name] = {**schema, "description": member.about}


def _require(node: Json, name: str, *, needed: bool) -> None:
    if needed and name not in node["required"]:
        node["required"].append(name)


def _is_always_there(group: Group[Any], member: Member[Any]) -> bool:
    return not (group.optional or member.optional) and member.when is always


def _steps(member: Member[Any]) -> list[str]:
    steps = member.path.split(".")
    return steps[:-1] if is_axis(steps[-1]) else steps


def _value(member: Member[Any]) -> Json:
    schema = dict(member.schema) if member.kind == "value" else dict(KINDS[member.kind])
    if member.of == "reason":
        schema["enum"] = list(REASONS)
    return _nullable(schema) if member.nullable else schema


def _nullable(schema: Json) -> Json:
    if "anyOf" in schema:
        return {**schema, "anyOf": [*schema["anyOf"], {"type": NULL}]}
    return {**schema, "type": [schema["type"], NULL]}


def _entry_of_column(group: Group[Any], member: Member[Any]) -> Json:
    schema, axis = _value(member), parse_path("", member.path).axis
    if axis:  # an action that a row's policy lacks has a null
        return {"type": "array", "items": _nullable(schema) if axis == "action" else schema}
    if group.path.endswith("[]") and not group.positions:
        return {"type": "array", "items": schema}
    lacking = member.optional or member.when is not always
    return _nullable(schema) if lacking and not member.nullable else schema


def _sentence(group: Group[Any], member: Member[Any]) -> str:
    return f"{group.objects.get(group.path, '')} {member.about}".strip()


def _pattern(name: str) -> str:
    return "^" + re.sub(r"\\\{\w+\\\}", ANY_NAME, re.escape(name)) + "$"


KINDS: Final[dict[str, Json]] = {
    "number": {"type": "number"},
    "count": {"type": "integer"},
    "flag": {"type": "boolean"},
    "name": {"type": "string"},
    "names": {"type": "array", "items": {"type": "string"}},
    "text": {"type": "string"},
}
HEADER_OBJECTS: Final = {
    "calibration": "How the probabilities were calibrated.",
    "prevalence": "Prevalence of the probabilities: share of every class.",
}

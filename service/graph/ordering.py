"""Whether the operators of a graph can run one after the other: every tensor made once, and none of itself."""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

import onnx

from service.graph.walk import reads

LONGEST_NAME: Final = 1000
"""Characters: messages and manifests repeat names."""


def order_faults(graph: onnx.GraphProto) -> Iterator[str]:
    """What keeps operators from running in any order, in words."""
    if any(len(name) > LONGEST_NAME for node in graph.node for name in (node.name, *node.input, *node.output)):
        yield f"a name in it has more than {LONGEST_NAME} characters"
    computed = (name for node in graph.node for name in node.output if name)
    if twice := _twice(chain((tensor.name for tensor in graph.initializer), computed)):
        yield f"the tensor {twice!r} is there twice, computed or as an initialiser"
    elif (operator := _waiting(graph)) is not None:
        yield f"{operator} takes, through other operators, what it computes itself"


def _twice(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _waiting(graph: onnx.GraphProto) -> str | None:
    """The first operator that never gets all of its inputs; None where every one runs. Kahn (1962)."""
    producers = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    needed = [{producers[name] for name in reads(node) if name in producers} for node in graph.node]
    users: dict[int, list[int]] = {}
    for i, before in enumerate(needed):
        for other in before:
            users.setdefault(other, []).append(i)
    missing = [len(before) for before in needed]
    ready = deque(i for i, count in enumerate(missing) if not count)
    while ready:
        for user in users.get(ready.popleft(), ()):
            missing[user] -= 1
            if not missing[user]:
                ready.append(user)
    return next((graph.node[i].op_type for i, count in enumerate(missing) if count), None)

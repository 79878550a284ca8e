"""Manifests with a given `[training]`, for the tests of what objectives declare."""

from typing import Any

import tomlkit

CLASSES = ("a", "b", "c")
KINDS = {"multiclass": "logits", "sequence": "logits", "multilabel": "sigmoid_logits"}


def manifest_text(task: str, training: dict[str, Any]) -> str:
    """A small manifest of a task, as text."""
    graph = {"output": "logits", "output_kind": KINDS[task], "task": task, "classes": list(CLASSES)}
    return tomlkit.dumps(
        {"schema": 1, "title": "Three classes", "graph": graph, "inputs": [{"name": "x"}], "training": training}
    )

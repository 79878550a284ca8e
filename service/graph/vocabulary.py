"""The words that a graph knows: rows of text without any of them say nothing of its weights."""

from typing import Final

import onnx

from service.graph.walk import every_node

POOLS: Final = frozenset({"pool_strings", "keys_strings", "cats_strings"})
"""Attributes of the operators of ai.onnx.ml and of ONNX's TfIdfVectorizer that look text up."""


def words_of(model: onnx.ModelProto, *, most: int) -> tuple[str, ...]:
    """Texts that operators look up, at most so many, taken evenly from all of them; empty where there are none."""
    found = (
        text.decode("utf-8", errors="replace")
        for node in every_node(model.graph)
        for attribute in node.attribute
        if attribute.name in POOLS
        for text in attribute.strings
    )
    words = tuple(dict.fromkeys(word for word in found if word))
    return words if len(words) <= most else words[:: -(-len(words) // most)]

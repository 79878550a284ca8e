"""A draft's manifest, with the evidence beside every line."""

import tomlkit
from tomlkit.items import Table

from service.importer.declared import Conclusion
from service.importer.feeds import Filled
from service.importer.study import Study

GRAPH_KEYS = ("output", "output_kind", "task", "classes", "rows")


def manifest_text(title: str, found: Study) -> str:
    """TOML that people go on to edit."""
    document = tomlkit.document()
    document["schema"] = 1
    document["title"] = title
    for conclusion in found.conclusions:
        if conclusion.subject not in GRAPH_KEYS:
            document.add(tomlkit.comment(f"{conclusion.subject}: {conclusion.value} ({conclusion.evidence})"))
    document["graph"] = _graph([c for c in found.conclusions if c.subject in GRAPH_KEYS])
    inputs = tomlkit.aot()
    for filled in found.inputs:
        inputs.append(_input(filled))
    document["inputs"] = inputs
    missing = any(c.subject == "missing" and c.value == "nan" for c in found.conclusions)
    features = _features(found.inputs, missing=missing)
    if features:
        document["features"] = features
    return tomlkit.dumps(document)


def _graph(conclusions: list[Conclusion]) -> Table:
    table = tomlkit.table()
    for conclusion in conclusions:
        value = conclusion.value if isinstance(conclusion.value, str) else list(conclusion.value)
        table[conclusion.subject] = value
        table[conclusion.subject].comment(" ".join(conclusion.evidence.split()))
    return table


def _input(filled: Filled) -> Table:
    table = tomlkit.table()
    table["name"] = filled.input.name
    table["name"].comment(filled.evidence)
    if filled.features not in (None, (filled.input.name,)):
        table["features"] = list(filled.features or ())
    if filled.pad is not None:
        table["pad"] = filled.pad
        table["pad"].comment("synthetic rows, padded and masked, answered as they did without padding")
    if filled.fill is not None:
        table["fill"] = filled.fill
    if filled.mask:
        mask = tomlkit.item(True)
        mask.comment("filled by the service: 1 where a row has values, 0 where it was padded")
        table.add("mask", mask)
    return table


def _features(inputs: tuple[Filled, ...], *, missing: bool) -> Table:
    table = tomlkit.table(is_super_table=True)
    for filled in inputs:
        names = filled.features or ()
        if missing and filled.input.type in {"FLOAT", "DOUBLE", "FLOAT16"}:
            for name in names:
                table[name] = _entry("missing", "nan")
        if filled.input.closed and len(filled.input.words) == len(names):
            for name, words in zip(names, filled.input.words, strict=True):
                table[name] = _entry("categories", list(words))
                table[name]["categories"].comment("the graph fails on any other")
    return table


def _entry(key: str, value: str | list[str]) -> Table:
    table = tomlkit.table()
    table[key] = value
    return table

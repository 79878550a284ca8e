"""A draft's manifest, with the evidence beside every line.

Tested in tests/importer/test_import_model.py.
"""

import math
from typing import Final

import tomlkit
from tomlkit.items import Table

from service.bundle.tasks import TASKS
from service.importer.analysis import Analysis
from service.importer.declared import Conclusion
from service.importer.input_plan import Domain, PlannedInput, shared_domain

FARTHEST: Final = 2**53
"""The other end of a range that the graph bounds on one side alone."""

SLACK: Final = 1e-6

WIDE: Final = 10
"""Spreads about a centre: where these are a standard deviation and a mean, at most 1 % of the rows that they were
computed from lie further away (Chebyshev). A graph does not show what they are: they may be quartiles and a median."""

OFFERED: Final = """
# [ood]  # without it {score} alone flags rows: those of which the model is unsure; this looks at the numeric inputs too
# scores = ["{score}", "mahalanobis"]
# gate = ["mahalanobis", "range"]  # range: rows outside a plausible range, which is evidence only otherwise
"""

GRAPH_KEYS = ("output", "output_kind", "task", "classes", "rows")


def manifest_text(title: str, found: Analysis) -> str:
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
    return tomlkit.dumps(document) + ("" if missing else _offered(found))


def _offered(found: Analysis) -> str:
    """A comment that offers a score of the numeric inputs: the score that a task has by default never looks at them."""
    numeric = any(f.features is not None and f.input.type != "STRING" and not _all_codes(f) for f in found.inputs)
    task = next((str(c.value) for c in found.conclusions if c.subject == "task"), "multiclass")
    return OFFERED.format(score=TASKS[task].scores[0]) if numeric and task != "sequence" else ""


def _all_codes(filled: PlannedInput) -> bool:
    coded = [d is not None and (d.categories, d.low, d.high) != (None, None, None) for d in filled.domains]
    return bool(coded) and all(coded)


def _graph(conclusions: list[Conclusion]) -> Table:
    table = tomlkit.table()
    for conclusion in conclusions:
        value = conclusion.value if isinstance(conclusion.value, str) else list(conclusion.value)
        table[conclusion.subject] = value
        table[conclusion.subject].comment(" ".join(conclusion.evidence.split()))
    return table


def _input(filled: PlannedInput) -> Table:
    table = tomlkit.table()
    table["name"] = filled.input.name
    table["name"].comment(filled.evidence)
    if filled.features not in (None, (filled.input.name,)):
        table["features"] = list(filled.features or ())
    shared = shared_domain(filled.domains) if filled.features is None else None
    if shared is not None and (bounds := _bounds(shared)) is not None:
        table["allowed"] = list(bounds)
        table["allowed"].comment(shared.why)
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


def _features(inputs: tuple[PlannedInput, ...], *, missing: bool) -> Table:
    table = tomlkit.table(is_super_table=True)
    for filled in inputs:
        names = filled.features or ()
        domains = filled.domains if len(filled.domains) == len(names) else (None,) * len(names)
        words = filled.input.words if filled.input.closed and len(filled.input.words) == len(names) else ()
        for i, (name, domain) in enumerate(zip(names, domains, strict=True)):
            entry = tomlkit.table()
            if missing and filled.input.type in {"FLOAT", "DOUBLE", "FLOAT16"}:
                entry["missing"] = "nan"
            if words and (domain is None or domain.categories is None):
                entry["categories"] = list(words[i])
                entry["categories"].comment("the graph fails on any other")
            elif domain is not None:
                _declare(entry, domain, text=filled.input.type == "STRING")
            if entry:
                table[name] = entry
    return table


def _declare(entry: Table, domain: Domain, *, text: bool) -> None:
    """Write what the graph proves of a column, where the manifest has a word for it."""
    if domain.categories is not None:
        if not entry and (len(domain.categories) > 1 or text):
            entry["categories"] = list(domain.categories)
            entry["categories"].comment(domain.why)
    elif domain.low is not None or domain.high is not None:
        if (bounds := _bounds(domain)) is not None:
            entry["allowed"] = list(bounds)
            entry["allowed"].comment(domain.why)
    elif domain.centre is not None and domain.spread is not None:
        entry["plausible"] = list(
            rounded_range(domain.centre - WIDE * domain.spread, domain.centre + WIDE * domain.spread)
        )
        entry["plausible"].comment(
            f"{domain.why}; {WIDE} spreads about it (--train-data: a range of the training rows)"
        )


def _bounds(domain: Domain) -> tuple[float, float] | None:
    low = -FARTHEST if domain.low is None else domain.low
    high = FARTHEST if domain.high is None else domain.high
    return (float(low), float(high)) if low < high else None


def rounded_range(low: float, high: float) -> tuple[float, float]:
    """A range as wide or wider, to a millionth of a step, whose ends are round for its width.

    Examples
    --------
    >>> rounded_range(17.3, 96.2)
    (15.0, 100.0)
    """
    step = 0.5 * 10.0 ** math.floor(math.log10(max(high - low, 1e-300)))
    return float(math.floor(low / step + SLACK) * step), float(math.ceil(high / step - SLACK) * step)

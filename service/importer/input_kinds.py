"""Which inputs of a model are numbers, texts or tensors."""

from service.bundle.guards import Kinds
from service.bundle.repository import Bundle
from service.bundle.sections import Input
from service.graph.inspect import Input as GraphInput
from service.graph.inspect import inspect_graph
from service.importer.input_plan import PlannedInput

MATRIX = 2


def kinds_of(bundle: Bundle) -> Kinds:
    """Kinds of a bundle's inputs, by the names of its manifest."""
    types = {entry.name: entry for entry in inspect_graph(bundle.graph_path).inputs}
    by_kind: dict[str, list[str]] = {"numbers": [], "texts": [], "tensors": []}
    for entry in bundle.manifest.inputs:
        kind = "texts" if types[entry.name].type == "STRING" else "tensors" if _is_tensor(entry, types) else "numbers"
        by_kind[kind].extend(entry.columns)
    return Kinds(**{kind: tuple(names) for kind, names in by_kind.items()})


def kinds_of_filled(inputs: tuple[PlannedInput, ...]) -> Kinds:
    """Kinds of the inputs that a request must give, as an import found them."""
    given = [f for f in inputs if f.fill is None and not f.mask]
    columns = [(f.features or (), f.input.type == "STRING") for f in given]
    return Kinds(
        tuple(name for names, text in columns if not text for name in names),
        tuple(name for names, text in columns if text for name in names),
        tuple(f.input.name for f in given if f.features is None),
    )


def _is_tensor(entry: Input, types: dict[str, GraphInput]) -> bool:
    dims = types[entry.name].dims or ()
    shaped = entry.shape is not None or entry.pad is not None or len(dims) > MATRIX
    return entry.features is None and (shaped or (len(dims) == MATRIX and dims[1] != 1))

"""What a caller sent in clear text, of every row: ids, subjects, groups, and inputs where the manifest asks for them.

It is encrypted before it is kept, and lies outside of the chain.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import orjson

from service.prediction.answer import Part
from service.runtime.inputs import Inputs
from service.runtime.integers import beyond, parted
from service.runtime.rows import Fields, Rows, Values
from service.store.entries import SealedKind
from service.store.keyed_tokens import Tokens
from service.store.seals import ClearText


def clear_texts(part: Part, tokens: Tokens, *, inputs: Sequence[bytes] = ()) -> list[ClearText]:
    """What is to be encrypted of a request's rows.

    Parameters
    ----------
    part : Part
    tokens : Tokens
    inputs : sequence of bytes
        Of `rows_json`; empty where they are not kept.
    """
    if part.ids is None and part.subjects is None and part.groups is None and not inputs:
        return []
    return [text for row in range(part.rows) for text in _of_row(part, row, tokens, inputs)]


def rows_json(rows: Rows, inputs: Inputs) -> list[bytes]:
    """Every row as a JSON object: values of columns by name, null where one is missing, and tensors without padding.

    Parameters
    ----------
    rows : Rows
        As they were read.
    inputs : Inputs
        Of the model.
    """
    numbers, whole = parted(rows, inputs.wide)
    others = rows.others if isinstance(rows, Fields) else {}
    lengths = rows.lengths if isinstance(rows, Fields) else None
    columns = dict(zip(inputs.columns, numbers.T, strict=True))
    found = []
    for row in range(len(rows)):
        document: dict[str, object] = {}
        for entry in inputs.entries:
            if entry.shape:
                length = None if lengths is None or entry.pad is None else int(lengths[row])
                document[entry.name] = others[entry.name][row][:length].tolist()
            elif entry.is_text:
                document |= {cell: _text(others[cell][row]) for cell in entry.cells}
            else:
                document |= {cell: _number(columns[cell][row], whole.get(cell), row) for cell in entry.cells}
        found.append(orjson.dumps(document))  # of NaN it makes null
    return found


def _of_row(part: Part, row: int, tokens: Tokens, inputs: Sequence[bytes]) -> Iterator[ClearText]:
    ids, subjects, groups = (None if given is None else given[row] for given in (part.ids, part.subjects, part.groups))
    owner = tokens.owner(subjects, identifier=ids, prediction_id=f"{part.request_id}.{row}")
    kinds: tuple[tuple[SealedKind, str | None], ...] = (("id", ids), ("subject", subjects), ("group", groups))
    for kind, text in kinds:
        if text is not None:
            yield ClearText(row, kind, owner, text.encode())
    if inputs:
        yield ClearText(row, "input", owner, inputs[row])


def _text(cell: object) -> str | None:
    return cell if isinstance(cell, str) else None


def _number(value: np.float64, integers: Values | None, row: int) -> float | int:
    if integers is not None and beyond(np.array([value]))[0]:
        return int(integers[row])
    return float(value)

"""Synthetic rows for the self-test's first part, so many and such that they meet most of the graph's weights.

A unit of a network that is off for every row hides its weights. Text without a word that the graph knows hides all.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from service.runtime.fields import FieldInputs, Texts
from service.runtime.model import SELF_TEST_ROWS, Model
from service.runtime.numbers import NumberInputs
from service.runtime.rows import Fields, Rows

MOST_WORDS: Final = 64
CELLS: Final = 2048
MOST_ROWS: Final = 32


def self_test_rows(model: Model, words: Sequence[str]) -> Rows:
    """Rows within every declared range; of text the first half holds words together, the others one word each.

    Parameters
    ----------
    model : Model
    words : sequence of str
        Of the graph. A column with declared categories holds those.
    """
    if isinstance(model.inputs, NumberInputs):
        return model.inputs.synthetic(int(np.clip(CELLS // len(model.inputs.columns), SELF_TEST_ROWS, MOST_ROWS)))
    rows = model.inputs.synthetic(SELF_TEST_ROWS)
    if not words or not isinstance(rows, Fields) or not isinstance(model.inputs, FieldInputs):
        return rows
    spoken = {name: cells for texts in model.inputs.texts for name, cells in _spoken(texts, words).items()}
    return Fields(rows.numbers, rows.others | spoken, rows.lengths)


def _spoken(texts: Texts, words: Sequence[str]) -> dict[str, npt.NDArray[np.object_]]:
    together = SELF_TEST_ROWS // 2
    cells = [" ".join(words[row::together]) for row in range(together)]
    cells += [words[row % len(words)] for row in range(together, SELF_TEST_ROWS)]
    free = (name for name, known in zip(texts.columns, texts.categories, strict=True) if known is None)
    return {name: np.array(cells, dtype=object) for name in free}

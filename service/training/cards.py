"""A model's card: prose with places for numbers, and the numbers of the run that made the model.

Tested in tests/training/test_cards.py.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from service.evaluation.number_format import decimal
from service.evaluation.prequential import PrequentialReport

PROSE_FILE: Final = "card.md.in"
CARD_FILE: Final = "README.md"
METRICS_FILE: Final = "metrics.json"
FIGURES: Final = "figures"

_PLACE: Final = re.compile(r"\{([a-z0-9_.-]+)\}")


def write_card(folder: Path, metrics: Mapping[str, Any], figures: Mapping[str, str], *, prose: Path) -> None:
    """Write a model's card, its numbers and its pictures.

    Parameters
    ----------
    folder : Path
        The model's, beside its versions.
    metrics : mapping
        What `metrics.json` holds: ``version``, ``digest``, ``test`` (metrics of the published version on its test
        rows), ``tables`` and ``texts``. Prose names them by path: ``{tables.losses}``.
    figures : mapping of str to str
        SVG by name; prose shows them as ``![…](figures/NAME.svg)``.
    prose : Path
        Text with places in braces.
    """
    text = json.dumps(metrics, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    (folder / METRICS_FILE).write_text(text, encoding="utf-8")
    (folder / FIGURES).mkdir(exist_ok=True)
    for name, svg in figures.items():
        (folder / FIGURES / f"{name}.svg").write_text(svg, encoding="utf-8")
    (folder / CARD_FILE).write_text(card(prose.read_text(encoding="utf-8"), metrics), encoding="utf-8")


def card(prose: str, metrics: Mapping[str, Any]) -> str:
    """The text of a card.

    Raises
    ------
    KeyError
        For a place that `metrics` has no number for.

    Examples
    --------
    >>> card("Log loss {test.log_loss}.", {"test": {"log_loss": 0.25}})
    'Log loss 0.250.'
    """
    return _PLACE.sub(lambda place: _shown(_found(metrics, place[1])), prose)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown.

    Examples
    --------
    >>> print(table(["loss", "ECE"], [["focal", "0.01"]]))
    | loss | ECE |
    |---|---|
    | focal | 0.01 |
    """
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("|---" * len(line) + "|" if line[0] == "---" else f"| {' | '.join(line)} |" for line in lines)


def coded_table(found: PrequentialReport) -> str:
    """A table of calibrators by prequential code length, the shortest code first.

    Parameters
    ----------
    found : PrequentialReport
    """
    numbers = {name: (own.bits_per_label, own.excess, own.standard_error) for name, own in found.calibrators.items()}
    lines = [[name, *(decimal(number) for number in own)] for name, own in numbers.items()]
    return table(["calibrator", "bits per label", "more than the shortest", "standard error"], lines)


def _found(metrics: Mapping[str, Any], path: str) -> Any:
    value: Any = metrics
    for key in path.split("."):
        value = value[key]
    return value


def _shown(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)

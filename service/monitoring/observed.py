"""Answers and outcomes of a window as the observations of a report, with what shadows made of the same rows."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from service.core.numerics import Indices
from service.monitoring.answered_blocks import Block, Row, read_blocks
from service.monitoring.observations import (
    ACTION,
    ASCERTAINMENTS,
    UNKNOWN,
    AnsweredRows,
    Decided,
    LabelSets,
    Observations,
    Predictions,
)
from service.monitoring.recorded_blocks import PartBlock
from service.monitoring.shadow_performance import PairedPredictions
from service.monitoring.truth import in_force
from service.monitoring.window import Window
from service.store.engine import Store
from service.store.entries import Outcome

Shadows = dict[str, list[PairedPredictions]]


def observe(store: Store, model: str, window: Window) -> tuple[Observations, Shadows]:
    """What a window of the store holds of a model, and pairs with every shadow, by part.

    Parameters
    ----------
    store : Store
    model : str
    window : Window

    Raises
    ------
    StoreUnavailable, StoreDamaged
    ValueError
        If the window's times are none.
    """
    blocks, more, left_out = read_blocks(store, model, window)
    found = observations(model, blocks, more=more, left_out=left_out)
    shadows, _, _ = read_blocks(store, model, window, shadows=True)
    return found, _pairs(found, _rows(blocks, found), shadows)


def observations(model: str, blocks: Sequence[Block], *, more: int, left_out: Counter[str]) -> Observations:
    """Blocks of a model as the observations of a report; those with other classes than the latest are left out.

    Parameters
    ----------
    model : str
    blocks : sequence of Block
    more : int
    left_out : Counter of str
    """
    newest = max(blocks, key=lambda block: block.created[-1], default=None)
    own = [block for block in blocks if newest is not None and _alike(block, newest)]
    others = sum(len(block.rows) for block in blocks) - sum(len(block.rows) for block in own)
    counted = left_out + Counter({"other_classes": others})
    alarms = {block.false_alarm for block in own}
    return Observations(
        model=model,
        task="multiclass" if newest is None else newest.task,
        versions=tuple(sorted({block.version for block in own})),
        calibrations={str(block.version): block.calibration for block in own},
        false_alarm=alarms.pop() if len(alarms) == 1 else None,
        rows=_answered(own),
        parts=_parts(own),
        more=more,
        left_out=dict(counted),
    )


def _alike(block: Block, other: Block) -> bool:
    return (block.task, block.classes) == (other.task, other.classes)


def _answered(blocks: Sequence[Block]) -> AnsweredRows:
    outcomes = [several for block in blocks for several in block.outcomes]
    forced = [in_force(several) for several in outcomes]
    numbers: dict[tuple[Any, ...], int] = {}
    subjects = [numbers.setdefault(key, len(numbers)) for block in blocks for key in block.subject]
    names = dict.fromkeys(name for block in blocks for name in block.keys)
    flags = [np.full(len(b.rows), UNKNOWN) if b.flagged is None else b.flagged for b in blocks]
    return AnsweredRows(
        requests=sum(block.requests for block in blocks),
        created=_integers([when for block in blocks for when in block.created]),
        subject=_integers(subjects),
        keys={name: [key for block in blocks for key in block.keys[name]] for name in names},
        flagged=np.concatenate([np.zeros(0, dtype=np.intp), *flags]).astype(np.intp),
        ascertainment=_integers([_ascertainment(several) for several in outcomes]),
        observed=_integers([UNKNOWN if one is None else one.observed_at for one in forced]),
        received=_integers([UNKNOWN if one is None else one.received for one in forced]),
        contradictions=_integers([sum(one.contradicts for one in several) for several in outcomes]),
    )


def _integers(values: list[int]) -> Any:
    return np.array(values, dtype=np.int64)


def _ascertainment(outcomes: Sequence[Outcome]) -> int:
    """Why the outcome is known: the action only where no other outcome came."""
    if not outcomes:
        return UNKNOWN
    others = [one for one in outcomes if one.ascertainment != ASCERTAINMENTS[ACTION]]
    return ACTION if not others else ASCERTAINMENTS.index(others[-1].ascertainment)


def _parts(blocks: Sequence[Block]) -> dict[str, Predictions]:
    starts = np.concatenate([[0], np.cumsum([len(block.rows) for block in blocks], dtype=np.int64)])
    names = dict.fromkeys(name for block in blocks for name in block.parts)
    return {
        name: _joined([(int(s), b.parts[name]) for s, b in zip(starts, blocks, strict=False) if name in b.parts])
        for name in names
    }


def _joined(blocks: Sequence[tuple[int, PartBlock]]) -> Predictions:
    offsets = np.concatenate([[0], np.cumsum([len(part.labels) for _, part in blocks])]).tolist()
    placed = list(zip(offsets, (part for _, part in blocks), strict=False))
    return Predictions(
        classes=blocks[0][1].classes,
        row=np.concatenate([part.row + start for start, part in blocks]),
        log_probs=np.concatenate([part.log_probs for _, part in blocks]),
        labels=np.concatenate([part.labels for _, part in blocks]),
        decided=tuple(_decided(placed)),
        sets=tuple(_sets(placed)),
    )


def _decided(placed: Sequence[tuple[int, PartBlock]]) -> Iterator[Decided]:
    """Decisions with the same name and costs together."""
    by_policy: dict[tuple[Any, ...], list[tuple[int, Any]]] = {}
    for offset, part in placed:
        for own in part.decided:
            policy = own.policy
            key = (policy.name, policy.source, policy.actions, policy.cost.tobytes(), policy.on_ood)
            by_policy.setdefault(key, []).append((offset, own))
    for several in by_policy.values():
        places = np.concatenate([own.places + offset for offset, own in several])
        yield Decided(several[0][1].policy, places, np.concatenate([own.action for _, own in several]))


def _sets(placed: Sequence[tuple[int, PartBlock]]) -> Iterator[LabelSets]:
    own = [(o, p.coverage, p.member) for o, p in placed if p.coverage is not None and p.member is not None]
    if not own:
        return
    coverage = np.concatenate([part for _, part, _ in own])
    places = np.concatenate([np.arange(len(part)) + offset for offset, part, _ in own])
    member = np.concatenate([part for _, _, part in own])
    for level in np.unique(coverage[~np.isnan(coverage)]):
        at = coverage == level
        yield LabelSets(float(level), places[at], member[at])


def _rows(blocks: Sequence[Block], found: Observations) -> list[Row]:
    """Request and row of every observation: none where no block was read."""
    newest = max(blocks, key=lambda block: block.created[-1], default=None)
    rows = [row for block in blocks if newest is not None and _alike(block, newest) for row in block.rows]
    return rows if len(rows) == len(found.rows) else []


def _pairs(found: Observations, rows: list[Row], shadows: Sequence[Block]) -> Shadows:
    place = {row: i for i, row in enumerate(rows)}
    by_version: dict[int, list[Block]] = {}
    for block in shadows:
        by_version.setdefault(block.version, []).append(block)
    pairs: Shadows = {}
    for version, blocks in by_version.items():
        for name, part in found.parts.items():
            own = [(b.parts[name], [place.get(row, UNKNOWN) for row in b.rows]) for b in blocks if name in b.parts]
            paired = _paired(version, found, part, own)
            if paired is not None:
                pairs.setdefault(name, []).append(paired)
    return pairs


def _paired(
    version: int, found: Observations, part: Predictions, own: Sequence[tuple[PartBlock, list[int]]]
) -> PairedPredictions | None:
    """Predictions of rows that both made, with an outcome that is not known by the action alone."""
    shadow = np.full(part.log_probs.shape, np.nan)
    for block, rows in own:
        if block.classes != part.classes:
            continue
        row = np.array(rows, dtype=np.intp)[block.row]
        known = row != UNKNOWN
        shadow[_places(part.row, row[known])] = block.log_probs[known]
    routine = found.rows.ascertainment[part.row] != ACTION
    kept = ~np.isnan(shadow[:, 0]) & (part.labels >= 0) & routine
    if not kept.any():
        return None
    return PairedPredictions(
        version, replace(part.part(kept), sets=()), shadow[kept], found.rows.subject[part.row[kept]]
    )


def _places(answered: Indices, shadow: Indices) -> Indices:
    """Where the predictions of a shadow lie among those that were answered: both are in order within a row."""
    order = np.argsort(shadow, kind="stable")
    ordered = shadow[order]
    places: Indices = np.empty(len(shadow), dtype=np.intp)
    places[order] = np.searchsorted(answered, ordered) + np.arange(len(shadow)) - np.searchsorted(ordered, ordered)
    return places

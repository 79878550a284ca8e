"""How much the model's output differs between batches, and how much every OOD score differs with it.

ONNX Runtime chooses kernels by the batch and by the processor, so the last digits of a row's output differ. `fit` runs
some calibration rows alone, in batches and in another order. It then propagates the difference that it finds through
each score, by moving logits (or features) by as much.
"""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from service.bundle.record import BandRecord
from service.core.detector import Detector, logit_gaps
from service.core.numerics import Array, Indices, log_softmax
from service.core.score_ties import ROUNDING, clear_edge
from service.data.dataset import Dataset
from service.prediction.bulk import CHUNK_ROWS
from service.runtime.model import Model, Raw
from service.runtime.rows import Rows

ROWS: Final = 128  # that are run again: five more runs of each
BATCHES: Final = (1, 2, 7, 64)
SAFETY: Final = 8.0
"""Times the largest difference measured: other processors have other kernels, and other rows may differ more."""

DIGITS: Final = 4.0
"""Units in the last place of the graph's own output, the least noise that is assumed."""

FEW: Final = 16  # numbers that are moved one by one; of more, all together in random directions
DIRECTIONS: Final = 8
WIDEST: Final = 1.0  # of a logarithm: nearer to its floor a probability's noise is more than the number itself
EPS: Final = {"tensor(float16)": 2.0**-10, "tensor(float)": 2.0**-23, "tensor(double)": 2.0**-52}

Plain = Callable[[Raw], Array]
"""A score of every row as thresholds rest on it: computed in float64, for all rows at once."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Outputs for some calibration rows by several paths through the model.

    Attributes
    ----------
    model : Model
    paths : tuple of tuple of Raw
        The same rows in the same order, in batches of every size.
    logits, features : float
        Largest difference between paths, relative to 1 + the largest of the row's numbers.
    """

    model: Model
    paths: tuple[tuple[Raw, ...], ...]
    logits: float
    features: float

    def reach(self, bare: Detector, plain: Plain, raw: Raw) -> Array:
        """How far another path may compute each row's score from this one, shape (N,).

        Parameters
        ----------
        bare : Detector
        plain : callable
        raw : Raw
            Calibration rows.
        """
        featured = bare.score.needs == "features"
        arithmetic = SAFETY * self._arithmetic(bare, plain)
        if featured and not self.model.manifest.ood.looks_at_tensor:
            return ROUNDING.widths(plain(raw)) + arithmetic  # inputs are the same on every path
        return self.propagated(plain, raw, featured=featured) + arithmetic

    def propagated(self, plain: Plain, raw: Raw, *, featured: bool = False) -> Array:
        """How much noise in the logits, or in the features, changes a number computed from them, shape (N,).

        Parameters
        ----------
        plain : callable
            The number of every row.
        raw : Raw
        featured : bool
            Whether it is computed from the features.
        """
        starts = range(0, len(raw.logits), CHUNK_ROWS)
        parts = (raw.part(np.arange(i, min(i + CHUNK_ROWS, len(raw.logits)))) for i in starts)
        return np.concatenate([self._propagated(plain, part, featured=featured) for part in parts])

    def _propagated(self, plain: Plain, raw: Raw, *, featured: bool) -> Array:
        values, numbers = raw.features if featured else raw.logits, plain(raw)
        step = self._feature_steps(values) if featured else self._logit_steps(values)

        def changes(direction: Array) -> Array:
            moved = values + direction * step
            other = dataclasses.replace(raw, features=moved) if featured else dataclasses.replace(raw, logits=moved)
            return np.abs(plain(other) - numbers)

        return ROUNDING.widths(numbers) + _largest_change(changes, values)

    def of_labels(self, logits: Array, labels: Indices) -> Array:
        r"""How far another path may compute the log-probability of each row's label, shape (N,).

        First order, :math:`|d \log p_y| \le e_y + \sum_k p_k e_k` for errors e of the logits.
        """
        log_probs, rows = log_softmax(logits), np.arange(len(labels))
        steps = np.broadcast_to(self._logit_steps(logits), log_probs.shape)
        moved = steps[rows, labels] + np.einsum("nk,nk->n", np.exp(log_probs), steps)
        return np.asarray(ROUNDING.widths(log_probs[rows, labels]) + moved)

    def tie(self, logits: Array) -> float:
        """When two classes are tied for the predicted one: a limit on `logit_gaps` that no calibration row is near."""
        least = 2.0 * (SAFETY * self.logits + DIGITS * self._grain(self.model.manifest.graph.output))
        gaps = logit_gaps(logits)
        return clear_edge(gaps[gaps < 8.0 * least], least, 8.0 * least)

    def record(self, bare: Detector, at: float, tie: float) -> BandRecord:
        """For `calibration.json`; ``at`` is the band of the calibration score that gives the threshold."""
        return BandRecord(
            at_threshold=at,
            measured=self.features if bare.score.needs == "features" else self.logits,
            safety=SAFETY,
            rows=sum(len(raw.logits) for raw in self.paths[0]),
            paths=len(self.paths),
            tie=tie,
        )

    def _feature_steps(self, features: Array) -> Array:
        size = np.abs(features).max(axis=1, keepdims=True)
        grain = DIGITS * self._grain(self.model.manifest.ood.space)
        return np.asarray(SAFETY * self.features * (1.0 + size) + grain * size)

    def _logit_steps(self, logits: Array) -> Array:
        graph = self.model.manifest.graph
        size, grain = np.abs(logits).max(axis=-1, keepdims=True), DIGITS * self._grain(graph.output)
        step = SAFETY * self.logits * (1.0 + size) + grain * size
        if graph.output_kind == "sigmoid_probabilities":  # what is left of a sigmoid near 1 has the digits of 1
            step = step + np.minimum(grain * (1.0 + np.exp(np.abs(logits))), WIDEST)
        if graph.output_kind == "probabilities" and logits.shape[-1] == 2:  # so has the complement of one column
            step = step + np.minimum(grain * np.exp(-logits), WIDEST)
        return np.asarray(step)

    def _arithmetic(self, bare: Detector, plain: Plain) -> float:
        # The service's own paths for the same output: one row, a batch, the fused sweep, float32 above 100 classes.
        chain = dataclasses.replace(self.model.chain, detectors=(bare,), calibrated=False)
        model, widest = dataclasses.replace(self.model, chain=chain), 0.0
        for raw in (raw for path in self.paths for raw in path):
            exact = plain(dataclasses.replace(raw, logits=raw.logits.astype(np.float64, copy=False)))
            apart = np.abs(model.posterior_of(raw).scores[:, 0] - exact)
            beyond = apart[apart > ROUNDING.widths(exact) / SAFETY]  # the rest is in every band already
            widest = max(widest, float(beyond.max(initial=0.0)))
        return widest

    def _grain(self, output: str) -> float:
        return next(EPS[tensor.type] for tensor in self.model.session.outputs if tensor.name == output)


def measure_noise(model: Model, data: Dataset, raw: Raw, *, seed: int) -> Noise:
    """Run some calibration rows again: alone, in small batches, and all together in another order.

    Parameters
    ----------
    model : Model
    data : Dataset
    raw : Raw
        The graph's outputs for all rows.
    seed : int
    """
    chosen = np.sort(np.random.default_rng(seed).permutation(len(data))[:ROWS])
    rows = data.rows[chosen]
    paths = [tuple(_in_batches(model, rows, size)) for size in BATCHES]
    order = np.random.default_rng(seed).permutation(len(chosen))
    paths.append((model.raw(rows[order]).part(np.argsort(order)),))
    known, tensor = raw.part(chosen), model.manifest.ood.looks_at_tensor
    logits = max(_difference(known.logits, [part.logits for part in path]) for path in paths)
    features = max(_difference(known.features, [part.features for part in path]) for path in paths) if tensor else 0.0
    return Noise(model, tuple(paths), logits, features)


def _in_batches(model: Model, rows: Rows, size: int) -> Iterator[Raw]:
    for start in range(0, len(rows), size):
        yield model.raw(rows[start : start + size])


def _difference(one: Array, parts: list[Array]) -> float:
    size = 1.0 + np.abs(one).max(axis=-1, keepdims=True)
    return float((np.abs(one - np.concatenate(parts)) / size).max())


def _largest_change(changes: Callable[[Array], Array], values: Array) -> Array:
    # First order: changes of single numbers add up at worst. Of many numbers, each rounding is a draw of its own: twice
    # the largest change along some directions. And the predicted class of every position against all others.
    width, top = values.shape[-1], np.zeros(values.shape)
    np.put_along_axis(top, values.argmax(axis=-1, keepdims=True), 2.0, axis=-1)
    against = np.maximum(changes(top - 1.0), changes(1.0 - top))
    if width <= FEW:
        return np.maximum(against, sum(np.maximum(changes(one), changes(-one)) for one in np.eye(width)))
    random = 2.0 * np.random.default_rng(0).choice([-1.0, 1.0], size=(DIRECTIONS, width))
    return np.asarray(np.maximum.reduce([against, *map(changes, random)]))

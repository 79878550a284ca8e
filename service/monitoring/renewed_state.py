"""`state.npz` of a refit: thresholds of recorded scores, label sets, a sample for estimates, and the self-test.

States of feature scores, and their thresholds, are those of the version before: inputs are not recorded.

Tested in tests/monitoring/test_refit.py.
"""

import numpy as np

from service.bundle.record import BandRecord, EstimationRecord, LabelSetsRecord, PrevalenceRecord, Record, ScoreRecord
from service.bundle.self_test import pack_self_test
from service.bundle.stage_test import pack_stage_test, restore_stage_test
from service.bundle.state import State
from service.core.detector import Detector
from service.core.numerics import Array, Indices
from service.fitting.label_sets import fit_sets
from service.fitting.numerical_noise import ROWS, Noise
from service.fitting.ood_detectors import TUNED, Terms, packed, plain_of, with_thresholds
from service.fitting.prevalence_estimation import check_estimation
from service.fitting.self_test_rows import MOST_WORDS, self_test_rows
from service.fitting.splits import one_per_group
from service.fitting.stage_vectors import Spread, declared_test, learned_test
from service.graph.loading import load_graph
from service.graph.vocabulary import words_of
from service.monitoring.labelled_answers import LabelledAnswers
from service.monitoring.proposal import flags_of
from service.runtime.model import Model, Raw, self_test_of

Extras = tuple[LabelSetsRecord | None, EstimationRecord | None, State]


def renewed_scores(
    model: Model, old: Record, answers: LabelledAnswers, *, seed: int
) -> tuple[dict[str, ScoreRecord], State]:
    """Thresholds of all scores: that of `nll` from the recorded rows, all others as they are.

    Parameters
    ----------
    model : Model
        The version before.
    old : Record
        Its record.
    answers : LabelledAnswers
    seed : int
        Of the one row that is drawn from every subject.

    Raises
    ------
    FitError
        If the rows are too few for the false-alarm rate.
    """
    found = {d.name: (d, old.scores[d.name]) for d in model.chain.detectors}
    if TUNED in found:
        found[TUNED] = _renewed_nll(model, *found[TUNED], answers, seed=seed)
    return {name: own for name, (_, own) in found.items()}, packed(tuple(d for d, _ in found.values()))


def renewed_sets(
    model: Model, old: Record, answers: LabelledAnswers, held: Array | None, *, source: PrevalenceRecord
) -> Extras:
    """Label sets and prevalence estimation from the recorded rows, as far as the version had them.

    Parameters
    ----------
    model : Model
    old : Record
    answers : LabelledAnswers
    held : ndarray of shape (N, K) or None
        Log-probabilities out of fold; None of a multilabel model.
    source : PrevalenceRecord
    """
    if old.label_sets is None or held is None:
        return None, None, {}
    data, noise = answers.data(), _noise(model, old.scores.get(TUNED), answers)
    band = {} if noise is None else {"band": noise.of_labels(answers.logits, data.labels)}
    sets, state = fit_sets(answers.logits, data, model.classes, method=old.label_sets.method, **band)
    gate: Indices = (~flags_of(model, answers)).astype(np.intp)
    estimation, sample = check_estimation(held, data, source, model.classes, gate=gate)
    return sets, estimation, state | sample


def renewed_self_tests(model: Model, before: State) -> State:
    """Both parts of the self-test, answered anew; feature vectors lie about where those of the version before do.

    Parameters
    ----------
    model : Model
        As refitted.
    before : dict of str to ndarray
        State of the version before.
    """
    earlier = restore_stage_test("learned", before)
    vectors = None if earlier is None else earlier.inputs.get("features")
    learned = learned_test(model.stages, None if vectors is None else Spread.behind(vectors.astype(np.float64)))
    parts = pack_stage_test("learned", learned)
    parts |= pack_stage_test("declared", declared_test(model.stages, learned))
    words = words_of(load_graph(model.bundle.graph_path), most=MOST_WORDS)
    return pack_self_test(self_test_of(model, self_test_rows(model, words))) | parts


def _renewed_nll(
    model: Model, detector: Detector, old: ScoreRecord, answers: LabelledAnswers, *, seed: int
) -> tuple[Detector, ScoreRecord]:
    held = one_per_group(answers.data(), np.arange(len(answers)), seed)
    noise = _noise(model, old, answers)
    bare = Detector(detector.name, detector.score, None, None, gated=detector.gated)
    terms, raw = Terms(seed, old.confidence, noise=noise), _raw(model, answers.logits[held])
    bands: dict[str, BandRecord] = {}
    new = with_thresholds(bare, plain_of(bare.name, bare.score), raw, model.manifest, terms, bands=bands)
    changes: dict[str, object] = {"threshold": new.threshold, "rows": len(held), "kept_rows": None}
    if old.band is not None and bare.name in bands:
        changes["band"] = old.band.model_copy(update={"at_threshold": bands[bare.name].at_threshold, "tie": new.tie})
    return new, old.model_copy(update=changes)


def _noise(model: Model, score: ScoreRecord | None, answers: LabelledAnswers) -> Noise | None:
    """The noise that `fit` measured: the recorded rows cannot be run again."""
    if score is None or score.band is None:
        return None
    some = _raw(model, answers.logits[:ROWS])
    return Noise(model, ((some,),), score.band.measured, 0.0)


def _raw(model: Model, logits: Array) -> Raw:
    n = len(logits)
    features = np.zeros((n, 0))
    return Raw(np.full((n, len(model.chain.low)), np.nan), logits, features)

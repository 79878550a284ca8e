"""What `protein-structure` shows: padding changes nothing, and a smoother harms what has read the neighbours."""

import numpy as np
import pytest

from service.bundle.repository import Repository
from service.core.assessment.metrics import log_loss
from service.core.losses.sequence import PADDING
from service.core.sequence import flat, lengths_of
from service.prediction.bulk import posterior_of
from service.runtime.model import Model, load_model
from service.runtime.rows import Fields
from tests.models.recipes import MODELS, metrics, recipe, splits

NAME = "protein-structure"


@pytest.fixture(scope="module")
def tagger() -> Model:
    return load_model(Repository(MODELS).bundle(NAME, Repository(MODELS).aliases(NAME)["stable"]))


def chains(lengths: tuple[int, ...], *, width: int) -> Fields:
    """Random chains of amino acids, padded to a width."""
    tokens = np.random.default_rng(0).integers(1, 21, (len(lengths), width))
    tokens[np.arange(width) >= np.array(lengths)[:, None]] = 0
    return Fields(np.empty((len(lengths), 0)), {"x": tokens}, np.array(lengths))


def test_a_chain_is_answered_alike_alone_and_beside_a_longer_one(tagger: Model) -> None:
    alone, beside = chains((60,), width=60), chains((60, 400), width=400)
    beside.others["x"][0, :60] = alone.others["x"][0]
    together = tagger.raw(beside).logits[0, :60]
    np.testing.assert_allclose(together, tagger.raw(alone).logits[0], rtol=0, atol=1e-5)


def test_the_manifest_declares_the_price_on_change_and_fit_chose_no_smoother(tagger: Model) -> None:
    assert tagger.manifest.training.smoothness == 1.0
    assert tagger.smoother == metrics(NAME)["texts"]["smoother"] == "none"
    assert tagger.has_chain


def test_hmm_spoils_the_probabilities_of_the_published_version(tagger: Model) -> None:
    test = splits(recipe(NAME))["test"]
    lengths = (test.labels != PADDING).sum(axis=1)
    posterior = posterior_of(tagger, Fields(np.empty((len(test), 0)), {"x": test.inputs}, lengths))
    true = test.labels[test.labels != PADDING]
    losses = [log_loss(flat(tagger.smoothed(posterior, name), lengths_of(posterior)), true) for name in ("none", "hmm")]
    assert losses[0] == pytest.approx(metrics(NAME)["test"]["log_loss"], abs=1e-4)
    assert losses[1] > losses[0] + 0.3

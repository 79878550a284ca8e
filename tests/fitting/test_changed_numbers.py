"""Whatever number of a version is changed, sums renewed: it is refused in one line, or answers as it did."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.bundle.repository import Repository
from service.core.calibration import CALIBRATORS
from service.core.ood import SCORES
from service.errors import BundleDamaged
from service.fitting.fit import FitRequest, fit
from service.runtime.model import Model, load_model
from tests.fitting.changed import CHANGES, Json, Version, numbers, with_cell, with_number
from tests.tasks.conftest import draw_labels, draw_sequences, label_draft, sequence_draft

Make = Callable[[str], Version]
Change = tuple[str, Json | None, Any]
CLASSES = ("ann", "bob", "cyd")
TAIL = """
[ood]
scores = [{scores}]
gate = [{scores}, "range"]
false_alarm = 0.2
{more}
[features.f0]
plausible = [-20, 20]
[sites.clinic]
prevalence = {{ {shares} }}
[policies.act]
on_ood = "wait"
[policies.act.costs]
wait = {{ {waiting} }}
go = {{ {going} }}
"""


def tail(k: int, *scores: str, more: str = "") -> str:
    """Scores, a range, a site and a policy of a toy of two or three classes."""
    shares = {2: (0.75, 0.25), 3: (0.5, 0.25, 0.25)}[k]

    def row(values: Any) -> str:
        return ", ".join(f"{name} = {value}" for name, value in zip(CLASSES[:k], values, strict=True))

    named = ", ".join(f'"{name}"' for name in scores)
    return TAIL.format(scores=named, more=more, shares=row(shares), waiting=row([1] * k), going=row(range(0, 5 * k, 5)))


@pytest.fixture
def make(
    tmp_path: Path,
    toy: Callable[..., Repository],
    truth: Callable[..., tuple[Any, Any]],
    save: Callable[..., Path],
    linear_graph: Callable[..., Path],
) -> Make:
    """A version of a kind: a calibrator, a score, a task or an output."""

    def fitted(k: int, more: str, **options: Any) -> Version:
        x, y = truth(300, k)
        repository = toy(k, more)
        return Version(repository, "toy", fit(repository, "toy", FitRequest(save(X=x, y=y), **options)).version)

    def other_output(kind: str) -> Version:
        repository, (x, y) = toy(2, tail(2, "nll")), truth(300, 2)
        folder, (weights, activation) = repository.folder("toy") / "draft", OUTPUTS[kind]
        graph = linear_graph(weights, [0.0] * len(weights[0]), activation=activation)
        (folder / "model.onnx").write_bytes(graph.read_bytes())
        if activation is not None:
            manifest = (folder / "manifest.toml").read_text()
            (folder / "manifest.toml").write_text(
                manifest.replace('"logits"', '"probabilities"').replace('"scores"', '"activated"')
            )
        return Version(repository, "toy", fit(repository, "toy", FitRequest(save(X=x, y=y))).version)

    def version(kind: str) -> Version:
        if kind in CALIBRATORS:
            k = 2 if CALIBRATORS[kind].needs == "binary" else 3
            return fitted(k, tail(k, "nll"), calibrator=kind)
        if kind in SCORES:
            return fitted(3, tail(3, kind))
        if kind == "per class":
            return fitted(3, tail(3, "nll", "knn", more="per_class = true"), calibrator="bcts", label_sets="raps")
        if kind in OUTPUTS:
            return other_output(kind)
        if kind == "labels":
            labels, (x, y, _) = label_draft(tmp_path), draw_labels(300, 0)
            return Version(labels.repository, labels.name, labels.fit(labels.rows("labels", X=x, y=y)).version)
        sequences, (x, y) = sequence_draft(tmp_path), draw_sequences(80, 0)
        return Version(sequences.repository, sequences.name, sequences.fit(sequences.rows("s", X=x, y=y)).version)

    return version


OUTPUTS: dict[str, tuple[list[list[float]], str | None]] = {
    "probabilities": ([[1.0, 0.0], [0.0, 1.0]], "Softmax"),
    "one column": ([[-1.0], [1.0]], None),
}
SOME = ("mahalanobis", "labels", "sequences")
VITAL = re.compile(
    r"(labels\.\w+\.)?(calibrator\.params|source\.prevalence)|scores\.\w+\.threshold|sequence\.(initial|transitions)"
    r"|(mahalanobis|vim|kl_matching|nll)\.\w+:"
)
"""What an answer cannot but rest on: parameters of stages A to D and thresholds."""
EVERY = (
    *CALIBRATORS,
    *(name for name, score in SCORES.items() if score.needs != "sigmoid_logits"),
    *("per class", *OUTPUTS, "labels", "sequences"),
)


def changes(version: Version, *, each: int) -> Iterator[Change]:
    """One number after the other, each changed in so many ways; what the change is called, and the new file."""
    record, state, ways = version.record, version.state, list(CHANGES.items())
    for i, at in enumerate(numbers(record)):
        for j in range(each):
            way, change = ways[(i + j) % len(ways)]
            yield f"{'.'.join(map(str, at))}: {way}", with_number(record, at, change), None
    rng = np.random.default_rng(0)
    for i, (name, array) in enumerate(state.items()):
        for j in range(each if array.size and array.dtype.kind in "fiu" else 0):
            way, change = ways[(i + j) % len(ways)]
            yield f"{name}: {way}", None, with_cell(state, name, int(rng.integers(array.size)), change)


def is_another(version: Version, record: Json | None, state: Any) -> bool:
    """Whether the change changed anything: a hundredth of zero is zero."""
    if record is not None:
        return json.dumps(record) != json.dumps(version.record)
    return any(array.tobytes() != version.state[name].tobytes() for name, array in state.items())


def refusal(version: Version) -> str | None:
    """Why a version is not loaded; None where it is, and its answers are possible ones."""
    try:
        model = load_model(version.loaded())
    except BundleDamaged as error:
        return str(error)
    check_answers(model)
    return None


def check_answers(model: Model) -> None:
    """Probabilities sum to one, and p-values lie above 0 and up to 1."""
    rng, width = np.random.default_rng(3), len(model.manifest.columns)
    posterior = model.posterior(rng.normal(scale=4.0, size=(20, width)))
    sums = np.exp(posterior.log_probs).sum(axis=-1)
    np.testing.assert_allclose(sums[sums > 0.0], 1.0, rtol=1e-6)
    assert posterior.p_values is not None
    assert ((posterior.p_values > 0.0) & (posterior.p_values <= 1.0)).all()


def check_refused(version: Version, what: str, reason: str | None) -> None:
    assert reason is not None, f"{what}: served"
    assert "\n" not in reason, f"{what}: {reason}"
    assert str(version.folder) in reason, f"{what}: {reason}"


def check_each(version: Version, *, each: int) -> None:
    old = version.record, version.state
    for what, record, state in changes(version, each=each):
        if is_another(version, record, state):
            version.write(record, state)
            check_refused(version, what, refusal(version))
            version.write(*old)
    assert refusal(version) is None


def check_each_bound(version: Version, *, each: int) -> dict[str, str | None]:
    """What becomes of changes whose hash was renewed too: a refusal in one line, or answers that are possible."""
    old, found = (version.record, version.state), dict[str, str | None]()
    for what, record, state in changes(version, each=each):
        if not is_another(version, record, state):
            continue
        try:
            version.write_bound(record, state)
        except BundleDamaged as error:  # no hash is made of a record that cannot be read
            found[what] = str(error)
            continue
        found[what] = refusal(version)
        assert "\n" not in (found[what] or "")
        version.write(*old)
    return found


def check_vital(found: dict[str, str | None]) -> None:
    served = [what for what, reason in found.items() if reason is None]
    assert [what for what in served if VITAL.match(what)] == []
    assert sum(1 for what in found if VITAL.match(what)) >= 4


@pytest.mark.parametrize("kind", SOME)
def test_a_changed_number_is_refused_although_the_sums_match(kind: str, make: Make) -> None:
    check_each(make(kind), each=1)


@pytest.mark.long
@pytest.mark.parametrize("kind", EVERY)
def test_every_change_of_every_number_is_refused_although_the_sums_match(kind: str, make: Make) -> None:
    check_each(make(kind), each=len(CHANGES))


@pytest.mark.parametrize("kind", ["mahalanobis", "labels"])
def test_a_changed_number_that_answers_rest_on_is_refused_although_hash_and_sums_match(kind: str, make: Make) -> None:
    check_vital(check_each_bound(make(kind), each=1))


@pytest.mark.long
@pytest.mark.parametrize("kind", EVERY)
def test_every_change_that_answers_rest_on_is_refused_although_hash_and_sums_match(kind: str, make: Make) -> None:
    found = check_each_bound(make(kind), each=len(CHANGES))
    if kind not in ("isotonic", "histogram", "relative_mahalanobis"):  # where curves are flat a knot moves nothing
        check_vital(found)


@pytest.mark.long
@pytest.mark.parametrize("kind", EVERY)
def test_a_version_without_a_self_test_of_its_stages_is_refused_or_answers_possibly(kind: str, make: Make) -> None:
    version = make(kind)
    version.make_old()
    old = version.record, version.state
    assert refusal(version) is None
    for what, record, state in changes(version, each=2):
        version.write(record, state)
        assert "\n" not in (refusal(version) or ""), what
        version.write(*old)

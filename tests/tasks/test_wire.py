"""Labels and sequences over HTTP, in process."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import numpy as np
import pytest

from service.bundle.repository import Repository
from service.core.smoothing import min_cost_path
from service.fitting.publish import publish_draft
from service.main import compose
from service.runtime.registry import Registry, load_registry
from service.settings import Settings
from tests.shipped_model import SHIPPED

Make = Callable[..., Any]
LABELS = ("ache", "burn", "chill")
OWN = {"burn": {"wait": {"absent": 0, "present": 5}, "act": {"absent": 1, "present": 0}}}


def client_of(registry: Registry) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(compose(Settings(audit="off"), registry))
    return httpx.AsyncClient(transport=transport, base_url="http://temperance")


@pytest.fixture
async def complaints(both_tasks: Registry) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the calibrated model of labels."""
    async with client_of(both_tasks) as client:
        yield client


@pytest.fixture
async def motion(both_tasks: Registry) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the calibrated tagger."""
    async with client_of(both_tasks) as client:
        yield client


async def ask(client: httpx.AsyncClient, verb: str, instances: Any, **more: Any) -> Any:
    answer = await client.post(f"/v1/models/{verb}", json={"instances": instances, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def refused(client: httpx.AsyncClient, verb: str, instances: Any, **more: Any) -> Any:
    answer = await client.post(f"/v1/models/{verb}", json={"instances": instances, **more})
    assert answer.status_code == 422, answer.text
    assert "\n" not in answer.json()["detail"]
    return answer.json()


@pytest.mark.parametrize("verb", ["predict", "detect", "decide"])
async def test_models_of_every_task_answer_by_column_too(complaints: Any, motion: Any, verb: str) -> None:
    for client, name, rows in ((complaints, "complaints", [[2.0]]), (motion, "motion", [[0.5] * 25])):
        by_column = await ask(client, f"{name}:{verb}", rows, parameters={"layout": "columns"})
        assert len(by_column["columns"]["prediction_id"]) == 1
        assert "predictions" not in by_column
        assert "predictions" in await ask(client, f"{name}:{verb}", rows, parameters={"layout": "rows"})


async def test_labels_are_those_more_likely_than_not_and_each_has_its_probability(complaints: Any) -> None:
    answer = await ask(complaints, "complaints:predict", [[2.0], [-2.0], [0.3]])
    assert answer["calibration"] == {"method": "per_label", "status": "ok", "support": 1 / 2001}
    assert set(answer["prevalence"]["source"]) == set(LABELS)
    for row in answer["predictions"]:
        assert set(row) == {"prediction_id", "labels", "probabilities"}
        assert row["labels"] == [name for name in LABELS if row["probabilities"][name] >= 0.5]
    assert answer["predictions"][0]["labels"] == ["ache"]


async def test_a_site_moves_every_label_to_its_own_share(complaints: Any) -> None:
    here = await ask(complaints, "complaints:predict", [[0.5]])
    there = await ask(complaints, "complaints:predict", [[0.5]], parameters={"site": "ward"})
    assert there["prevalence"]["target"] == {"ache": 0.9, "burn": 0.1, "chill": 0.5}
    source = here["prevalence"]["source"]
    for label, target in there["prevalence"]["target"].items():
        p, q = (answer["predictions"][0]["probabilities"][label] for answer in (here, there))
        odds = p / (1 - p) * (target / (1 - target)) / (source[label] / (1 - source[label]))
        assert q == pytest.approx(odds / (1 + odds))
    own = await ask(complaints, "complaints:predict", [[0.5]], parameters={"prevalence": there["prevalence"]["target"]})
    assert own["predictions"][0]["probabilities"] == there["predictions"][0]["probabilities"]


async def test_every_label_that_has_costs_is_decided_by_them(complaints: Any) -> None:
    answer = await ask(complaints, "complaints:decide", [[0.1], [-1.0]])
    for row in answer["predictions"]:
        assert set(row["decisions"]) == {"ache", "burn"}
        p, decision = row["probabilities"]["ache"], row["decisions"]["ache"]
        assert decision["risks"] == pytest.approx({"wait": 9 * p, "treat": 1 - p, "ask": 2.0})
        assert decision["risk"] == decision["risks"][decision["action"]]
        assert decision["policy"] == {"name": "care", "source": "manifest"}
        assert set(row["ood"]["scores"]) == {"joint_energy"}


async def test_a_flag_takes_over_the_labels_that_have_the_action(complaints: Any) -> None:
    rows = np.linspace(-3, 3, 121)[:, None].tolist()
    answer = await ask(complaints, "complaints:decide", rows)
    flagged = [row for row in answer["predictions"] if row["ood"]["flagged"]]
    assert 0 < len(flagged) < len(rows)
    for row in flagged:
        assert (row["decisions"]["ache"]["action"], row["decisions"]["ache"]["reason"]) == ("ask", "ood")
        assert row["decisions"]["burn"]["reason"] in {"lowest_risk", "tie"}
    for row in answer["predictions"]:
        assert (row["decisions"]["ache"]["reason"] == "ood") == row["ood"]["flagged"]


async def test_costs_of_the_request_s_own_decide_the_labels_they_name(complaints: Any) -> None:
    answer = await ask(complaints, "complaints:decide", [[0.0]], parameters={"label_costs": OWN})
    decision = answer["predictions"][0]["decisions"]
    assert list(decision) == ["burn"]
    assert decision["burn"]["policy"] == {"name": "(request)", "source": "request"}
    p = answer["predictions"][0]["probabilities"]["burn"]
    assert decision["burn"]["risks"] == pytest.approx({"wait": 5 * p, "act": 1 - p})


@pytest.mark.parametrize("first", [0, 1])
async def test_labels_that_are_present_may_be_indices(complaints: Any, labels_drawn: Make, first: int) -> None:
    x, y, _ = labels_drawn(50, 3)
    present = [(first + np.flatnonzero(row)).tolist() for row in y]
    stated = {"labels_as": f"index{first}"}
    indexed = await ask(complaints, "complaints:evaluate", x.tolist(), labels=present, parameters=stated)
    states = await ask(complaints, "complaints:evaluate", x.tolist(), labels=y.tolist())
    assert indexed["evaluation"] == states["evaluation"]
    await refused(complaints, "complaints:evaluate", x.tolist(), labels=[[3 + first]] * 50, parameters=stated)


async def test_states_of_labels_may_be_true_and_false_or_decimals(complaints: Any, labels_drawn: Make) -> None:
    x, y, _ = labels_drawn(50, 3)
    whole = await ask(complaints, "complaints:evaluate", x.tolist(), labels=y.tolist())
    for form in (y > 0, y.astype(float)):
        found = await ask(complaints, "complaints:evaluate", x.tolist(), labels=form.tolist())
        assert found["evaluation"] == whole["evaluation"]
    await refused(complaints, "complaints:evaluate", x[:1].tolist(), labels=[[0.5, 0, 1]])
    stated = {"labels_as": "index0"}
    await refused(complaints, "complaints:evaluate", x[:1].tolist(), labels=[[True, False, True]], parameters=stated)


async def test_positions_of_all_sequences_together_tell_what_labels_are(motion: Any, sequences_drawn: Make) -> None:
    x, y = sequences_drawn(20, 2)
    y[0] = 1  # the first sequence alone might count from 1
    plain = await ask(motion, "motion:evaluate", x.tolist(), labels=y.tolist())
    stated = await ask(
        motion, "motion:evaluate", x.tolist(), labels=(y + 1).tolist(), parameters={"labels_as": "index1"}
    )
    assert stated["evaluation"] == plain["evaluation"]
    await refused(motion, "motion:evaluate", x[:1].tolist(), labels=y[:1].tolist())


@pytest.mark.parametrize("form", ["names", "states"])
async def test_labelled_rows_are_evaluated_label_by_label(complaints: Any, labels_drawn: Make, form: str) -> None:
    x, y, _ = labels_drawn(200, 3)
    names = [[LABELS[m] for m in np.flatnonzero(row)] for row in y]
    labels = names if form == "names" else y.tolist()
    answer = await ask(
        complaints,
        "complaints:evaluate",
        x.tolist(),
        labels=labels,
        parameters={"losses": ["multilabel_cross_entropy"]},
    )
    found = answer["evaluation"]
    assert found["rows"] == 200
    assert {name: found["parts"][name]["class_counts"]["present"] for name in LABELS} == dict(
        zip(LABELS, y.sum(axis=0).tolist(), strict=True)
    )
    total = sum(found["parts"][name]["probabilities"]["metrics"]["log_loss"] for name in LABELS)
    assert found["losses"]["multilabel_cross_entropy"] == pytest.approx(total)
    assert set(found["parts"]["ache"]["policies"]) == {"care"}
    assert 0.0 <= found["structure"]["exact_match"]["observed"] <= 1.0


LABEL_REFUSALS: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "estimates": ("estimate", {}, "estimate-unavailable", "classes that exclude each other"),
    "label sets": (
        "predict",
        {"parameters": {"coverage": 0.9}},
        "invalid-parameters",
        "coverage: applies to multiclass",
    ),
    "a top": ("predict", {"parameters": {"top_k": 1}}, "invalid-parameters", "top_k: applies to multiclass models"),
    "a smoother": (
        "predict",
        {"parameters": {"smoother": "hmm"}},
        "invalid-parameters",
        "smoother: applies to sequence",
    ),
    "a price on change": (
        "decide",
        {"parameters": {"switch": 1.0}},
        "invalid-parameters",
        "switch: applies to sequence",
    ),
    "costs of classes": (
        "decide",
        {"parameters": {"costs": {"a": {"ache": 1, "burn": 1, "chill": 1}, "b": {"ache": 0, "burn": 0, "chill": 0}}}},
        "invalid-parameters",
        "costs: applies to multiclass and sequence models",
    ),
    "a site for each row": (
        "predict",
        {"parameters": {"site": ["ward"]}},
        "invalid-parameters",
        "site: of a multilabel model must be one for all instances",
    ),
    "a share of one": (
        "predict",
        {"parameters": {"prevalence": {"ache": 1.0, "burn": 0.5, "chill": 0.5}}},
        "invalid-parameters",
        "prevalence.ache: must be less than 1",
    ),
    "an unknown label": (
        "decide",
        {"parameters": {"label_costs": {"itch": OWN["burn"]}}},
        "invalid-parameters",
        "the costs name a label that the model does not have",
    ),
    "an unknown state": (
        "decide",
        {"parameters": {"label_costs": {"burn": {"a": {"absent": 1}, "b": {"absent": 1, "present": 0}}}}},
        "invalid-parameters",
        "lacks class 'present'",
    ),
    "costs beside a policy": (
        "decide",
        {"parameters": {"policy": "care", "label_costs": OWN}},
        "invalid-parameters",
        "cannot come together with label_costs",
    ),
    "an unknown policy": ("decide", {"parameters": {"policy": "cure"}}, "invalid-parameters", "there are: care"),
    "one name for a row": ("evaluate", {"labels": ["ache"]}, "invalid-labels", "labels.0 must be a list"),
    "an unknown name": ("evaluate", {"labels": [["itch"]]}, "invalid-labels", "must name labels among ache, burn"),
    "two states of three": ("evaluate", {"labels": [[0, 1]]}, "invalid-labels", "must have 3 entries of 0 or 1"),
    "no labels": ("evaluate", {"labels": []}, "invalid-labels", "one entry per instance"),
    "a loss of classes": (
        "evaluate",
        {"labels": [["ache"]], "parameters": {"losses": ["focal"]}},
        "invalid-parameters",
        "is none of multilabel_cross_entropy, sigmoid_focal",
    ),
}


@pytest.mark.parametrize(("verb", "more", "code", "fragment"), LABEL_REFUSALS.values(), ids=LABEL_REFUSALS.keys())
async def test_what_makes_no_sense_of_labels_is_refused_in_one_sentence(
    complaints: Any, verb: str, more: dict[str, Any], code: str, fragment: str
) -> None:
    problem = await refused(complaints, f"complaints:{verb}", [[0.1]], **more)
    assert problem["type"] == f"urn:temperance:problem:{code}"
    assert fragment in problem["detail"]


async def test_a_sequence_is_answered_position_by_position(motion: Any, sequences_drawn: Make) -> None:
    x, _ = sequences_drawn(3, 1)
    answer = await ask(motion, "motion:decide", x.tolist())
    assert answer["smoother"] == {"name": "hmm", "calibrated": True, "note": None}
    for row in answer["predictions"]:
        assert len(row["label"]) == len(row["probabilities"]) == len(row["decision"]) == 25
        assert "path" not in row
        assert isinstance(row["ood"]["flagged"], bool)
        for label, shares, decision in zip(row["label"], row["probabilities"], row["decision"], strict=True):
            assert label == max(shares, key=lambda name: shares[name])
            assert decision["risks"]["idle"] == pytest.approx(4 * shares["move"])


async def test_the_smoother_is_the_request_s_choice_and_the_answer_says_what_it_costs(
    motion: Any, sequences_drawn: Make
) -> None:
    x, _ = sequences_drawn(2, 1)
    stated = {
        name: await ask(motion, "motion:predict", x.tolist(), parameters={"smoother": name})
        for name in ("none", "hmm", "jsd")
    }
    default = await ask(motion, "motion:predict", x.tolist())
    assert default["predictions"][0]["probabilities"] == stated["hmm"]["predictions"][0]["probabilities"]
    assert not stated["jsd"]["smoother"]["calibrated"]
    assert "no longer calibrated" in stated["jsd"]["smoother"]["note"]
    strong = await ask(motion, "motion:predict", x.tolist(), parameters={"smoother": "jsd", "strength": 50.0})

    def changes(answer: Any) -> int:
        return sum(
            a != b for row in answer["predictions"] for a, b in zip(row["label"], row["label"][1:], strict=False)
        )

    assert changes(strong) <= changes(stated["jsd"]) <= changes(stated["none"])
    assert changes(stated["hmm"]) < changes(stated["none"])


async def test_a_price_on_change_counts_along_the_cheapest_path(motion: Any, sequences_drawn: Make) -> None:
    x, _ = sequences_drawn(2, 1)
    answer = await ask(motion, "motion:decide", x.tolist(), parameters={"policy": "alone", "switch": 2.5})
    for row in answer["predictions"]:
        risks = np.array([[d["risks"]["idle"], d["risks"]["act"]] for d in row["decision"]])
        best = min_cost_path(risks[None], lengths=np.array([25]), switch=2.5)[0]
        taken = [["idle", "act"][i] for i in best]
        assert [d["action"] for d in row["decision"]] == taken
        changes = int((best[1:] != best[:-1]).sum())
        total = risks[np.arange(25), best].sum() + 2.5 * changes
        assert row["path"] == {"switch": 2.5, "switches": changes, "total_risk": pytest.approx(total)}
        for decision in row["decision"]:
            assert ("overridden" in decision) == (decision["reason"] == "path")
            others = (risk for action, risk in decision["risks"].items() if action != decision["action"])
            assert decision["margin"] == pytest.approx(min(others) - decision["risk"], abs=1e-12)


async def test_a_prevalence_moves_positions_one_by_one_or_not_at_all(motion: Any, sequences_drawn: Make) -> None:
    x, _ = sequences_drawn(1, 1)
    shares = {"rest": 0.9, "move": 0.1}
    problem = await refused(motion, "motion:predict", x.tolist(), parameters={"prevalence": shares})
    assert problem["type"].endswith("prevalence-unavailable")
    assert "smoother = 'none'" in problem["detail"]
    plain = await ask(motion, "motion:predict", x.tolist(), parameters={"smoother": "none"})
    moved = await ask(motion, "motion:predict", x.tolist(), parameters={"smoother": "none", "prevalence": shares})
    source = plain["prevalence"]["source"]
    for before, after in zip(
        plain["predictions"][0]["probabilities"], moved["predictions"][0]["probabilities"], strict=True
    ):
        odds = before["move"] / before["rest"] * (0.1 / 0.9) * (source["rest"] / source["move"])
        assert after["move"] / after["rest"] == pytest.approx(odds)


async def test_labelled_sequences_are_evaluated_by_position_and_by_structure(
    motion: Any, sequences_drawn: Make
) -> None:
    x, y = sequences_drawn(20, 2)
    names = [[("rest", "move")[k] for k in row] for row in y]
    answer = await ask(
        motion,
        "motion:evaluate",
        x.tolist(),
        labels=names,
        parameters={"losses": ["sequence_cross_entropy", "cross_entropy"]},
    )
    found = answer["evaluation"]
    structure = found["structure"]
    assert (found["rows"], found["parts"]["positions"]["rows"], structure["smoother"]) == (20, 500, "hmm")
    assert found["losses"]["sequence_cross_entropy"] == pytest.approx(25 * found["losses"]["cross_entropy"])
    assert set(structure["paths"]) == {"path"}
    plain = await ask(
        motion, "motion:evaluate", x.tolist(), labels=y.tolist(), parameters={"smoother": "none", "policy": "alone"}
    )
    assert plain["evaluation"]["metrics"]["log_loss"] == pytest.approx(structure["unsmoothed_log_loss"])


SEQUENCE_REFUSALS: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "estimates": ("estimate", {}, "estimate-unavailable", "is a sequence model"),
    "label sets": (
        "predict",
        {"parameters": {"coverage": 0.9}},
        "invalid-parameters",
        "coverage: applies to multiclass",
    ),
    "costs of labels": (
        "decide",
        {"parameters": {"label_costs": OWN}},
        "invalid-parameters",
        "label_costs: applies to",
    ),
    "another smoother": ("predict", {"parameters": {"smoother": "crf"}}, "invalid-parameters", "smoother"),
    "a negative price": ("decide", {"parameters": {"switch": -1.0}}, "invalid-parameters", "switch"),
    "a label for the row": ("evaluate", {"labels": ["rest"]}, "invalid-labels", "a class for every position"),
    "a label too few": ("evaluate", {"labels": [["rest"] * 24]}, "invalid-labels", "24 labels and 25 positions"),
    "an unknown class among them": (
        "evaluate",
        {"labels": [["rest"] * 24 + ["run"]]},
        "invalid-labels",
        "of sequence 0",
    ),
    "a policy for each row": ("decide", {"parameters": {"policy": ["alone"]}}, "invalid-parameters", "one for all"),
}


@pytest.mark.parametrize(("verb", "more", "code", "fragment"), SEQUENCE_REFUSALS.values(), ids=SEQUENCE_REFUSALS.keys())
async def test_what_makes_no_sense_of_a_sequence_is_refused_in_one_sentence(
    motion: Any, verb: str, more: dict[str, Any], code: str, fragment: str
) -> None:
    problem = await refused(motion, f"motion:{verb}", [[0.0] * 25], **more)
    assert problem["type"] == f"urn:temperance:problem:{code}"
    assert fragment in problem["detail"]


async def test_an_uncalibrated_tagger_has_no_transitions_to_smooth_with(sequence_workshop: Make) -> None:
    workshop = sequence_workshop()
    publish_draft(workshop.repository, "motion")
    async with client_of(load_registry(workshop.repository)) as client:
        answer = await ask(client, "motion:predict", [[0.0] * 25])
        assert answer["smoother"]["name"] == "none"
        problem = await refused(client, "motion:predict", [[0.0] * 25], parameters={"smoother": "hmm"})
        assert problem["errors"][0]["pointer"] == "/parameters/smoother"


@pytest.mark.parametrize(
    ("name", "value"), [("smoother", "hmm"), ("switch", 1.0), ("label_costs", OWN), ("strength", 1.0)]
)
async def test_parameters_of_other_tasks_are_refused_by_a_model_of_classes(name: str, value: object) -> None:
    async with client_of(load_registry(Repository(SHIPPED))) as client:
        problem = await refused(client, "breast-cancer:decide", [[1.0] * 30], parameters={name: value})
        assert problem["errors"][0]["pointer"] == f"/parameters/{name}"


async def test_models_say_their_task_and_their_policies(complaints: Any, motion: Any) -> None:
    labels = (await complaints.get("/v1/models/complaints")).json()
    assert (labels["task"], labels["policies"]["care"]["labels"]["burn"]["costs"]["wait"]) == (
        "multilabel",
        {"absent": 0.0, "present": 1.0},
    )
    assert set(labels["calibration"]["labels"]) == set(LABELS)
    sequence = (await motion.get("/v1/models/motion")).json()
    assert (sequence["task"], sequence["policies"]["path"]["switch"]) == ("sequence", 0.7)
    assert len(sequence["calibration"]["sequence"]["transitions"]) == 2

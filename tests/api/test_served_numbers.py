"""What answers say: recomputed from the classifier itself, and in the documented shape."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import numpy as np
import pytest

from service.core.numerics import Array, log_softmax
from service.data.dataset import read_dataset
from service.evaluation.classification_problem import LabelledAnswer
from service.evaluation.evaluate import answer_of, evaluate
from service.prediction.bulk import posterior_of
from service.runtime.model import Model
from service.runtime.registry import Registry

Ask = Callable[..., Any]

DEFER_WHEN_FLAGGED = """
[policies.act]
on_ood = "defer"
[policies.act.costs]
act = { "0" = 0, "1" = 10 }
defer = { "0" = 3, "1" = 3 }
"""


@pytest.fixture(scope="session")
def trained_logits(recipe: ModuleType, test_rows: list[list[float]]) -> Array:
    """Logit of `malignant` for every test row: the network trained again, run by NumPy in float64.

    From its weights, not from its probabilities: log p1 - log p0 loses the clear rows, whose 1 - p1 is rounded.
    """
    scaler, network = recipe.train_classifier(recipe.load_splits()[1]["train"])
    hidden = scaler.transform(np.array(test_rows, dtype=np.float32).astype(np.float64))
    for weights, bias in itertools.islice(zip(network.coefs_, network.intercepts_, strict=True), network.n_layers_ - 2):
        hidden = np.maximum(hidden @ weights + bias, 0.0)
    logits: Array = (hidden @ network.coefs_[-1] + network.intercepts_[-1])[:, 0]
    return logits


async def test_served_probabilities_are_the_classifiers_own_at_the_fitted_temperature(
    ask: Ask, client: httpx.AsyncClient, test_rows: list[list[float]], trained_logits: Array
) -> None:
    from scipy.special import expit

    described = (await client.get("/v1/models/breast-cancer")).json()
    temperature = described["calibration"]["calibrator"]["params"]["temperature"]
    served = np.array([row["probabilities"]["malignant"] for row in (await ask("decide", test_rows))["predictions"]])
    np.testing.assert_allclose(served, expit(trained_logits / temperature), rtol=0, atol=1e-6)


async def test_the_logits_agree_with_scikit_learns_probabilities(
    recipe: ModuleType, test_rows: list[list[float]], trained_logits: Array
) -> None:
    from scipy.special import expit

    classifier = recipe.train_classifier(recipe.load_splits()[1]["train"])
    rounded = np.array(test_rows, dtype=np.float32).astype(np.float64)
    np.testing.assert_allclose(classifier.predict_proba(rounded)[:, 1], expit(trained_logits), rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"site": "screening"}], ids=["as calibrated", "screening"])
async def test_served_risks_are_those_of_the_served_probabilities(
    options: dict[str, str], ask: Ask, client: httpx.AsyncClient, test_rows: list[list[float]]
) -> None:
    costs = (await client.get("/v1/models/breast-cancer")).json()["policies"]["biopsy"]["costs"]
    for row in (await ask("decide", test_rows, **options))["predictions"]:
        decision, p = row["decision"], row["probabilities"]
        risks = {action: sum(cost[c] * p[c] for c in p) for action, cost in costs.items()}
        assert decision["risks"] == pytest.approx(risks, abs=1e-9)
        assert decision["risk"] == decision["risks"][decision["action"]]
        first = min(decision["risks"].values())
        rest = min(risk for action, risk in decision["risks"].items() if action != decision["action"])
        assert decision["margin"] == pytest.approx(rest - decision["risk"], abs=1e-12)
        known = sum(p[c] * min(cost[c] for cost in costs.values()) for c in p)
        assert decision["value_of_information"] == pytest.approx(first - known, abs=1e-9)
        others = min(risks["dismiss"], risks["biopsy"])
        assert decision["value_of_deferring"] == pytest.approx(others - risks["defer"], abs=1e-9)
        if decision["reason"] == "lowest_risk":
            assert decision["risk"] == first


async def test_probabilities_sum_to_one_and_the_label_is_the_most_probable_class(
    ask: Ask, test_rows: list[list[float]]
) -> None:
    for row in (await ask("predict", test_rows))["predictions"]:
        p = row["probabilities"]
        assert list(p) == ["benign", "malignant"]
        assert sum(p.values()) == pytest.approx(1.0, abs=1e-12)
        assert row["label"] == max(p, key=p.get)


async def test_implausible_measurements_are_flagged_and_deferred_with_their_features_named(
    ask: Ask, test_rows: list[list[float]], features: list[str]
) -> None:
    wild = [[1000.0 * (value + 1.0) for value in row] for row in test_rows]
    for row in (await ask("decide", wild))["predictions"]:
        decision = row["decision"]
        assert row["ood"]["flagged"] is True
        assert (decision["action"], decision["reason"], decision["risk"]) == ("defer", "ood", 3.0)
        cheapest = min(("dismiss", "biopsy", "defer"), key=decision["risks"].get)
        assert decision["overridden"] == {"action": cheapest, "risk": decision["risks"][cheapest]}
        (named,) = (e["features"] for e in row["ood"]["evidence"] if e.get("rule") == "range")
        assert named == features


async def test_one_value_out_of_range_is_evidence_enough(
    ask: Ask, example_row: list[float], features: list[str]
) -> None:
    example_row[3] = 1e6
    (row,) = (await ask("decide", [example_row]))["predictions"]
    assert {"rule": "range", "features": [features[3]]} in row["ood"]["evidence"]
    assert (row["ood"]["flagged"], row["decision"]["action"]) == (True, "defer")


async def test_plausible_values_of_different_patients_are_flagged_by_their_combination(
    ask: Ask, test_rows: list[list[float]]
) -> None:
    mixed = np.random.default_rng(0).permuted(np.array(test_rows), axis=0).tolist()
    rows = (await ask("decide", mixed))["predictions"]
    flagged = [row for row in rows if row["ood"]["flagged"]]
    assert len(flagged) >= 0.95 * len(rows)
    for row in flagged:
        assert row["ood"]["evidence"] == [{"score": "mahalanobis"}]
        assert row["ood"]["scores"]["mahalanobis"]["flagged"] is True
        assert (row["decision"]["action"], row["decision"]["reason"]) == ("defer", "ood")


async def test_a_flag_speaks_of_the_gate_and_every_score_of_itself(ask: Ask, test_rows: list[list[float]]) -> None:
    rows = (await ask("detect", test_rows))["predictions"]
    for row in rows:
        ood = row["ood"]
        for score in ood["scores"].values():
            assert score["flagged"] == (score["score"] > score["threshold"])
            assert 0.0 < score["p_value"] <= 1.0
        assert ood["p_value"] == ood["scores"]["mahalanobis"]["p_value"]
        assert ood["flagged"] == bool(ood["evidence"])
    assert any(row["ood"]["scores"]["nll"]["flagged"] and not row["ood"]["flagged"] for row in rows)


async def test_rows_that_are_not_flagged_are_not_overruled(ask: Ask, test_rows: list[list[float]]) -> None:
    for row in (await ask("decide", test_rows))["predictions"]:
        assert (row["decision"]["reason"] == "ood") == row["ood"]["flagged"]
        if not row["ood"]["flagged"]:
            assert "overridden" not in row["decision"]


async def test_an_uncalibrated_version_flags_nothing_and_defers_where_the_policy_defers_flagged_rows(
    publish_logits: Callable[..., Registry], client_of: Callable[..., httpx.AsyncClient]
) -> None:
    async with client_of(publish_logits(("0", "1"), more=DEFER_WHEN_FLAGGED)) as client:
        answer = (await client.post("/v1/models/logits:decide", json={"instances": [[9.0, 0.0], [0.0, 9.0]]})).json()
    sure, lost = answer["predictions"]
    for row in (sure, lost):
        assert (row["ood"]["flagged"], row["ood"]["p_value"], row["ood"]["evidence"]) == (None, None, [])
        nll = row["ood"]["scores"]["nll"]
        assert nll["score"] > 0.0
        assert (nll["threshold"], nll["p_value"], nll["flagged"]) == (None, None, None)
        assert (row["decision"]["action"], row["decision"]["reason"]) == ("defer", "ood_unavailable")
    assert sure["decision"]["overridden"]["action"] == "act"
    assert "overridden" not in lost["decision"]
    assert answer["calibration"]["status"] == "uncalibrated"


VERBS = {
    "predict": {"label", "probabilities"},
    "detect": {"ood"},
    "decide": {"label", "probabilities", "ood", "decision"},
}
HEADER = {"id", "created", "model", "version", "digest", "calibration", "prevalence"}


@pytest.mark.parametrize("verb", VERBS)
async def test_an_answer_has_exactly_the_members_of_its_verb(
    verb: str, ask: Ask, test_rows: list[list[float]], conforms: Callable[..., Any]
) -> None:
    answer = await ask(verb, test_rows[:3])
    assert set(answer) == {*HEADER, "predictions"}
    assert all(set(row) == {"prediction_id", *VERBS[verb]} for row in answer["predictions"])
    assert conforms(answer, verb) == []


@pytest.mark.parametrize("verb", ["predict", "detect", "decide"])
async def test_answers_of_a_flagged_row_and_of_chosen_costs_are_documented_too(
    verb: str, ask: Ask, example_row: list[float], conforms: Callable[..., Any]
) -> None:
    wild = [1e6 * value for value in example_row]
    chosen = {} if verb == "detect" else {"top_k": 1, "site": "screening"}
    answer = await ask(verb, [wild], ids=["patient 7"], **chosen)
    assert conforms(answer, verb) == []


@pytest.mark.parametrize("verb", VERBS)
async def test_ids_are_echoed_and_a_prediction_id_is_the_request_and_the_row(
    verb: str, ask: Ask, test_rows: list[list[float]]
) -> None:
    answer = await ask(verb, test_rows[:3], ids=["b", "a", "b"])
    assert [row["id"] for row in answer["predictions"]] == ["b", "a", "b"]
    assert [row["prediction_id"] for row in answer["predictions"]] == [f"{answer['id']}.{i}" for i in range(3)]


async def test_an_error_has_a_request_id_too(client: httpx.AsyncClient) -> None:
    answers = [await client.post("/v1/models/breast-cancer:predict", json={}), await client.get("/nowhere")]
    assert [answer.status_code for answer in answers] == [422, 404]
    assert all(len(answer.headers["temperance-id"]) == 36 for answer in answers)
    assert all(answer.json()["instance"] == f"urn:uuid:{answer.headers['temperance-id']}" for answer in answers)


async def test_a_path_below_a_model_that_is_nothing_is_not_found(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/models/breast-cancer/parts")
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:temperance:problem:not-found")


async def test_the_request_id_is_in_the_header_and_new_every_time(
    client: httpx.AsyncClient, example_row: list[float]
) -> None:
    path, body = "/v1/models/breast-cancer:predict", {"instances": [example_row]}
    answers = [await client.post(path, json=body) for _ in range(3)]
    for name in ("temperance-id", "x-request-id"):
        assert all(answer.headers[name] == answer.json()["id"] for answer in answers)
    assert len({answer.json()["id"] for answer in answers}) == 3
    assert [answer.json()["id"] for answer in answers] == sorted(answer.json()["id"] for answer in answers)


@pytest.mark.parametrize("top_k", [1, 2, 10**30])
async def test_top_k_lists_the_most_probable_classes_in_place_of_all(
    top_k: int, ask: Ask, test_rows: list[list[float]]
) -> None:
    every, best = await ask("decide", test_rows), await ask("decide", test_rows, top_k=top_k)
    for full, short in zip(every["predictions"], best["predictions"], strict=True):
        ranked = sorted(full["probabilities"].items(), key=lambda item: -item[1])[:top_k]
        assert short["top"] == [{"label": label, "probability": p} for label, p in ranked]
        assert "probabilities" not in short
        assert short["decision"] == full["decision"]


async def test_an_answer_names_the_version_and_digest_that_gave_it(
    ask: Ask, example_row: list[float], shipped_model: Model
) -> None:
    answer = await ask("predict", [example_row])
    assert (answer["model"], answer["version"]) == ("breast-cancer", "1")
    assert answer["digest"] == shipped_model.bundle.digest
    assert answer["calibration"] == {"method": "temperature", "status": "ok", "support": 1 / 143}
    assert answer["created"].endswith("Z")
    assert len(answer["created"]) == len("2026-01-01T12:00:00.000Z")


@pytest.mark.parametrize("options", [{}, {"site": "screening"}, {"policy": "biopsy"}], ids=str)
async def test_evaluate_equals_the_offline_evaluation(
    options: dict[str, str],
    client: httpx.AsyncClient,
    data_folder: Path,
    shipped_model: Model,
    conforms: Callable[..., list[str]],
) -> None:
    data = read_dataset(data_folder / "test.csv", shipped_model.manifest)
    body = {
        "instances": data.numbers.tolist(),
        "labels": [shipped_model.classes[k] for k in data.labels],
        "parameters": options,
    }
    answer = (await client.post("/v1/models/breast-cancer:evaluate", json=body)).json()
    offline = answer_of(shipped_model, posterior_of(shipped_model, data.numbers))
    raw = offline.posterior.logits
    if "site" in options:
        target = np.array([0.98, 0.02])
        weights = np.exp(offline.log_probs) * target / shipped_model.source
        log_probs = np.log(weights / weights.sum(axis=1, keepdims=True))
        offline = replace(offline, log_probs=log_probs, target=target)
        raw = raw + np.log(target / shipped_model.source)  # like for like: the uncalibrated ones move as well
    report = evaluate(LabelledAnswer(offline, data.labels)).report
    assert flat(answer["evaluation"]) == pytest.approx(flat(report.as_json()), rel=1e-7)
    uncalibrated = -log_softmax(raw)[np.arange(len(raw)), data.labels].mean()
    assert answer["evaluation"]["uncalibrated_metrics"]["log_loss"] == pytest.approx(uncalibrated, rel=1e-9)
    assert set(answer) == {*HEADER, "evaluation"}
    assert conforms(answer, "evaluate") == []


def flat(report: Any, place: str = "") -> dict[str, Any]:
    """Leaves of a document by their place; names that pytest.approx would not compare are part of the place."""
    if isinstance(report, list | tuple):
        report = dict(enumerate(report))
    if isinstance(report, dict):
        return {key: leaf for name, item in report.items() for key, leaf in flat(item, f"{place}/{name}").items()}
    return {place: report} if isinstance(report, int | float) else {f"{place}={report}": 0}


async def test_labels_may_be_indices(client: httpx.AsyncClient, test_rows: list[list[float]]) -> None:
    path = "/v1/models/breast-cancer:evaluate"
    named = await client.post(path, json={"instances": test_rows[:3], "labels": ["benign", "malignant", "benign"]})
    indexed = await client.post(path, json={"instances": test_rows[:3], "labels": [0, 1, 0]})
    assert named.json()["evaluation"] == indexed.json()["evaluation"]


@pytest.mark.parametrize(
    ("labels_as", "labels"), [("index0", [1, 1, 1]), ("index1", [2, 2, 2]), ("names", ["malignant"] * 3)]
)
async def test_the_form_of_labels_may_be_declared(
    labels_as: str, labels: list[Any], client: httpx.AsyncClient, test_rows: list[list[float]]
) -> None:
    path, rows = "/v1/models/breast-cancer:evaluate", test_rows[:3]
    plain = await client.post(path, json={"instances": rows, "labels": ["malignant"] * 3})
    declared = await client.post(
        path, json={"instances": rows, "labels": labels, "parameters": {"labels_as": labels_as}}
    )
    assert declared.json()["evaluation"] == plain.json()["evaluation"]


async def test_labels_with_two_readings_are_refused_with_both(
    client: httpx.AsyncClient, test_rows: list[list[float]]
) -> None:
    body = {"instances": test_rows[:3], "labels": [1, 1, 1]}
    answer = await client.post("/v1/models/breast-cancer:evaluate", json=body)
    assert answer.status_code == 422
    assert answer.json()["type"].endswith("invalid-labels")
    assert "from 0 (1 is 'malignant') or from 1 (1 is 'benign')" in answer.json()["detail"]
    assert "labels-as index0 or index1" in answer.json()["detail"]


@pytest.mark.parametrize(("labels_as", "label"), [("index0", 2), ("index1", 0), ("names", 0), ("index2", 0)])
async def test_labels_of_another_form_than_declared_are_refused(
    labels_as: str, label: int, client: httpx.AsyncClient, test_rows: list[list[float]]
) -> None:
    body = {"instances": test_rows[:2], "labels": [1, label], "parameters": {"labels_as": labels_as}}
    answer = await client.post("/v1/models/breast-cancer:evaluate", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] in ("/labels/1", "/labels/0", "/parameters/labels_as")


async def test_evaluate_charges_the_costs_of_the_request(
    client: httpx.AsyncClient, test_rows: list[list[float]], test_labels: list[str]
) -> None:
    costs = {"never": {"benign": 0, "malignant": 7}, "worse": {"benign": 100, "malignant": 100}}
    body = {"instances": test_rows, "labels": test_labels, "parameters": {"costs": costs}}
    evaluation = (await client.post("/v1/models/breast-cancer:evaluate", json=body)).json()["evaluation"]
    share = test_labels.count("malignant") / len(test_labels)
    ((name, policy),) = evaluation["parts"]["rows"]["policies"].items()
    assert name == "(request)"
    assert {action: own["taken"] for action, own in policy["actions"].items()} == {"never": len(test_rows), "worse": 0}
    assert policy["realised_cost"] == pytest.approx(7 * share, rel=1e-12)


async def test_evaluate_reports_training_losses_by_name(
    client: httpx.AsyncClient, test_rows: list[list[float]], test_labels: list[str]
) -> None:
    body = {"instances": test_rows, "labels": test_labels, "parameters": {"losses": ["cross_entropy", "focal"]}}
    answer = (await client.post("/v1/models/breast-cancer:evaluate", json=body)).json()
    assert set(answer["evaluation"]["losses"]) == {"cross_entropy", "focal"}
    assert answer["evaluation"]["losses"]["cross_entropy"] == pytest.approx(answer["evaluation"]["metrics"]["log_loss"])


async def test_an_unknown_loss_is_refused_with_its_place(
    client: httpx.AsyncClient, test_rows: list[list[float]], test_labels: list[str]
) -> None:
    body = {"instances": test_rows, "labels": test_labels, "parameters": {"losses": ["zq7canary"]}}
    answer = await client.post("/v1/models/breast-cancer:evaluate", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/parameters/losses/0"
    assert "zq7canary" not in answer.text

"""Requests checked against their schemas, and the schemas as the OpenAPI document shows them."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from service.api.v1.requests import DecideRequest, EvaluateRequest, PredictRequest, field_names, parse_request
from service.api.v1.verbs import VERBS
from service.errors import InvalidParameters, InvalidRequest, RequestError

KNOWN = ["benign", "malignant", "biopsy"]
COSTS = {"a": {"benign": 0, "malignant": 1}, "b": {"benign": 1, "malignant": 0}}


def refusal(document: object, kind: Any = DecideRequest) -> RequestError:
    with pytest.raises(RequestError) as caught:
        parse_request(kind, document, KNOWN)
    return caught.value


@pytest.mark.parametrize("verb", VERBS)
def test_the_smallest_request_of_every_verb_is_accepted(verb: str) -> None:
    document = {"instances": [[1]], **({"labels": ["benign"]} if verb == "evaluate" else {})}
    assert parse_request(VERBS[verb].request, document, KNOWN).instances == [[1]]  # type: ignore[attr-defined]  # all have


def test_every_parameter_is_read() -> None:
    parameters = {"ids": ["a"], "site": "s", "prevalence": {"benign": 1}, "top_k": 1, "policy": "p", "costs": COSTS}
    session = {"model": "m", "version": "1", "false_alarms_per_1000_steps": 2.0, "statistic": 0.5, "steps": 3}
    session |= {"steps_since_in_distribution": 1, "alarm": False}
    parameters |= {"coverage": 0.9, "fdr": 0.1, "session": session}
    labels = {"ache": {"wait": {"absent": 0.0, "present": 1.0}, "act": {"absent": 1.0, "present": 0.0}}}
    parameters |= {"label_costs": labels, "smoother": "jsd", "strength": 2.0, "switch": 0.5}
    parameters |= {"layout": "columns", "subjects": ["p"], "groups": ["g"]}
    read = parse_request(DecideRequest, {"instances": [[1]], "parameters": parameters}, KNOWN).parameters
    assert read.model_dump() == parameters


def test_what_varies_by_row_is_read_as_a_list() -> None:
    parameters = {"site": ["s", "t"], "prevalence": [{"benign": 1}], "policy": ["p", "q"], "costs": [COSTS, COSTS]}
    read = parse_request(DecideRequest, {"instances": [[1]], "parameters": parameters}, KNOWN).parameters
    assert read.model_dump(exclude_unset=True) == parameters


def test_a_mistake_in_parameters_alone_is_about_parameters() -> None:
    assert isinstance(refusal({"instances": [[1]], "parameters": {"top_k": 0}}), InvalidParameters)
    assert isinstance(refusal({"parameters": {"top_k": 0}}), InvalidRequest)
    assert isinstance(refusal({"instances": [[1]], "parameters": []}), InvalidRequest)


WRONG: dict[str, tuple[dict[str, Any], tuple[str | int, ...], str]] = {
    "a cost that is a boolean": ({"costs": {"a": {"benign": True}, "b": {}}}, ("costs", "?", "benign"), "wrong-type"),
    "a cost that is too large": (
        {"costs": COSTS | {"a": {"benign": 1e301}}},
        ("costs", "?", "benign"),
        "less-than-equal",
    ),
    "a share above one": ({"prevalence": {"benign": 1.5}}, ("prevalence", "benign"), "less-than-equal"),
    "a share in quotes": ({"prevalence": {"malignant": "0.5"}}, ("prevalence", "malignant"), "wrong-type"),
    "a share of an unknown class": ({"prevalence": {"zq7canary": -1}}, ("prevalence", "?"), "greater-than"),
    "an empty id": ({"ids": [""]}, ("ids", 0), "string-too-short"),
    "an endless id": ({"ids": ["x" * 201]}, ("ids", 0), "string-too-long"),
    "an action without a name": ({"costs": {"": {}, "b": {}}}, ("costs", "?"), "string-too-short"),
    "a cost of one row that is a boolean": (
        {"costs": [COSTS, {"a": {"benign": True}, "b": {}}]},
        ("costs", 1, "?", "benign"),
        "wrong-type",
    ),
    "a share of one row above one": (
        {"prevalence": [{}, {"benign": 1.5}]},
        ("prevalence", 1, "benign"),
        "less-than-equal",
    ),
    "a site of one row that is a number": ({"site": ["s", 1]}, ("site", 1), "wrong-type"),
    "a policy of one row without a name": ({"policy": [""]}, ("policy", 0), "string-too-short"),
    "a policy that is an object": ({"policy": {"zq7canary": 1}}, ("policy",), "wrong-type"),
    "a session that is a list": ({"session": ["zq7canary"]}, ("session",), "wrong-type"),
    "a session with an unknown key": ({"session": {"zq7canary": 1}}, ("session", "?"), "unknown-field"),
    "a session that counts in fractions": ({"session": {"steps": 1.5}}, ("session", "steps"), "wrong-type"),
    "a session below nothing": ({"session": {"statistic": -0.1}}, ("session", "statistic"), "greater-than-equal"),
    "an alarm that is a number": ({"session": {"alarm": 1}}, ("session", "alarm"), "wrong-type"),
    "false alarms all the time": (
        {"session": {"false_alarms_per_1000_steps": 101}},
        ("session", "false_alarms_per_1000_steps"),
        "less-than-equal",
    ),
    "an unknown key that is a field at another place": ({"instances": 1}, ("?",), "unknown-field"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_fault_lies_where_the_mistake_is_and_names_only_what_is_known(name: str) -> None:
    parameters, path, code = WRONG[name]
    fault = refusal({"instances": [[1]], "parameters": parameters}).faults[0]
    assert (fault.path, fault.code) == (("parameters", *path), code)
    assert "zq7canary" not in fault.detail


def test_an_error_speaks_in_sentences_of_its_own() -> None:
    details = [refusal({"instances": [[1]], "parameters": parameters}).detail for parameters, _, _ in WRONG.values()]
    envelopes: list[object] = [{}, [], {"instances": []}, {"instances": 1}]
    details += [refusal(document).detail for document in envelopes]
    assert not [detail for detail in details if " should " in detail]
    assert max(map(len, details)) < 200


COUNTED = {
    "one action": ({"costs": {"a": {"benign": 1}}}, "parameters.costs: must have at least 2 items, not 1"),
    "one table of none": ({"costs": [{}]}, "parameters.costs.0: must have at least 2 items, not 0"),
    "a table that is null": ({"costs": [COSTS, None]}, "parameters.costs.1: must be a JSON object"),
    "ids that are one": ({"ids": "zq7canary"}, "parameters.ids: must be a list"),
    "half a place": ({"top_k": 1.5}, "parameters.top_k: must be a whole number, written without a point"),
}


@pytest.mark.parametrize("name", COUNTED)
def test_errors_name_numbers_and_use_the_words_of_json(name: str) -> None:
    parameters, sentence = COUNTED[name]
    assert refusal({"instances": [[1]], "parameters": parameters}).detail == sentence


def test_a_label_at_fault_is_pointed_to_once() -> None:
    faults = refusal({"instances": [[1]] * 4, "labels": [0, {}, [None], None]}, EvaluateRequest).faults
    assert [fault.path for fault in faults] == [("labels", 1), ("labels", 2), ("labels", 3)]


@pytest.mark.parametrize("labels", [["1.0", 1.0, 1, True], [[0.0, 1.0], [False, True], [0, 1]]])
def test_labels_are_what_they_may_be_in_files(labels: list[object]) -> None:
    body = {"instances": [[1]] * len(labels), "labels": labels}
    read = parse_request(EvaluateRequest, body, KNOWN).labels
    assert [repr(label) for label in read] == [repr(label) for label in labels], "none is made another"


def test_integers_that_are_whole_floats_are_costs_but_floats_are_no_counts() -> None:
    request = parse_request(DecideRequest, {"instances": [[1]], "parameters": {"costs": COSTS}}, KNOWN)
    assert request.parameters.costs == COSTS
    assert refusal({"instances": [[1]], "parameters": {"top_k": 1.0}}, PredictRequest).faults[0].code == "wrong-type"


@pytest.mark.parametrize("verb", VERBS)
async def test_the_openapi_document_lists_every_field_of_a_request(verb: str, client: httpx.AsyncClient) -> None:
    components = (await client.get("/openapi.json")).json()["components"]["schemas"]
    request = components[VERBS[verb].request.__name__]
    parameters = components[request["properties"]["parameters"]["$ref"].rpartition("/")[2]]
    assert [*request["properties"], *parameters["properties"]] == field_names(VERBS[verb].request)
    assert request["additionalProperties"] is parameters["additionalProperties"] is False


async def test_the_checker_of_documents_sees_what_departs(conforms: Callable[..., Any]) -> None:
    entry = {"pointer": "", "code": "c", "detail": "d"}
    assert conforms(entry, "ProblemEntry") == []
    assert conforms({**entry, "more": 1}, "ProblemEntry") != []
    assert conforms({**entry, "code": 1}, "ProblemEntry") == ["$.code: 1 is not of type 'string'"]
    assert conforms({"pointer": "", "code": "c"}, "ProblemEntry") == ["$: 'detail' is a required property"]


async def test_a_problem_has_the_documented_members(client: httpx.AsyncClient, conforms: Callable[..., Any]) -> None:
    answer = await client.post("/v1/models/breast-cancer:decide", json={"instances": [[1], "x"]})
    assert conforms(answer.json(), "Problem") == []

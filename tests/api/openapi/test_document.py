"""The document is valid, complete and true: clients are generated from it."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from service.api.authentication import Needs
from service.api.openapi.answer_components import answer_components
from service.api.openapi.document import TAGS, document, operations
from service.api.openapi.json_schemas import components
from service.api.openapi.operation import PARAMETER
from service.api.openapi.v1_operations import v1_types
from service.api.openapi.v2_operations import V2_TYPES
from service.api.v1.verbs import VERBS
from service.main import compose
from service.runtime.registry import Registry
from service.settings import Settings
from tests.app_routes import routes_of

Json = dict[str, Any]
UNDOCUMENTED = {"/docs", "/openapi.json", "/v1/models/{rest:path}"}


def test_the_document_is_valid(any_contract: Json) -> None:
    validate(any_contract)


def test_every_operation_has_an_id_of_its_own_a_tag_and_a_summary(any_contract: Json) -> None:
    found = list(operation_objects(any_contract))
    assert len({operation["operationId"] for operation in found}) == len(found) == len(operations())
    assert all(set(operation["tags"]) <= set(TAGS) and operation["tags"] for operation in found)
    assert all(operation["summary"] for operation in found)


def test_every_parameter_of_a_path_is_declared(any_contract: Json) -> None:
    for path, item in any_contract["paths"].items():
        for operation in item.values():
            declared = [one["name"] for one in operation["parameters"] if one["in"] == "path"]
            assert declared == PARAMETER.findall(path)
            assert all(one["required"] and one["description"] for one in operation["parameters"] if one["in"] == "path")


def test_every_route_is_an_operation_and_every_operation_a_route(app_routes: set[tuple[str, str]]) -> None:
    documented = {(operation.method.upper(), operation.path) for operation in operations()}
    served = {(method, path) for method, path in app_routes if method != "HEAD" and not is_undocumented(path)}
    assert documented == served


def test_every_verb_is_documented_at_every_place(any_contract: Json) -> None:
    for verb in VERBS:
        for place in ("", "/versions/{version}", "/labels/{alias}"):
            operation = any_contract["paths"][f"/v1/models/{{name}}{place}:{verb}"]["post"]
            refusals = {400, 401, 403, 404, 408, 413, 414, 415, 422, 429, 431, 500, 503, 504}
            assert {"200", *map(str, refusals)} == set(operation["responses"])


def test_the_document_names_the_scope_that_an_operation_needs() -> None:
    needs = Needs(metrics_open=False, docs_open=False)
    for operation in operations():
        need = needs.of(operation.path.replace("{name}", "a").replace("{version}", "1").replace("{alias}", "b"), "")
        assert (operation.is_open, operation.scope or None) == (need.is_open, need.scope), operation.id


def test_an_operation_that_is_not_open_may_refuse_a_caller(any_contract: Json) -> None:
    responses = any_contract["components"]["responses"]
    for operation in operation_objects(any_contract):
        is_open = operation.get("security") == []
        assert ({"401", "403", "429"} <= set(operation["responses"])) is not is_open
    for name in ("Problem429", "Error429"):
        assert set(responses[name]["headers"]) == {"Retry-After", "RateLimit", "RateLimit-Policy"}


def test_a_credential_is_required_only_where_one_is_needed(any_contract: Json) -> None:
    assert any_contract["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert "security" not in any_contract
    closed = document("1", {}, {}, is_open=False)
    assert closed["security"] == [{"bearer": []}]
    assert closed["paths"]["/livez"]["get"]["security"] == []


def test_every_field_is_described(any_contract: Json) -> None:
    schemas = any_contract["components"]["schemas"]
    assert [name for name, schema in schemas.items() if not schema.get("description")] == []
    bare = [path for name, schema in schemas.items() for path in undescribed(schema, name, schemas)]
    assert bare == []


def test_every_reference_leads_somewhere(any_contract: Json) -> None:
    references = set(re.findall(r'"\$ref": "#/components/(\w+)/([^"]+)"', json.dumps(any_contract)))
    assert references
    assert [one for one in references if one[1] not in any_contract["components"][one[0]]] == []


def test_no_two_components_share_a_name() -> None:
    typed = components([*v1_types(), *V2_TYPES])
    assert not typed.keys() & answer_components().keys()


def test_errors_are_problems_except_under_v2(any_contract: Json) -> None:
    for path, item in any_contract["paths"].items():
        media_type = "application/json" if path.startswith("/v2") else "application/problem+json"
        for operation in item.values():
            for status in set(operation["responses"]) - {"200"}:
                name = operation["responses"][status]["$ref"].rpartition("/")[2]
                content = any_contract["components"]["responses"][name]["content"]
                assert list(content) == [media_type]


def test_every_error_has_an_example_of_its_status(any_contract: Json) -> None:
    for name, response in any_contract["components"]["responses"].items():
        (content,) = response["content"].values()
        assert [*validator_of(content["schema"], any_contract).iter_errors(content["example"])] == []
        if name.startswith("Problem"):
            assert content["example"]["status"] == int(name.removeprefix("Problem"))


def test_examples_fit_the_schemas_that_they_stand_beside(any_contract: Json) -> None:
    checked = 0
    for operation in operation_objects(any_contract):
        sides = [operation["responses"]["200"], *([operation["requestBody"]] if "requestBody" in operation else [])]
        for side in sides:
            content = side["content"].get("application/json", {})
            validator = validator_of(content.get("schema", {}), any_contract)
            for reference in content.get("examples", {}).values():
                name = reference["$ref"].rpartition("/")[2]
                faults = [*validator.iter_errors(any_contract["components"]["examples"][name]["value"])]
                assert faults == [], (operation["operationId"], faults[:1])
                checked += 1
    assert checked > 50


def test_every_operation_with_json_has_an_example_of_its_response(any_contract: Json) -> None:
    lacking = [
        operation["operationId"]
        for operation in operation_objects(any_contract)
        for content in [operation["responses"]["200"]["content"].get("application/json")]
        if content is not None and not content.get("examples")
    ]
    assert set(lacking) <= {"repository_index"}  # which is closed unless a setting opens it


def operation_objects(contract: Json) -> Iterator[Json]:
    for item in contract["paths"].values():
        yield from item.values()


def validator_of(schema: Json, contract: Json) -> Draft202012Validator:
    return Draft202012Validator({**schema, "components": contract["components"]})


def is_undocumented(path: str) -> bool:
    return path in UNDOCUMENTED or path.startswith("/docs/")


def undescribed(schema: Any, path: str, schemas: Json) -> Iterator[str]:
    """Places of members without a description, of their own or of what they refer to."""
    if not isinstance(schema, dict):
        return
    for name, entry in schema.get("properties", {}).items():
        referred = schemas[entry["$ref"].rpartition("/")[2]] if "$ref" in entry else {}
        if not entry.get("description") and not referred.get("description"):
            yield f"{path}.{name}"
        yield from undescribed(entry, f"{path}.{name}", schemas)
    for key in ("items", "additionalProperties"):
        yield from undescribed(schema.get(key), f"{path}[]", schemas)
    for key in ("anyOf", "oneOf", "allOf"):
        for branch in schema.get(key, []):
            yield from undescribed(branch, path, schemas)


@pytest.fixture
def app_routes(shipped: Registry) -> set[tuple[str, str]]:
    """Method and path of every route of the application."""
    return {
        (method, route.path) for route in routes_of(compose(Settings(audit="off"), shipped)) for method in route.methods
    }

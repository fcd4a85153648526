"""The OpenAPI document says of every route who may call it, what it answers, and how it is named."""

from __future__ import annotations

import re

import pytest

from serve_apps.api.ingress import create_api
from serve_apps.problems import MEDIA_TYPE

DOCUMENT = create_api(None).openapi()
OPERATIONS = {
    operation["operationId"]: (method, path, operation)
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}
KEYED = [name for name, (_, path, _) in OPERATIONS.items() if path.startswith("/v1/")]
READING = {"get": "(get|list|follow)", "put": "put", "delete": "(delete|cancel|revoke|withdraw)"}


def test_the_document_is_of_openapi_3_1_and_names_every_operation_once():
    assert DOCUMENT["openapi"].startswith("3.1")
    assert len(OPERATIONS) == sum(len(operations) for operations in DOCUMENT["paths"].values())


@pytest.mark.parametrize("name", KEYED)
def test_a_name_is_a_verb_and_a_thing(name):
    method, _, _ = OPERATIONS[name]
    assert re.fullmatch(rf"{READING.get(method, '[a-z]+')}[A-Z][A-Za-z]*", name)


@pytest.mark.parametrize("name", KEYED)
def test_an_operation_tells_who_may_call_it_and_every_refusal_as_a_problem(name):
    _, path, operation = OPERATIONS[name]
    scopes = [scope for way in operation["security"] for named in way.values() for scope in named]
    assert scopes
    assert set(scopes) <= {"admin", "operator", "client", "renders"}
    assert {"401", "403", "429", "500", "503"} <= set(operation["responses"])
    if "{" in path:
        assert "404" in operation["responses"]
    for status, answer in operation["responses"].items():
        if int(status) >= 400:
            assert list(answer["content"]) == [MEDIA_TYPE], (name, status)


@pytest.mark.parametrize("name", KEYED)
def test_an_operation_with_a_body_tells_what_may_be_wrong_with_it(name):
    _, _, operation = OPERATIONS[name]
    if "requestBody" in operation:
        assert {"400", "408", "413", "415", "422"} <= set(operation["responses"])


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_says_what_it_does_and_so_do_its_parameters(name):
    _, _, operation = OPERATIONS[name]
    assert operation["summary"]
    assert operation["description"]
    for parameter in operation.get("parameters", []):
        assert parameter["in"] == "path" or parameter["description"], parameter["name"]


@pytest.mark.parametrize("name", [name for name in KEYED if "requestBody" in OPERATIONS[name][2]])
def test_every_needed_field_of_a_body_has_an_example(name):
    for content in OPERATIONS[name][2]["requestBody"]["content"].values():
        schema = content["schema"]
        needed = [schema["properties"][field] for field in schema.get("required", [])]
        without = [of for of in needed if "examples" not in of and of.get("format") != "binary" and "enum" not in of]
        assert without == []

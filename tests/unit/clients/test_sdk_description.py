"""The SDK says what the API says: its bodies, its problems, and nothing of our own code in it."""

from __future__ import annotations

import inspect

import pytest
from pydantic import BaseModel

import m2dao_client
from m2dao_client import models, problems
from m2dao_client.errors import URN, ApiError, error_of
from serve_apps.api.ingress import create_api
from serve_apps.problems import PROBLEMS
from tests import house
from tools.docs.sdk import ROOT, sdk_files

DOCUMENT = create_api(None).openapi()
SCHEMAS = DOCUMENT["components"]["schemas"]
SDK = ROOT / "clients/python"
MAY_IMPORT = {"httpx", "pydantic", "standardwebhooks", "m2dao_client"}
ONLY_SERVERS_CHECK = {
    *("title", "description", "examples", "minimum", "maximum", "pattern", "additionalProperties"),
    "propertyNames",
}


def name_of(schema: str) -> str:
    if f"{schema}Body" in SCHEMAS:
        return f"{schema}Entry"
    return schema.removesuffix("Body")


def plain(part):
    """A schema without what only a server checks; bodies go by the SDK's names."""
    if isinstance(part, list):
        return [plain(value) for value in part]
    if not isinstance(part, dict):
        return part
    values = part.get("additionalProperties")
    kept = {name: plain(value) for name, value in part.items() if name not in ONLY_SERVERS_CHECK}
    if kept.get("default", 0) is None:  # the same as none, and not always told
        del kept["default"]
    if isinstance(values, dict):
        kept["additionalProperties"] = plain(values)
    if kept.get("format") not in ("date", "date-time"):  # others are plain text for a client
        kept.pop("format", None)
    if "$ref" in kept:
        kept["$ref"] = kept["$ref"].rpartition("/")[2]
        if kept["$ref"] in SCHEMAS and part["$ref"].startswith("#/components"):
            kept["$ref"] = name_of(kept["$ref"])
    return kept


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_model_has_the_fields_of_its_schema_and_their_types(name):
    model = getattr(models, name_of(name))
    assert issubclass(model, BaseModel)
    ours, theirs = model.model_json_schema(), SCHEMAS[name]
    assert sorted(ours.get("required", [])) == sorted(theirs.get("required", []))
    assert {field: plain(of) for field, of in ours["properties"].items()} == {
        field: plain(of) for field, of in theirs["properties"].items()
    }


def test_no_written_module_is_left_from_a_tag_that_is_gone():
    there = {path.relative_to(ROOT) for path in (SDK / "m2dao_client/models").glob("*.py")}
    assert there - set(sdk_files()) == {SDK.relative_to(ROOT) / "m2dao_client/models/base.py"}


@pytest.mark.parametrize("code", PROBLEMS)
def test_every_problem_of_the_api_is_a_class_of_its_own(code):
    kind, row = type(error_of({"type": URN + code})), PROBLEMS[code]
    assert (kind.code, kind.status, kind.__module__) == (code, row.status, problems.__name__)


def test_no_class_is_left_of_a_problem_that_is_gone():
    kinds = [kind for _, kind in inspect.getmembers(problems, inspect.isclass) if kind is not ApiError]
    assert {kind.code for kind in kinds} == set(PROBLEMS)


def test_an_unknown_code_is_told_as_the_api_says_it():
    error = error_of({"type": f"{URN}made-up", "title": "New", "status": 418, "detail": "of a later release"})
    assert (type(error), error.status, str(error)) == (ApiError, 418, "New: of a later release")


def test_a_later_release_may_add_fields():
    assert models.Health.model_validate({"status": "ok", "mood": "good"}) == models.Health(status="ok")


def test_the_sdk_imports_nothing_of_ours_and_few_of_others():
    imported = {name.split(".")[0] for path in SDK.rglob("*.py") for _, name in house.imports(path, SDK)}
    assert {name for name in imported if name in house.PACKAGES} == set()
    assert imported - MAY_IMPORT <= set(__import__("sys").stdlib_module_names)


def test_every_public_name_is_there():
    assert [name for name in m2dao_client.__all__ if not hasattr(m2dao_client, name)] == []
    assert (SDK / "m2dao_client/py.typed").is_file()


def test_both_clients_have_the_same_operations():
    def operations(client):
        resources = {name: kind for name, kind in vars(client("http://a", "k")).items() if not name.startswith("_")}
        return {(name, method) for name, kind in resources.items() for method in dir(kind) if method[0] != "_"}

    ours = operations(m2dao_client.Client)
    assert ours == operations(m2dao_client.AsyncClient)
    assert {("recordings", "upload"), ("renders", "download"), ("identities", "promote")} <= ours

"""The API's own description: what each route may answer, with problem documents for every error."""

from __future__ import annotations

import re
from typing import Any

from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi

from serve_apps.api import schemas
from serve_apps.problems import MEDIA_TYPE

_MEANINGS = {
    400: "The body cannot be read.",
    401: "No API key, or one that is not valid.",
    403: "The key or client token may not do this.",
    404: "Not there, or another tenant's.",
    409: "It is in a state that does not allow this.",
    408: "The body came too slowly.",
    413: "The body is too large.",
    416: "The video has no such part.",
    415: "The body is of another media type.",
    412: "It has changed since you have seen it.",
    422: "The request or an upload cannot be used.",
    428: "`If-Match` is missing.",
    429: "Too many requests, uploads or renders; see Retry-After.",
    500: "Our fault.",
    503: "A service behind the API does not answer.",
}


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route that may fail with ``statuses``, 500 or 503; with 401 come 403 and 422."""
    needs_key = (403, 422, 429) if 401 in statuses else ()
    return {status: _problem(status) for status in sorted({*statuses, *needs_key, 500, 503})}


def located(status: int, description: str) -> dict[int | str, dict[str, Any]]:
    """The answer of a route that makes something, and says where it is."""
    location = {"Location": {"required": True, "schema": {"type": "string"}}}
    return {status: {"description": description, "headers": location}}


def made() -> dict[int | str, dict[str, Any]]:
    """The answer of a route that makes something with a secret."""
    return located(201, "Made. `Location` is where to ask for it, without its secret.")


def made_with_secret(response: Response, location: str) -> None:
    """Say of an answer with a secret where the thing without it is, and that nobody may keep the answer."""
    response.headers["Location"] = location
    response.headers["Cache-Control"] = "no-store"


def _problem(status: int) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": _MEANINGS[status], "content": {MEDIA_TYPE: {"schema": schema}}}


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of ``app``, made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
        )
        shared = document.setdefault("components", {}).setdefault("schemas", {})
        problem = schemas.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        shared.update(problem.pop("$defs", {}))
        shared["Problem"] = problem
        # FastAPI adds a 422 of its own shape wherever there is a parameter; ours are problem documents.
        for name in ("HTTPValidationError", "ValidationError"):
            shared.pop(name, None)
        for operations in document["paths"].values():
            for operation in operations.values():
                if "security" in operation:  # of the scopes that a route names, any one is enough
                    operation["security"] = [
                        {name: [scope]}
                        for way in operation["security"]
                        for name, scopes in way.items()
                        for scope in scopes
                    ]
                if "application/json" in operation["responses"].get("422", {}).get("content", {}):
                    del operation["responses"]["422"]
        _add_links(document["paths"], shared)
        app.openapi_schema = document
    return app.openapi_schema


def _add_links(paths: dict[str, Any], bodies: dict[str, Any]) -> None:
    """Link each route that makes something to the routes that take what it made."""
    for path, operations in paths.items():
        made = operations.get("post", {}).get("responses", {})
        for answer in (made[status] for status in ("201", "202") if status in made):
            body = str(answer.get("content", {}).get("application/json", {}).get("schema", {}).get("$ref", ""))
            if "id" not in bodies.get(body.rpartition("/")[2], {}).get("properties", {}):
                continue
            links = {
                operation["operationId"]: {
                    "operationId": operation["operationId"],
                    "parameters": {name: "$response.body#/id"},
                }
                for other, operations_of_it in paths.items()
                if (name := _only_parameter(other, path)) is not None
                for operation in operations_of_it.values()
            }
            if links:
                answer["links"] = links


def _only_parameter(path: str, made_at: str) -> str | None:
    """The name of the one parameter of a path that takes the id of what is made at another."""
    found = re.fullmatch(rf"{re.escape(made_at)}/\{{(\w+)\}}(?:/\w+)*", path)
    return None if found is None else found[1]

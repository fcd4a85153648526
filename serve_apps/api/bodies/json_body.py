"""Small JSON bodies, read once the caller is known.

A framework that parses bodies itself reads them first, from anybody.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from serve_apps.api.services import ServicesOf
from serve_apps.api.uploads import arriving
from serve_apps.problems import ApiProblem

MOST_BYTES = 64_000
_MEDIA_TYPE = "application/json"
Body = TypeVar("Body", bound=BaseModel)


def json_body(model: type[Body]) -> Any:
    """The dependency that gives a route its body; name it after the one that lets the caller in.

    An empty body stands for ``{}``.
    """

    async def read(request: Request, services: ServicesOf) -> Body:
        text = b""
        try:
            async for piece in arriving(request, services.config, MOST_BYTES):
                text += piece
        except ClientDisconnect as error:
            raise ApiProblem("malformed-request", "the body ended early") from error
        if text and request.headers.get("content-type", "").partition(";")[0].strip().lower() != _MEDIA_TYPE:
            raise ApiProblem("unsupported-media-type", f"the body must be {_MEDIA_TYPE}")
        try:
            return model.model_validate(json.loads(text or b"{}"))
        except ValidationError as error:
            faults = [{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors(include_url=False)]
            raise RequestValidationError(faults) from error
        except (ValueError, RecursionError) as error:  # no JSON, no text, or nested without end
            raise ApiProblem("malformed-request", "the body is not JSON") from error

    typed: Callable[..., Awaitable[Body]] = read
    return Depends(typed)


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """The ``openapi_extra`` of a route with such a body, with models inside it written out."""
    schema = model.model_json_schema()
    parts = schema.pop("$defs", {})

    def written_out(node: Any) -> Any:
        if isinstance(node, list):
            return [written_out(each) for each in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return written_out(parts[node["$ref"].rpartition("/")[2]])
        return {name: written_out(each) for name, each in node.items()}

    return {"requestBody": {"content": {_MEDIA_TYPE: {"schema": written_out(schema)}}}}

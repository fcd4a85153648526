"""Fills the marked sections of pages: command line, HTTP routes and Python names.

A section is marked ``<!-- text NAME -->`` and ``<!-- end text -->``; what stands between is written here.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import m2dao
from tools.docs.tables import markdown_table

_MARKED = re.compile(r"(<!-- text (?P<name>\S+) -->\n)(?P<body>.*?)(<!-- end text -->)", re.DOTALL)
_WIDTH = "100"  # of help texts, in columns
_EXAMPLES = {
    "render_id": "r-7f3c1f0e5b1d4d0fa2b5e0f4c1a2b3c4",
    "fit_id": "f-7f3c1f0e5b1d4d0fa2b5e0f4c1a2b3c4",
    "recording_id": "rec-7f3c1f0e5b1d4d0fa2b5e0f4c1a2b3c4",
    "identity": "anna",
    "version": "7",
    "key_id": "0b1c2d3e4f5a",
    "token_id": "5a4f3e2d1c0b",
    "webhook_id": "wh-7f3c1f0e5b1d4d0fa2b5e0f4c1a2b3c4",
    "delivery_id": "dl-7f3c1f0e5b1d4d0fa2b5e0f4c1a2b3c4-1",
    "batch_id": "b-7f3c1f0e5b1d4d0fa2b5e0f4c1a2b3c4",
}


def fill_texts(text: str) -> str:
    """The page with every marked section written anew."""
    return _MARKED.sub(lambda found: f"{found[1]}{TEXTS[found['name']]().strip()}\n{found[4]}", text)


def programs() -> dict[str, argparse.ArgumentParser]:
    """The parser of each of our programs."""
    import cluster.cli
    import m2dao.cli
    import serve_apps.cli
    import train_jobs.cli

    sys.path.insert(0, str(Path(__file__).parents[2] / "clients/python"))  # the SDK of this tree, installed or not
    from m2dao_client.command import main as client

    return {
        "m2dao": m2dao.cli.build_parser(),
        "m2dao-cluster": cluster.cli.build_parser(),
        "m2dao-train": train_jobs.cli.build_parser(),
        "m2dao-serve": serve_apps.cli.build_parser(),
        "m2dao-client": client.build_parser(),
    }


def _command_line() -> str:
    with mock.patch.dict(os.environ, {"COLUMNS": _WIDTH}):
        return "\n".join(
            f"{'#' * (2 + min(depth, 1))} `{parser.prog}`\n\n```text\n{parser.format_help().strip()}\n```\n"
            for program in programs().values()
            for parser, depth in _with_commands(program, 0)
        )


def _with_commands(parser: argparse.ArgumentParser, depth: int) -> Iterator[tuple[argparse.ArgumentParser, int]]:
    yield parser, depth
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _with_commands(command, depth + 1)


def _http() -> str:
    from serve_apps.api.ingress import create_api

    document = create_api(None).openapi()
    routes = [
        _route(method, path, operation, document)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    bodies = [
        f"### `{name}`\n\n{schema.get('description', '')}\n\n{_fields(schema, document)}"
        for name, schema in document["components"]["schemas"].items()
    ]
    return "\n".join(["## Routes\n", *routes, "## Bodies\n", *bodies])


def _route(method: str, path: str, operation: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    parts = [f"### `{method.upper()} {path}`\n", operation["description"] + "\n"]
    needed = [f"`{scope}`" for way in operation.get("security", ()) for scopes in way.values() for scope in scopes]
    parts.append(f"Needs a key with the scope {' or a token for '.join(needed)}.\n" if needed else "Needs no key.\n")
    parameters = [
        (f"`{each['name']}`", each["in"], _type_of(each["schema"]), each.get("description", ""))
        for each in operation.get("parameters", ())
    ]
    if parameters:
        parts.append(markdown_table(("parameter", "in", "type", "meaning"), parameters))
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        parts.append(f"Body, `{media_type}`:\n")
        parts.append(_fields(content["schema"], document))
    answers = [(status, answer["description"]) for status, answer in operation["responses"].items()]
    parts.append(markdown_table(("status", "meaning"), answers))
    parts.append(f"```bash\n{_curl(method, path, operation)}\n```\n")
    return "\n".join(parts)


def _curl(method: str, path: str, operation: Mapping[str, Any]) -> str:
    words = ["curl -sS", "" if method == "get" else f"-X {method.upper()}"]
    for parameter, example in _EXAMPLES.items():
        path = path.replace(f"{{{parameter}}}", example)
    words.append("http://127.0.0.1:8000" + path)
    if "security" in operation:
        words.append('-H "Authorization: Bearer $M2DAO_KEY"')
    bodies = operation.get("requestBody", {}).get("content", {})
    if "multipart/form-data" in bodies:
        words.append("-F audio=@speech.wav -F identity=anna")
    if "application/json" in bodies:
        example = {
            name: field["examples"][0]
            for name, field in bodies["application/json"]["schema"]["properties"].items()
            if name in bodies["application/json"]["schema"].get("required", ())
        }
        words.append(f"--json '{json.dumps(example)}'")
    return " ".join(word for word in words if word)


def _fields(schema: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    needed = schema.get("required", ())
    rows = [
        (f"`{name}`", _type_of(field), "yes" if name in needed else "", field.get("description", ""))
        for name, field in schema["properties"].items()
    ]
    return markdown_table(("field", "type", "always", "meaning"), rows)


def _type_of(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return "`" + schema["$ref"].rpartition("/")[2] + "`"
    if "anyOf" in schema:
        return " or ".join(_type_of(each) for each in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return "list of " + _type_of(schema["items"])
    bounds = [f"{name} {schema[key]}" for name, key in (("from", "minimum"), ("to", "maximum")) if key in schema]
    kind = schema.get("format", schema.get("type", "object"))
    kind = (
        "`" + str(schema["const"]) + "`"
        if "const" in schema
        else {"binary": "file", "date-time": "time"}.get(kind, kind)
    )
    return ", ".join(
        [" ".join([kind, *bounds]), *([f"default `{schema['default']}`"] if schema.get("default") is not None else [])]
    )


_PUBLIC = ("prepare", "fit", "evaluate", "Talker", "Capture")  # in the order of work


def _python() -> str:
    return "\n".join(_described(name, getattr(m2dao, name)) for name in _PUBLIC)


def _described(name: str, thing: Any) -> str:
    parts = [_callable(f"m2dao.{name}", thing, 2)]
    if inspect.isclass(thing):
        parts += [
            _callable(f"{name}.{member}", getattr(thing, member), 3)
            for member, value in vars(thing).items()
            if not member.startswith("_") and (callable(value) or isinstance(value, classmethod | property))
        ]
    return "\n".join(parts)


def _callable(title: str, thing: Any, level: int) -> str:
    name = title.rpartition(".")[2]
    signature = name if isinstance(thing, property) else name + _signature(thing)
    doc = inspect.getdoc(thing) or ""
    return f"{'#' * level} `{title}`\n\n```python\n{signature}\n```\n\n```text\n{doc}\n```\n"


def _signature(thing: Any) -> str:
    """Parameters with their types, each on a line of its own where one line would be too long."""
    signature = inspect.signature(thing)
    words = []
    for name, each in signature.parameters.items():
        if each.kind is each.KEYWORD_ONLY and "*" not in words:
            words.append("*")
        kind = "" if each.annotation is each.empty else f": {each.annotation}"
        words.append(name + kind + ("" if each.default is each.empty else f" = {each.default!r}"))
    answer = "" if signature.return_annotation is signature.empty else f" -> {signature.return_annotation}"
    line = f"({', '.join(words)}){answer}"
    return line if len(line) <= int(_WIDTH) else "(\n" + "".join(f"    {word},\n" for word in words) + f"){answer}"


TEXTS: Mapping[str, Callable[[], str]] = {"command-line": _command_line, "http": _http, "python": _python}

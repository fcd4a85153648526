"""Writes the modules of the SDK that say what the API says: its bodies and its problems.

They are made from the OpenAPI document and from the table of problems, so that no field and no code is forgotten. The
SDK itself imports nothing of ours.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path("clients/python/m2dao_client")
_HEAD = "Written from the API's own description by `make docs`: do not edit."
_PLAIN = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}
_GENERAL = {404: "not-found", 409: "conflict", 429: "too-many-requests"}  # the parents of others of their status
_WIDTH = 112
_REF = "#/components/schemas/"


def sdk_files() -> dict[Path, str]:
    """Every written module of the SDK, by its path from the root of the repository."""
    from serve_apps.api.ingress import create_api

    document = create_api(None).openapi()
    files = {PACKAGE / "problems.py": _problems()}
    for name, text in _models(document).items():
        files[PACKAGE / "models" / f"{name}.py"] = text
    return {path: _formatted(text) for path, text in files.items()}


def _formatted(text: str) -> str:
    ruff = str(Path(sys.executable).with_name("ruff"))
    for command in (["check", "--select", "I,F401", "--fix"], ["format"]):
        asked = [ruff, *command, "--quiet", "--stdin-filename", str(PACKAGE / "written.py"), "-"]
        text = subprocess.run(asked, input=text, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    return text


# -- problems -----------------------------------------------------------------------------------------------------


def _problems() -> str:
    from serve_apps.problems import PROBLEMS

    lines = [
        f'"""Every problem of the API as an exception class.\n\n{_HEAD}\n"""',
        "",
        "from __future__ import annotations",
    ]
    lines += ["", "from m2dao_client.errors import ApiError", "", ""]
    for code in [*_GENERAL.values(), *(code for code in PROBLEMS if code not in _GENERAL.values())]:
        kind, general = PROBLEMS[code], _GENERAL.get(PROBLEMS[code].status, code)
        parent = "ApiError" if general == code else _class_name(general)
        lines += [f"class {_class_name(code)}({parent}):", f'    """{kind.status}: {_sentence(kind.title)}"""', ""]
        lines += [f'    code = "{code}"', f"    status = {kind.status}", "", ""]
    return "\n".join(lines)


def _class_name(code: str) -> str:
    return "".join(part.capitalize() for part in code.split("-"))


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."


# -- bodies -------------------------------------------------------------------------------------------------------


def _models(document: Mapping[str, Any]) -> dict[str, str]:
    """The source of each module of models, by its name: one for each tag, one for what several tags share."""
    schemas = document["components"]["schemas"]
    tags: dict[str, set[str]] = defaultdict(set)
    for operations in document["paths"].values():
        for operation in operations.values():
            for name in _reached(operation["responses"], schemas):
                tags[name].update(operation["tags"])
    names = _names(schemas)
    places = {name: next(iter(tags[name])) if len(tags[name]) == 1 else "shared" for name in schemas}
    modules: dict[str, list[str]] = defaultdict(list)
    for name in schemas:
        modules[places[name]].append(name)
    texts = {module: _module(module, members, schemas, names, places) for module, members in modules.items()}
    return {**texts, "requests": _requests(document), "__init__": _index(modules, names)}


def _names(schemas: Mapping[str, Any]) -> dict[str, str]:
    """What the SDK calls each body: `Fit`, where the API's own code says `FitBody`."""
    names = {name: name.removesuffix("Body") for name in schemas}
    # Where both names are taken, the plain one is what stands in lists.
    return names | {name: f"{name}Entry" for name in schemas if f"{name}Body" in schemas}


def _reached(part: Any, schemas: Mapping[str, Any], seen: frozenset[str] = frozenset()) -> Iterator[str]:
    """Names of the schemas that a part of the document refers to, also by others."""
    if isinstance(part, Mapping):
        name = str(part.get("$ref", "")).removeprefix(_REF)
        if name and name not in seen:
            yield name
            yield from _reached(schemas[name], schemas, seen | {name})
        for value in part.values():
            yield from _reached(value, schemas, seen)
    elif isinstance(part, list):
        for value in part:
            yield from _reached(value, schemas, seen)


def _module(
    module: str, members: list[str], schemas: Mapping[str, Any], names: Mapping[str, str], places: Mapping[str, str]
) -> str:
    bodies = "\n\n".join(_class(name, schemas, names) for name in _in_order(members, schemas))
    used = {other for name in members for other in _direct(schemas[name])}
    imports = ["from m2dao_client.models.base import Model"]
    for place in sorted({places[name] for name in used} - {module}):
        wanted = ", ".join(sorted(names[name] for name in used if places[name] == place))
        imports.append(f"from m2dao_client.models.{place} import {wanted}")
    standard = [line for word, line in _STANDARD.items() if re.search(word, bodies)]
    head = [f'"""Bodies of the API: {module}.\n\n{_HEAD}\n"""', "", "from __future__ import annotations", ""]
    return "\n".join([*head, *standard, *([""] if standard else []), *sorted(imports), "", "", bodies, ""])


_STANDARD = {
    r"\bdate\b": "from datetime import date",
    r"\bdatetime\b": "from datetime import datetime",
    r"\bAny\]": "from typing import Any",
    r"\bLiteral\[": "from typing import Literal",
    r"\bRequired\[": "from typing import Required",
    r"\bTypedDict\b": "from typing import TypedDict",
}


def _direct(part: Any) -> set[str]:
    """Names of the schemas that a part names itself."""
    if isinstance(part, Mapping):
        own = {str(part["$ref"]).removeprefix(_REF)} if "$ref" in part else set()
        return own.union(*(_direct(value) for value in part.values()))
    return set().union(*(_direct(value) for value in part)) if isinstance(part, list) else set()


def _in_order(members: list[str], schemas: Mapping[str, Any]) -> list[str]:
    """Those that others are made of come first."""
    ordered: list[str] = []

    def add(name: str) -> None:
        if name in ordered or name not in members:
            return
        for other in sorted(_direct(schemas[name]) - {name}):
            add(other)
        ordered.append(name)

    for name in members:
        add(name)
    return ordered


def _class(name: str, schemas: Mapping[str, Any], names: Mapping[str, str]) -> str:
    schema = schemas[name]
    lines = [f"class {names[name]}(Model):", f'    """{schema["description"]}"""', ""]
    required = schema.get("required", [])
    for field, of in schema.get("properties", {}).items():
        kind = _type(of, names)
        default = "" if field in required else f" = {of.get('default')!r}"
        if default == " = None" and "None" not in kind:
            kind = f"{kind} | None"
        lines.append(f"    {field}: {kind}{default}")
        if "description" in of:
            lines.append(textwrap.indent(_docstring(of["description"]), "    "))
    return "\n".join(lines) + "\n"


def _docstring(text: str) -> str:
    return "\n".join(textwrap.wrap(f'"""{text}"""', _WIDTH, break_long_words=False))


def _type(of: Mapping[str, Any], names: Mapping[str, str]) -> str:
    if "$ref" in of:
        return names[str(of["$ref"]).removeprefix(_REF)]
    if "anyOf" in of:
        return " | ".join(dict.fromkeys(_type(one, names) for one in of["anyOf"]))
    if "enum" in of or "const" in of:
        return f"Literal[{', '.join(repr(value) for value in of.get('enum', [of.get('const')]))}]"
    match of.get("type"):
        case "array":
            return f"list[{_type(of['items'], names)}]" if "items" in of else "list[Any]"
        case "object":
            values = of.get("additionalProperties")
            return f"dict[str, {_type(values, names) if isinstance(values, Mapping) and values else 'Any'}]"
        case "string" if of.get("format") == "date-time":
            return "datetime"
        case "string" if of.get("format") == "date":
            return "date"
        case str(plain):
            return _PLAIN[plain]
    return "Any"


def _requests(document: Mapping[str, Any]) -> str:
    """What the JSON bodies of requests may hold, as typed keywords."""
    bodies = {}
    for operations in document["paths"].values():
        for operation in operations.values():
            content = operation.get("requestBody", {}).get("content", {})
            schema = content.get("application/json", {}).get("schema")
            if schema is not None:
                bodies[schema["title"]] = _keywords(schema)
    text = "\n\n".join(bodies.values())
    standard = [line for word, line in _STANDARD.items() if re.search(word, text)]
    head = f'"""What requests say: keyword arguments of the operations.\n\n{_HEAD}\n"""'
    return "\n".join([head, "", "from __future__ import annotations", "", *standard, "", "", text])


def _keywords(schema: Mapping[str, Any]) -> str:
    inner = schema.get("$defs", {})
    lines = [f"class {schema['title']}(TypedDict, total=False):", f'    """{schema["description"]}"""', ""]
    for field, of in schema["properties"].items():
        kind = "dict[str, Any]" if inner and "$ref" in json.dumps(of) else _type(of, {})
        lines.append(f"    {field}: {f'Required[{kind}]' if field in schema.get('required', []) else kind}")
        if "description" in of:
            lines.append(textwrap.indent(_docstring(of["description"]), "    "))
    return "\n".join(lines) + "\n"


def _index(modules: Mapping[str, list[str]], names: Mapping[str, str]) -> str:
    head = f'"""The bodies of the API, as typed objects.\n\n{_HEAD}\n"""'
    lines = [
        f"from m2dao_client.models.{module} import {', '.join(sorted(names[name] for name in members))}"
        for module, members in sorted(modules.items())
    ]
    public = sorted(names.values())
    return "\n".join([head, "", *lines, "", f"__all__ = {public!r}", ""])

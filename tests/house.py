"""Measures what the house rules limit: lengths, arguments, folders, circles, names only tests use.

``python -m tests.house`` prints the figures of this tree, ``python -m tests.house FOLDER`` those of another one.
"""

from __future__ import annotations

import ast
import functools
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("m2dao", "cluster", "train_jobs", "serve_apps")
# Code that uses the packages and is no test. `tests` is measured too, but what only `tests` uses is not used.
USERS = ("examples", "benchmarks", "tools", "clients")
FOLDERS = (*PACKAGES, *USERS, "tests")

_TEXTS = {".py", ".md", ".toml", ".yaml"}

# Decorators by which a framework finds a function: nobody calls it by name.
REGISTERING = ["@app.*", "@api.*", "@router.*", "@*.exception_handler", "@overload", "@njit", "@intrinsic", "@lower_*"]


@dataclass(frozen=True)
class Function:
    """A function or method: its lines with docstring, its arguments without self."""

    path: str
    name: str
    num_lines: int
    num_arguments: int

    @property
    def place(self) -> str:
        return f"{self.path}::{self.name}"


def python_files(root: Path, folders: tuple[str, ...] = FOLDERS) -> Iterator[tuple[str, Path]]:
    """Every Python file of the house, with its path from the root."""
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            yield path.relative_to(root).as_posix(), path


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def lines_of_files(root: Path) -> dict[str, int]:
    return {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in python_files(root)}


def promises(root: Path) -> dict[str, str]:
    """First paragraphs of docstrings, by ``file::line``."""
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    return {
        f"{name}::{getattr(node, 'lineno', 1)}": text.split("\n\n")[0]
        for name, path in python_files(root)
        for node in ast.walk(_tree(path))
        if isinstance(node, documented) and (text := ast.get_docstring(node))
    }


@functools.cache
def functions(root: Path) -> list[Function]:
    """Every function and method, those inside others too."""
    return [found for name, path in python_files(root) for found in _functions_in(name, path)]


def _functions_in(name: str, path: Path) -> Iterator[Function]:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield Function(name, node.name, node.end_lineno - node.lineno + 1, _num_arguments(node.args))


def _num_arguments(arguments: ast.arguments) -> int:
    named = [arg.arg for arg in (*arguments.posonlyargs, *arguments.args)]
    num = len(named) - (named[:1] in (["self"], ["cls"])) + len(arguments.kwonlyargs)
    return num + (arguments.vararg is not None) + (arguments.kwarg is not None)


def files_in_folders(root: Path) -> dict[str, int]:
    """How many files stand directly in each folder of the house, whatever their kind."""
    counts: dict[str, int] = defaultdict(int)
    for folder in FOLDERS:
        for path in (root / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith("."):
                counts[path.parent.relative_to(root).as_posix()] += 1
    return dict(counts)


def circles(root: Path) -> list[list[str]]:
    """Sets of modules that import each other: at the top, in a function, or for types only."""
    import networkx

    modules = {_module(name): path for name, path in python_files(root, PACKAGES)}
    graph = networkx.DiGraph()
    for module, path in modules.items():
        for _, name in imports(path, root):
            while name and name not in modules:
                name = name.rpartition(".")[0]
            graph.add_edge(module, name)
    return sorted(sorted(circle) for circle in networkx.strongly_connected_components(graph) if len(circle) > 1)


def _module(name: str) -> str:
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imports(path: Path, root: Path) -> Iterator[tuple[int, str]]:
    """(line, absolute dotted name) of every import in a file, wherever in it."""
    package = path.relative_to(root).with_suffix("").parts
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: -node.level]) if node.level else []
            module = ".".join(base + ([node.module] if node.module else []))
            # "from m2dao import errors" names a module too; a class's name does no harm here.
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def constants(root: Path, values: dict[object, str]) -> list[str]:
    """``file::value`` of every place but its owner that writes out one of some values."""
    found = []
    for name, path in python_files(root, PACKAGES):
        for node in ast.walk(_tree(path)):
            value = node.value if isinstance(node, ast.Constant) else None
            if isinstance(node, ast.Tuple | ast.List):
                value = tuple(getattr(part, "value", None) for part in node.elts)
            if type(value) in (int, str, tuple) and value in values and name != values[value]:
                found.append(f"{name}::{value}")
    return sorted(set(found))


def names_without_users(root: Path) -> list[str]:
    """Public functions, classes, methods and constants of the packages that only tests use, or nobody.

    A name counts as used where code mentions it, and where a text names it as ``module:name`` or ``module.name``: an
    entry point, a page of the docs, a job's configuration.
    """
    from vulture import Vulture

    search = Vulture(ignore_decorators=REGISTERING)
    search.scavenge([str(root / folder) for folder in (*PACKAGES, *USERS) if (root / folder).is_dir()])
    told = _told(root)
    constants = {(name, constant) for name, path in python_files(root, PACKAGES) for constant in _constants(path)}
    unused = []
    for item in search.get_unused_code():
        path = Path(item.filename).resolve().relative_to(root.resolve()).as_posix()
        if item.name.startswith("_") or path.split("/")[0] not in PACKAGES:
            continue
        kind = "constant" if item.typ == "variable" and (path, item.name) in constants else item.typ
        if kind in ("function", "class", "method", "property", "constant") and item.name not in told:
            unused.append(f"{path}::{item.name}")
    return sorted(unused)


def _constants(path: Path) -> Iterator[str]:
    for node in _tree(path).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        yield from (target.id for target in targets if isinstance(target, ast.Name))


def _told(root: Path) -> set[str]:
    """Names that a text gives together with their module."""
    paths = [path for path in root.iterdir() if path.suffix in _TEXTS]
    for folder in (*PACKAGES, *USERS, "docs"):
        paths += [path for path in (root / folder).rglob("*") if path.suffix in _TEXTS]
    texts = [path.read_text(encoding="utf-8") for path in paths]
    pattern = re.compile(rf"\b(?:{'|'.join(PACKAGES)})(?:\.\w+)*[.:](\w+)")
    return {name for text in texts for name in pattern.findall(text)}


def report(root: Path) -> Iterator[str]:
    """The figures, one line each: the tree, the longest file and function, import circles."""
    sizes, num_files = lines_of_files(root), files_in_folders(root)
    yield f"{'folder':40} {'files':>5} {'median lines':>12}"
    for folder in sorted(num_files):
        lines = [num for name, num in sizes.items() if name.rpartition("/")[0] == folder]
        yield f"{folder:40} {num_files[folder]:5} {statistics.median(lines) if lines else 0:12.0f}"
    ours = {name: num for name, num in sizes.items() if name.split("/")[0] in PACKAGES}
    longest, found = max(ours, key=ours.get), [f for f in functions(root) if f.path in ours]
    longest_function, widest = max(found, key=lambda f: f.num_lines), max(found, key=lambda f: f.num_arguments)
    num_lines, ours_lines = sum(sizes.values()), sum(ours.values())
    yield f"files: {len(sizes)}, of them in the packages: {len(ours)}; lines: {num_lines}, {ours_lines}"
    yield f"longest file: {longest}, {ours[longest]} lines"
    yield f"longest function: {longest_function.place}, {longest_function.num_lines} lines"
    yield f"most arguments: {widest.place}, {widest.num_arguments}"
    found_circles = circles(root)
    yield f"import circles: {len(found_circles)}"
    yield from (f"  {len(circle)} modules: {', '.join(circle)}" for circle in found_circles)


if __name__ == "__main__":
    print(*report(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT), sep="\n")

"""The decorators and the registry of compiled functions."""

import ast
import json
import os
import resource
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from m2dao.kernels.compiled import helper, kernel, source_digest

ROOT = Path(__file__).parents[3]
ENGINE = ROOT / "m2dao"

HELPER = """
from m2dao.kernels.compiled import helper
SHIFT = {shift}

@helper({options})
def grown(value):
    return value {operator} 2
"""
KERNEL = """
import json
import numpy as np
from m2dao.kernels.compiled import kernel, machine_code_folder
from other_file import SHIFT, grown

@kernel()
def total(values):
    out = 0.0
    for value in values:
        out += grown(value) + SHIFT
    return out

if __name__ == "__main__":
    result = total(np.array([3.0, 4.0]))
    print(json.dumps([result, sum(total.stats.cache_hits.values()), str(machine_code_folder())]))
"""


def start_kernel(folder, *, operator="*", shift=0.0, options="", variables=None, file_bytes=None):
    """Calls the kernel in a fresh process.

    Args:
        variables: for its environment.
        file_bytes: how large a file it may write; a limit on it stands for a full disk.
    """
    (folder / "with_kernel.py").write_text(KERNEL)
    (folder / "other_file.py").write_text(HELPER.format(operator=operator, shift=shift, options=options))
    environment = {key: value for key, value in os.environ.items() if key != "NUMBA_CACHE_DIR"}
    environment["PYTHONPATH"] = f"{ROOT}{os.pathsep}{folder}"
    ran = subprocess.run(
        [sys.executable, folder / "with_kernel.py"],
        env=environment | (variables or {}),
        capture_output=True,
        text=True,
        timeout=300,
        preexec_fn=file_bytes and partial(resource.setrlimit, resource.RLIMIT_FSIZE, (file_bytes, file_bytes)),
    )
    assert ran.returncode == 0, ran.stderr
    return ran


def run_kernel(folder, **how):
    """What a fresh process gets from the kernel, and whether it found machine code on disk."""
    return tuple(json.loads(start_kernel(folder, **how).stdout)[:2])


@pytest.mark.parametrize("options", ["", 'inline="always"'])
def test_a_kernel_is_compiled_again_when_only_a_helper_in_another_file_changed(tmp_path, options):
    assert run_kernel(tmp_path, options=options) == (14.0, 0)
    assert run_kernel(tmp_path, options=options) == (14.0, 1)  # nothing changed: from disk
    assert run_kernel(tmp_path, options=options, operator="+") == (11.0, 0)
    assert run_kernel(tmp_path, options=options, operator="+", shift=1.0) == (13.0, 0)


def test_the_folder_of_machine_code_lets_another_process_find_it(tmp_path):
    kept = tmp_path / "kept"
    variables = {"NUMBA_CACHE_DIR": str(kept)}
    assert json.loads(start_kernel(tmp_path, variables=variables).stdout) == [14.0, 0, str(kept)]
    assert json.loads(start_kernel(tmp_path, variables=variables).stdout) == [14.0, 1, str(kept)]
    assert json.loads(start_kernel(tmp_path).stdout)[2] == "None"  # beside the module


@pytest.mark.parametrize(
    ("how", "warning"),
    [
        ({"variables": {"NUMBA_CACHE_LOCATOR_CLASSES": "ZipCacheLocator"}}, "set NUMBA_CACHE_DIR"),
        ({"file_bytes": 1}, "machine code is not kept"),
    ],
)
def test_a_kernel_whose_machine_code_cannot_be_kept_runs_all_the_same(tmp_path, how, warning):
    ran = start_kernel(tmp_path, **how)
    assert json.loads(ran.stdout)[:2] == [14.0, 0]
    assert warning in ran.stderr


def test_the_digest_covers_constants_nested_helpers_and_options():
    def digest(scale, table, **options):
        @helper(**options)
        def inner(value):
            return scale * value

        @helper()
        def outer(value):
            return inner(value) + table[0]

        @kernel()
        def whole(value):
            return outer(value)

        return source_digest(whole.py_func)

    table, other = np.arange(3.0), np.arange(3.0) + 1
    variants = [
        digest(2.0, table),
        digest(3.0, table),
        digest(2.0, other),
        digest(2.0, table, fastmath=True),
        digest(2.0, table, fastmath={"contract", "nsz"}),
    ]
    assert len(set(variants)) == len(variants)
    assert digest(2.0, table) == variants[0]


def test_a_kernel_cannot_freeze_what_may_change_unseen():
    settings = {"scale": 2.0}

    def scaled(value):
        return settings["scale"] * value

    with pytest.raises(TypeError, match="settings, a dict"):
        source_digest(scaled)


def test_no_file_but_one_compiles_by_numbas_own_decorators():
    wrong = []
    for path in sorted(ENGINE.rglob("*.py")):
        names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
        if names & {"njit", "jit", "vectorize", "guvectorize", "stencil", "cfunc"}:
            wrong.append(path.relative_to(ENGINE).as_posix())
    assert wrong == ["kernels/compiled.py"]


def decorated(kind):
    """The functions of the engine under our decorator, by module and name."""
    found = set()
    for path in ENGINE.rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and any(
                isinstance(mark, ast.Call) and isinstance(mark.func, ast.Name) and mark.func.id == kind
                for mark in node.decorator_list
            ):
                found.add(f"{module}.{node.name}")
    return found


COMPILE_ALL = """
import json
import numpy as np
from m2dao.cli import main
from m2dao.kernels.compiled import HELPERS, KERNELS

def counts():
    return {name: len(kernel.signatures) for name, kernel in KERNELS.items()}

assert main(["assets", "compile", "--json"]) == 0
ahead = counts()
from m2dao.identity.specimen import babble, make_specimen
from m2dao.identity.talker import Talker
talker = Talker(make_specimen(size=32, num_gaussians=100), backend="cpu")
for background in (None, "transparent", (0, 0, 0), np.zeros((9, 9, 3), np.uint8)):
    list(talker.frames(babble(0.1), background=background))
print(json.dumps([sorted(HELPERS), ahead, counts()]))
"""


def test_every_kernel_in_the_source_is_registered_and_compiled_ahead():
    ran = subprocess.run([sys.executable, "-c", COMPILE_ALL], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr
    helpers, ahead, after_frames = json.loads(ran.stdout.splitlines()[-1])
    assert set(helpers) == decorated("helper")
    assert set(ahead) == decorated("kernel")
    assert [name for name, num_signatures in ahead.items() if not num_signatures] == []
    assert after_frames == ahead  # frames of a talker find everything compiled

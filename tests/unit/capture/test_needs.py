"""What a preparation needs is known without importing it."""

from __future__ import annotations

import subprocess
import sys

from m2dao.capture.needs import KERNELS

_KERNELS_OF_PREPARE = """
import m2dao.capture.prepare
from m2dao.kernels.compiled import KERNELS
print(*sorted({kernel.py_func.__module__ for kernel in KERNELS.values()}))
"""


def test_every_kernel_of_a_preparation_is_compiled_before_it_is_shut_in():
    ran = subprocess.run([sys.executable, "-c", _KERNELS_OF_PREPARE], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == sorted(KERNELS)


def test_to_compile_them_imports_no_preparation():
    program = "import sys, m2dao.capture.needs; print('m2dao.capture.prepare' in sys.modules, 'sklearn' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "False"]

"""What a preparation needs before it is shut in, for those who do not import all of ``prepare``."""

from __future__ import annotations

import importlib

from m2dao.kernels.compiled import compile_ahead

MODELS = ("face_landmarker", "selfie_segmentation")
KERNELS = ("m2dao.capture.cameras.alignment_kernel", "m2dao.capture.regions.mask_kernel")


def compile_kernels() -> None:
    """Compile the kernels of ``prepare``, or load them: who is shut in can load but not keep them."""
    for name in KERNELS:
        importlib.import_module(name)
        compile_ahead(name)

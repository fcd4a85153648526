"""Numbers that every backend must agree on; gsplat's, so that its kernels give the same picture."""

from __future__ import annotations

ALPHA_MIN = 1.0 / 255.0  # fainter contributions are ignored
ALPHA_MAX = 0.999  # keeps 1 - alpha away from zero, so gradients stay finite
TRANSMITTANCE_MIN = 1e-4  # a pixel is finished before its transmittance falls to this
FAR_PLANE = 1e10  # world units
FRUSTUM_MARGIN = 0.3  # share of the half field of view by which the Jacobian's ray may leave the image
MAX_EXTENT_SIGMAS = 3.33  # sqrt(2 ln 255): beyond it even an opaque Gaussian is fainter than ALPHA_MIN

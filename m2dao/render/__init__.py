"""Differentiable splatting of 3D Gaussians: one function, three backends (see ``api.render``)."""

"""Compiling the kernels of a fit ahead of their first use; the machine code stays on disk."""

from __future__ import annotations

import torch

from m2dao.motion.kernels.fused_pose import compile_pose_gradients
from m2dao.training.frames.targets import compile_frame_kernels
from m2dao.training.losses.fused_losses import pixel_losses
from m2dao.training.losses.terms import FrameTarget
from m2dao.training.recipes import LossWeights


def compile_training_kernels() -> None:
    """Run every kernel of a fit forward and backward on next to nothing."""
    compile_frame_kernels()
    compile_pose_gradients()
    colors, alphas = torch.rand(16, 16, 4, requires_grad=True), torch.rand(16, 16, 1, requires_grad=True)
    target = FrameTarget(torch.rand(16, 16, 3), torch.rand(16, 16, 4), torch.rand(16, 16, 3), torch.rand(16, 16))
    pixel_losses(colors, alphas, target, LossWeights(), has_torso=True).loss.backward()  # D-SSIM is part of it

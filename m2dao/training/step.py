"""One step of a fit: pose, render, compare, differentiate.

Shapes: H x W pixels, N Gaussians of all groups.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import zip_longest
from typing import NamedTuple

import torch
from torch import Tensor, nn

from m2dao.gaussians.density import ScreenGradients
from m2dao.kernels.threads import call_together
from m2dao.motion.consistency import find_neighbours
from m2dao.motion.kernels.fused_pose import fused_pose
from m2dao.motion.talking_head import FrameConditions, StaticFeatures, TalkingHead
from m2dao.render.api import device_of, render
from m2dao.stages import timed
from m2dao.training.feature_cache import FeatureCache
from m2dao.training.frames.targets import FrameTarget
from m2dao.training.losses.fused_losses import pixel_losses
from m2dao.training.losses.patches import PatchLoss
from m2dao.training.losses.terms import motion_loss, pixel_losses_reference
from m2dao.training.recipes import Recipe

FrameToTake = tuple[FrameConditions, Callable[[], FrameTarget]]
_AT_ONCE = 2  # frames differentiated by the same parameters


class StepResult(NamedTuple):
    """What a frame gave."""

    loss: float
    mse: float  # of the whole composite
    composite: Tensor  # [H, W, 3] detached
    gradients: list[tuple[nn.Parameter, Tensor]]
    feature_gradients: list[Tensor | None]  # by the leaves of the static features
    screen: tuple[Tensor, Tensor] | None  # [N, 2] gradients by screen positions and [N] what is drawn, if asked for


class StepRunner:
    """Forward and backward of single frames.

    Args:
        head: the model.
        recipe: losses and kind.
        K: [3, 3] for the recipe's size.
        backend: render backend, on whose device the head lies. On ``cpu``, posing and pixel losses have kernels of
            their own.
        sound: encoders that conditions depend on and that are trained too.
    """

    def __init__(self, head: TalkingHead, recipe: Recipe, K: Tensor, *, backend: str, sound: nn.Module | None = None):
        self.head, self.recipe, self.backend, self._sound = head, recipe, backend, sound
        self._K = K.float()[None].to(device_of(backend))
        self._camera = torch.eye(4, device=device_of(backend))[None]
        self._features = FeatureCache(head, recipe.field_block_steps)
        self._neighbours: Tensor | None = None
        self._patches = PatchLoss(device_of(backend)) if recipe.losses.patches else None

    @property
    def num_at_once(self) -> int:
        """How many frames may be differentiated by the same parameters.

        On a CPU two of them, in a thread each where there are threads: kernels alone, shared by threads, leave half of
        a step to one of them. The second frame's step then comes one step late, which changes nothing measurable.
        """
        return min(_AT_ONCE if self.backend == "cpu" else 1, self._features.num_frames_left)

    def run(
        self, frames: list[FrameToTake], *, moving: bool, screen: bool = False, patches: Sequence[int | None] = ()
    ) -> list[StepResult]:
        """Differentiate frames by the present parameters; at most :attr:`num_at_once`.

        Args:
            frames: conditions and what makes the targets.
            moving: whether non-rigid motion is on.
            screen: whether density control wants screen-space gradients.
            patches: number of the patch of each frame that has a perceptual price, None for a frame that has none.
        """
        with timed("features"):
            static = self._features.get() if moving else None
        leaves = self._features.leaves() if moving else []
        neighbours = self._find_neighbours()
        modules = [self.head] if self._sound is None else [self.head, self._sound]
        parameters = [each for module in modules for each in module.parameters() if each.requires_grad]
        shared = static, neighbours, parameters, leaves, screen
        return call_together(
            [
                partial(self.differentiate, frame, *shared, patch)
                for frame, patch in zip_longest(frames, patches[: len(frames)])
            ]
        )

    def differentiate(
        self,
        frame: FrameToTake,
        static: StaticFeatures | None,
        neighbours: Tensor | None,
        parameters: list[nn.Parameter],
        leaves: list[Tensor],
        screen: bool,
        patch: int | None,
    ) -> StepResult:
        """One frame of :meth:`run`; changes nothing."""
        conditions, make_target = frame
        size, weights = self.recipe.size, self.recipe.losses
        with timed("target"):
            target = make_target()
        with timed("pose"):
            pose = partial(fused_pose, self.head) if self.backend == "cpu" else self.head.pose
            posed = pose(conditions, static, moving=static is not None)
        with timed("render"):  # colours [1, H, W, 4]
            out = render(*posed[:5], self._camera, self._K, width=size, height=size, backend=self.backend)
        with timed("loss"):
            compare = pixel_losses if self.backend == "cpu" else pixel_losses_reference
            has_torso = self.head.torso is not None
            pixels = compare(out.colors[0], out.alphas[0], target, weights, has_torso=has_torso)
            loss = pixels.loss + motion_loss(self.head, posed, neighbours, weights)
            if self._patches is not None and patch is not None:
                loss = loss + weights.patches * self._patches(pixels.composite, target, patch)
        with timed("backward"):
            asked = [*parameters, *leaves, *([out.means2d] if screen else [])]
            found = torch.autograd.grad(loss, asked, allow_unused=True)
        own, of_leaves = found[: len(parameters)], found[len(parameters) : len(parameters) + len(leaves)]
        return StepResult(
            float(loss.detach()),
            pixels.mse,
            pixels.composite.detach(),
            [(parameter, value) for parameter, value in zip(parameters, own, strict=True) if value is not None],
            list(of_leaves),
            (found[-1][0], out.radii[0] > 0) if screen else None,
        )

    def accept(self, result: StepResult, *, moving: bool) -> None:
        """Give the parameters the gradients of one frame.

        Args:
            result: of :meth:`run`, in the order of its frames.
            moving: as it was there.
        """
        for parameter, value in result.gradients:
            parameter.grad = value
        if moving:
            with timed("features"):
                self._features.differentiate(result.feature_gradients)

    def new_phase(self) -> None:
        """Forget what was frozen: other parameters are trained, or Gaussians were added."""
        self._features.clear()
        self._neighbours = None

    def _find_neighbours(self) -> Tensor | None:
        """Which Gaussians of the torso are neighbours; found once a block of steps."""
        if self._neighbours is None and self.head.torso is not None and self.recipe.losses.consistency:
            with timed("neighbours"):
                self._neighbours = find_neighbours(self.head.groups["torso"].raw["means"])
        return self._neighbours

    def collect(self, result: StepResult, gradients: dict[str, ScreenGradients]) -> None:
        """Add a frame's screen-space gradients to what density control goes by, for the groups that are given."""
        assert result.screen is not None, "run() was not asked for screen-space gradients"
        (gradient, visible), start = result.screen, 0
        for name, group in self.head.groups.items():
            part = slice(start, start + len(group))
            if name in gradients:
                gradients[name].add(gradient[part], visible[part], self.recipe.size / 2)
            start += len(group)

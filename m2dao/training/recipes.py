"""Recipes: complete, named configurations of a fit; a variant replaces fields of another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from m2dao.audio.features import DEFAULT_FEATURES
from m2dao.capture.cameras.frame_poses import POSE_KINDS
from m2dao.errors import ConfigError
from m2dao.motion.speech import ENCODERS, NUM_ENCODERS
from m2dao.motion.talking_head import ModelConfig
from m2dao.training.schedule import Schedule, refining_schedule, sequential_schedule

SIZES = (64, 128, 256, 512)


@dataclass(frozen=True, kw_only=True)
class LearningRates:
    """Adam's step sizes at the start; ``means`` and fields fall to ``final_factor`` of it by the end."""

    means: float = 4e-5  # metres
    quats: float = 2e-3
    scales: float = 5e-3
    opacities: float = 2e-2
    sh0: float = 5e-3
    shN: float = 5e-4
    follow: float = 1e-2
    planes: float = 5e-3
    networks: float = 2e-3
    final_factor: float = 0.1


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Weights of the terms; see losses/terms.py."""

    dssim: float = 0.2
    roi_emphasis: float = 3.0
    head_mask: float = 0.1
    person_mask: float = 0.1
    consistency: float = 0.05
    torso_residual: float = 0.1
    hair_shape: float = 0.02
    patches: float = 0.0  # perceptual, see losses/patches.py


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a fit besides the capture, the budget and the seed.

    Args:
        name: as given to ``--recipe``.
        size: pixels.
        model: kind of talking head.
        schedule: phases.
        seeds: first Gaussians of ``facial``, ``oral``, ``inner`` (mouth) and ``torso``.
        max_gaussians: cap by group.
        sweep_seeds: whether depths of seeds are looked for in several poses.
        soft_masks: False turns region masks into 0 and 1.
        poses: ``refined``, ``tracked`` or ``frame_by_frame``, see capture/cameras/frame_poses.py.
        field_block_steps: frames whose gradients are added up before they go through the fields' networks.
        densify_every: steps between rounds of density control.
        blink_repeats: how often a frame with closing lids comes up in an epoch, at most; others come up once. See
            frames/choose.py.
        speech_encoders: audio encoders whose mean moves the lips, each learned without another part of the recording.
        speech_encoder: ``network``, or ``map``: linear encoders, for recordings of seconds.
        speech_features: what they hear, a name for `m2dao.audio.features.get_extractor`.
        speech_steps: batches they learn the lips from, at most.
        speech_adapting_steps: the same where it starts from a voice learned from others.
        learned_sound: whether one encoder learns from the picture, in phases that train ``sound``; else several learn
            from lips, before it.
        fixed_teeth: whether the upper teeth keep to the skull; else all of the inner mouth moves with the sound.
        correct_clones: whether a cloned Gaussian and its clone cover what it did alone.
        calibrate_lips: whether unseen speech is stretched to move the lips as far as recorded speech did.
        recorded_lips: share of the recording's own lips in what drives the faces of a fit, 0 to 1; the rest is what the
            encoders make of its sound.
        rates, losses: step sizes and weights.
        patches_from: progress from which the perceptual price of patches counts, if it has a weight.
    """

    name: str
    size: int
    model: ModelConfig
    schedule: Schedule
    seeds: dict[str, int]
    max_gaussians: dict[str, int]
    sweep_seeds: bool = True
    soft_masks: bool = True
    poses: str = "refined"
    field_block_steps: int = 4
    densify_every: int = 150
    blink_repeats: int = 3
    speech_encoders: int = NUM_ENCODERS
    speech_encoder: str = "network"
    speech_features: str = DEFAULT_FEATURES
    speech_steps: int = 800
    speech_adapting_steps: int = 200
    learned_sound: bool = False
    fixed_teeth: bool = True
    correct_clones: bool = True
    calibrate_lips: bool = True
    recorded_lips: float = 0.5
    rates: LearningRates = LearningRates()
    losses: LossWeights = LossWeights()
    patches_from: float = 0.85

    def __post_init__(self):
        if self.size not in SIZES:
            raise ConfigError("recipe size", f"one of {SIZES}", str(self.size))
        if self.poses not in POSE_KINDS:
            raise ConfigError("recipe poses", f"one of {', '.join(POSE_KINDS)}", repr(self.poses))
        if self.speech_encoder not in ENCODERS:
            raise ConfigError("recipe speech_encoder", f"one of {', '.join(ENCODERS)}", repr(self.speech_encoder))
        if self.learned_sound and self.speech_encoder != "network":
            raise ConfigError(
                "recipe speech_encoder", "network, which is learned with the picture", self.speech_encoder
            )
        if not 0 <= self.recorded_lips <= 1:
            raise ConfigError("recipe recorded_lips", "0 to 1", str(self.recorded_lips))
        if self.learned_sound and (self.speech_encoders, self.recorded_lips, self.calibrate_lips) != (1, 0.0, False):
            raise ConfigError("recipe learned_sound", "one encoder, and no recorded or calibrated lips", self.name)
        for name in (
            "field_block_steps",
            "densify_every",
            "blink_repeats",
            "speech_encoders",
            "speech_steps",
            "speech_adapting_steps",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"recipe {name}", "at least 1", str(getattr(self, name)))


# Fields linear in their codes stand larger steps than the published MLP, at the end too; the MLP overfits with them.
FACTORED_RATES = LearningRates(planes=1e-2, networks=6e-3, final_factor=0.3)
_PUBLISHED_PATCHES = 0.05  # the paper gives a weight for another network; this one is our choice
_PUBLISHED_MOTION = {
    "mouth_sees_face": False,
    "motion_regions": False,
    "head_sees_pose": False,
    "face_sees_gaze": False,
    "published_mouth": True,
}


def m2dao(size: int) -> Recipe:
    """Ours: decoupled motion, soft masks, consistency and alternating optimisation."""
    scale = (size / 256) ** 1.5  # more pixels want more Gaussians, though not in proportion
    seeds = {"facial": 6000, "oral": 900, "inner": 400, "torso": 2600}
    caps = {"facial": 8000, "oral": 2000, "torso": 3500}
    return Recipe(
        name="m2dao",
        size=size,
        model=ModelConfig(),
        schedule=refining_schedule(),
        seeds={name: max(64, round(num * scale)) for name, num in seeds.items()},
        max_gaussians={name: max(128, round(num * scale)) for name, num in caps.items()},
        rates=FACTORED_RATES,
    )


def m2dao_seconds(size: int) -> Recipe:
    """Ours for recordings of seconds: what sound does to lips is a small map and not four networks."""
    return replace(m2dao(size), name="m2dao_seconds", speech_encoder="map")


def talking_gaussian(size: int) -> Recipe:
    """The baseline as published (TalkingGaussian, 2024).

    Poses are tracked on the face as published trackers do, and masks are binary. Fields are MLPs, the mouth does not
    see the face, and it is trained before the face, both on frames by ever more open mouths. 32 numbers of sound are
    learned with the picture. Patches have a perceptual price late. There is no torso of its own.
    """
    return replace(
        m2dao(size),
        name="talking_gaussian",
        model=ModelConfig(field="concat", embedding_size=32, sh_degree=2, has_torso=False, **_PUBLISHED_MOTION),
        schedule=sequential_schedule(),
        sweep_seeds=False,
        soft_masks=False,
        poses="tracked",
        blink_repeats=1,
        speech_encoders=1,
        learned_sound=True,
        fixed_teeth=False,
        correct_clones=False,
        calibrate_lips=False,
        recorded_lips=0.0,
        rates=LearningRates(),
        losses=LossWeights(roi_emphasis=0.0, consistency=0.0, hair_shape=0.0, patches=_PUBLISHED_PATCHES),
    )


def talking_gaussian_plus(size: int) -> Recipe:
    """The baseline with our capture: the same model and schedule under refined poses and soft masks."""
    return replace(talking_gaussian(size), name="talking_gaussian_plus", soft_masks=True, poses="refined")


def talking_gaussian_raw_poses(size: int) -> Recipe:
    """The baseline with poses by the landmarks of each frame alone."""
    return replace(talking_gaussian(size), name="talking_gaussian_raw_poses", poses="frame_by_frame")


RECIPES: dict[str, Callable[[int], Recipe]] = {
    recipe.__name__: recipe
    for recipe in (m2dao, m2dao_seconds, talking_gaussian, talking_gaussian_plus, talking_gaussian_raw_poses)
}


def get_recipe(name: str, size: int) -> Recipe:
    """A recipe by name.

    Raises:
        ConfigError: unknown name or size.
    """
    if name not in RECIPES:
        raise ConfigError(f"recipe {name!r}", f"one of {', '.join(RECIPES)}")
    return RECIPES[name](size)

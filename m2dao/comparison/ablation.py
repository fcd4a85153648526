"""The rows of the quality comparison, from the published design to ours, a step at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from m2dao.errors import ConfigError
from m2dao.motion.speech import NUM_ENCODERS
from m2dao.motion.talking_head import ModelConfig
from m2dao.training.recipes import (
    FACTORED_RATES,
    LossWeights,
    Recipe,
    m2dao,
    talking_gaussian,
    talking_gaussian_plus,
    talking_gaussian_raw_poses,
)
from m2dao.training.schedule import alternating_schedule, refining_schedule
from m2dao.training.universal import UniversalMotion


@dataclass(frozen=True, kw_only=True)
class AblationRow:
    """One fit of the comparison.

    Args:
        name: of the row.
        what: what it is, or what it adds to the row before.
        recipe: by size.
        minutes: budget, if it is not that of the comparison.
        universal: motion to start from; None starts from rest.
    """

    name: str
    what: str
    recipe: Callable[[int], Recipe]
    minutes: float | None = None
    universal: UniversalMotion | None = None


_UNBOUND = ModelConfig(motion_regions=False, head_sees_pose=False, face_sees_gaze=False)


def _sound_from_lips(size: int) -> Recipe:
    published = talking_gaussian(size)
    model = replace(published.model, embedding_size=_UNBOUND.embedding_size)
    return replace(published, name="sound_from_lips", model=model, learned_sound=False)


def _no_patches(size: int) -> Recipe:
    losses = LossWeights(roi_emphasis=0.0, consistency=0.0, hair_shape=0.0)
    return replace(_sound_from_lips(size), name="no_patches", losses=losses)


def _factored_fields(size: int) -> Recipe:
    model = replace(_UNBOUND, sh_degree=2, has_torso=False, mouth_sees_face=False)
    return replace(_no_patches(size), name="factored_fields", model=model)


def _own_torso(size: int) -> Recipe:
    model = replace(_UNBOUND, sh_degree=2, mouth_sees_face=False)
    return replace(_factored_fields(size), name="own_torso", model=model)


def _mouth_sees_face(size: int) -> Recipe:
    return replace(_own_torso(size), name="mouth_sees_face", model=replace(_UNBOUND, sh_degree=2))


def _first_degree(size: int) -> Recipe:
    return replace(_mouth_sees_face(size), name="first_degree", model=_UNBOUND)


def _consistency(size: int) -> Recipe:
    losses = LossWeights(roi_emphasis=0.0, hair_shape=0.0)
    return replace(_first_degree(size), name="consistency", losses=losses)


def _alternating(size: int) -> Recipe:
    return replace(_consistency(size), name="alternating", schedule=alternating_schedule())


def _soft_masks(size: int) -> Recipe:
    return replace(_alternating(size), name="soft_masks", soft_masks=True)


def _refined_poses(size: int) -> Recipe:
    return replace(_soft_masks(size), name="refined_poses", poses="refined")


def _swept_seeds(size: int) -> Recipe:
    return replace(_refined_poses(size), name="swept_seeds", sweep_seeds=True)


def _motion_regions(size: int) -> Recipe:
    return replace(_swept_seeds(size), name="motion_regions", model=replace(_UNBOUND, motion_regions=True))


def _pose_motion(size: int) -> Recipe:
    model = replace(_UNBOUND, motion_regions=True, head_sees_pose=True)
    return replace(_motion_regions(size), name="pose_motion", model=model)


def _gaze(size: int) -> Recipe:
    return replace(_pose_motion(size), name="gaze", model=ModelConfig())


def _field_rates(size: int) -> Recipe:
    return replace(_gaze(size), name="field_rates", rates=FACTORED_RATES)


def _joint_growth(size: int) -> Recipe:
    return replace(_field_rates(size), name="joint_growth", schedule=refining_schedule())


def _speech_encoders(size: int) -> Recipe:
    return replace(_joint_growth(size), name="speech_encoders", speech_encoders=NUM_ENCODERS)


def _recorded_lips(size: int) -> Recipe:
    return replace(_speech_encoders(size), name="recorded_lips", recorded_lips=m2dao(size).recorded_lips)


def _calibrated_lips(size: int) -> Recipe:
    return replace(_recorded_lips(size), name="calibrated_lips", calibrate_lips=True)


def _fixed_teeth(size: int) -> Recipe:
    return replace(_calibrated_lips(size), name="fixed_teeth", fixed_teeth=True)


def _corrected_clones(size: int) -> Recipe:
    return replace(_fixed_teeth(size), name="corrected_clones", correct_clones=True)


def _binary_masks(size: int) -> Recipe:
    return replace(m2dao(size), name="binary_masks", soft_masks=False)


def _no_consistency(size: int) -> Recipe:
    return replace(m2dao(size), name="no_consistency", losses=LossWeights(consistency=0.0))


ROWS = (
    AblationRow(name="talking_gaussian", what="the published design", recipe=talking_gaussian),
    AblationRow(
        name="talking_gaussian_raw_poses",
        what="the same with poses by the landmarks of each frame alone",
        recipe=talking_gaussian_raw_poses,
    ),
    AblationRow(name="talking_gaussian_plus", what="the same with our poses and masks", recipe=talking_gaussian_plus),
    AblationRow(
        name="sound_from_lips",
        what="published, with 8 numbers of sound learned from lips before the picture in place of 32 learned with it",
        recipe=_sound_from_lips,
    ),
    AblationRow(name="no_patches", what="- the late perceptual price of patches", recipe=_no_patches),
    AblationRow(name="factored_fields", what="+ fields linear in their codes", recipe=_factored_fields),
    AblationRow(name="own_torso", what="+ a torso of its own", recipe=_own_torso),
    AblationRow(name="mouth_sees_face", what="+ a mouth that sees the face", recipe=_mouth_sees_face),
    AblationRow(name="first_degree", what="+ colours of the first degree", recipe=_first_degree),
    AblationRow(name="consistency", what="+ motion consistency", recipe=_consistency),
    AblationRow(
        name="alternating",
        what="+ alternating optimisation of all frames, not by opening, in place of one after the other",
        recipe=_alternating,
    ),
    AblationRow(name="soft_masks", what="+ soft masks", recipe=_soft_masks),
    AblationRow(name="refined_poses", what="+ poses refined on the picture", recipe=_refined_poses),
    AblationRow(name="swept_seeds", what="+ depths of ears and hair from several poses", recipe=_swept_seeds),
    AblationRow(name="motion_regions", what="+ sound moves only what is near the mouth", recipe=_motion_regions),
    AblationRow(name="pose_motion", what="+ hair and skin that the pose moves", recipe=_pose_motion),
    AblationRow(name="gaze", what="+ irises that move", recipe=_gaze),
    AblationRow(name="field_rates", what="+ larger steps of the fields", recipe=_field_rates),
    AblationRow(
        name="joint_growth",
        what="+ facial and oral motion at once but for turns that refine, a torso done when Gaussians have grown",
        recipe=_joint_growth,
    ),
    AblationRow(name="speech_encoders", what="+ the mean of several voices", recipe=_speech_encoders),
    AblationRow(name="recorded_lips", what="+ faces that learn from lips half as recorded", recipe=_recorded_lips),
    AblationRow(name="calibrated_lips", what="+ unseen speech that moves lips as far", recipe=_calibrated_lips),
    AblationRow(name="fixed_teeth", what="+ upper teeth that keep to the skull", recipe=_fixed_teeth),
    AblationRow(name="corrected_clones", what="+ clones that cover what one did", recipe=_corrected_clones),
    AblationRow(name="m2dao", what="+ mouth, eyes and blinks counting more, hair without spikes: ours", recipe=m2dao),
)


# Some steps show only where others do not hide them: masks, for one, where poses already put outlines in their place.
LESS_ONE = (
    AblationRow(name="binary_masks", what="ours with binary masks", recipe=_binary_masks),
    AblationRow(name="no_consistency", what="ours without motion consistency", recipe=_no_consistency),
)


def adaptation_rows(universal: UniversalMotion, seconds: float) -> tuple[AblationRow, ...]:
    """From scratch in the comparison's time, and in ``seconds`` from scratch and from universal motion."""
    short = AblationRow(name=f"scratch_{seconds:g}s", what="from scratch, short", recipe=m2dao, minutes=seconds / 60)
    name = f"universal_{seconds:g}s"
    return (
        AblationRow(name="m2dao", what="from scratch", recipe=m2dao),
        short,
        replace(short, name=name, what="from universal motion, short", universal=universal),
    )


def choose_rows(names: list[str] | None) -> tuple[AblationRow, ...]:
    """Rows by name, in the order of the table; all if None.

    Raises:
        ConfigError: an unknown name.
    """
    rows = (*ROWS, *LESS_ONE)
    known = [row.name for row in rows]
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise ConfigError("rows", f"names among {', '.join(known)}", ", ".join(unknown))
    return tuple(row for row in rows if names is None or row.name in names)

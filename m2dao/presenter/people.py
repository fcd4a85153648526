"""The invented people: every number that makes one presenter differ from another.

Nobody here exists. Proportions start from common adult anthropometry (see ``shape``) and are then changed per person.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from m2dao.errors import ConfigError
from m2dao.tts import Voice


@dataclass(frozen=True, kw_only=True)
class Person:
    """One synthetic presenter; lengths in metres or factors, colours sRGB 0..255."""

    name: str
    voice: Voice
    sentence: str
    language: str = "en"  # of the sentence, two letters
    # shape
    face_width: float = 1.0
    jaw_width: float = 1.0
    neck_width: float = 1.0
    shoulder_width: float = 1.0
    chin_drop: float = 0.0
    chin_fullness: float = 1.0  # below 1 the chin is pointed
    features: dict[str, float] = field(default_factory=dict)  # factors on named bumps of shape.FEATURES
    eye_opening: float = 1.0
    lip_fullness: float = 1.0
    mouth_width: float = 1.0
    # colours
    skin: tuple[int, int, int] = (214, 166, 140)
    lips: tuple[int, int, int] = (176, 98, 92)
    iris: tuple[int, int, int] = (92, 66, 44)
    hair: tuple[int, int, int] = (58, 38, 26)
    cloth: tuple[int, int, int] = (38, 96, 104)
    shirt: tuple[int, int, int] = (232, 230, 226)
    freckles: float = 0.0
    stubble: float = 0.0
    blush: float = 1.0
    brow_weight: float = 1.0
    brow_height: float = 0.0
    lashes: float = 1.0
    # style
    hair_style: str = "bob"  # bob or short
    clothes: str = "sweater"  # sweater or jacket
    backdrop: str = "library"  # library, office or garden


_ANNA = Person(
    name="mira",
    voice=Voice(),
    sentence=(
        "Good morning, and welcome back. My name is Mira, and I make people who were never born. "
        "Both my lips move because somebody wrote a formula for them. "
        "Maybe that bothers you a bit, but it is a fair bargain: nobody's picture is borrowed. "
        "Look at the mouth when I say mama, papa, or a big blue bubble. "
        "Five very fine voices whisper through the thin weather, while we watch the sea."
    ),
    jaw_width=0.93,
    chin_fullness=0.84,
    neck_width=0.83,
    shoulder_width=0.90,
    features={"brow": 0.4, "browtail": 0.7, "chin": 0.9, "ball": 0.85, "ala": 0.7, "dorsum": 0.92, "cheekbone": 1.5},
    eye_opening=1.10,
    lip_fullness=1.2,
    skin=(224, 177, 153),
    lips=(190, 92, 92),
    iris=(86, 108, 82),
    hair=(98, 56, 32),
    cloth=(30, 98, 108),
    freckles=0.5,
    brow_weight=0.75,
    lashes=1.6,
)

_OMAR = Person(
    name="omar",
    voice=Voice(pitch=0.54, tract=0.87, pace=0.90),
    sentence=(
        "Hello, I am Omar, and every morning I explain how a machine can learn to speak. "
        "First we bring a short film of a person; then a computer moves a cloud of points until it looks the same. "
        "People often ask me about my beard. It is made of numbers, about as many as my breakfast has crumbs. "
        "Above all, keep the mouth shut on m, b and p. Pepper, bamboo, memory, bumpy maps. Thank you for watching."
    ),
    face_width=1.03,
    jaw_width=1.07,
    neck_width=1.0,
    shoulder_width=1.12,
    chin_drop=0.004,
    features={"brow": 2.0, "browtail": 1.3, "chin": 1.4, "ball": 1.2, "ala": 1.6, "dorsum": 1.08, "bridge": 1.3},
    eye_opening=0.95,
    lip_fullness=0.95,
    mouth_width=1.05,
    skin=(158, 108, 80),
    lips=(132, 80, 72),
    iris=(60, 38, 24),
    hair=(24, 20, 18),
    cloth=(44, 52, 72),
    stubble=1.0,
    blush=0.5,
    brow_weight=1.3,
    brow_height=0.0015,
    lashes=0.7,
    hair_style="short",
    clothes="jacket",
    backdrop="office",
)

_PEOPLE = {person.name: person for person in (_ANNA, _OMAR)}


def persons() -> tuple[str, ...]:
    """Names of the synthetic presenters."""
    return tuple(_PEOPLE)


def get_person(name: str) -> Person:
    """The presenter called ``name``.

    Raises:
        ConfigError: there is nobody of that name.
    """
    if name not in _PEOPLE:
        raise ConfigError(f"presenter {name!r}", f"one of {', '.join(_PEOPLE)}", "an unknown name")
    return _PEOPLE[name]


_SKINS = ((242, 205, 186), (224, 177, 153), (198, 150, 120), (158, 108, 80), (122, 80, 58))
_HAIRS = ((24, 20, 18), (58, 38, 26), (98, 56, 32), (150, 112, 70), (128, 124, 120))
_CLOTHS = ((30, 98, 108), (44, 52, 72), (120, 44, 50), (86, 92, 60), (150, 146, 140))


def somebody_like(person: Person, seed: int) -> Person:
    """A person of the same voice, words and style, with another face, skin, hair and clothes."""
    rng = np.random.default_rng([seed, 67])
    skin = np.array(_SKINS[rng.integers(len(_SKINS))])
    lips = np.clip(skin * (0.82, 0.57, 0.62) + rng.normal(0, 4, 3), 0, 255).astype(int)
    return replace(
        person,
        face_width=person.face_width * rng.uniform(0.95, 1.05),
        jaw_width=person.jaw_width * rng.uniform(0.95, 1.05),
        eye_opening=person.eye_opening * rng.uniform(0.93, 1.07),
        mouth_width=person.mouth_width * rng.uniform(0.95, 1.06),
        lip_fullness=person.lip_fullness * rng.uniform(0.85, 1.15),
        skin=_colour(skin),
        lips=_colour(lips),
        hair=_HAIRS[rng.integers(len(_HAIRS))],
        cloth=_CLOTHS[rng.integers(len(_CLOTHS))],
        brow_weight=person.brow_weight * rng.uniform(0.8, 1.2),
    )


def _colour(levels: np.ndarray) -> tuple[int, int, int]:
    red, green, blue = (int(level) for level in levels)
    return red, green, blue

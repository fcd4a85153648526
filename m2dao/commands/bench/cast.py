"""Ten synthetic presenters for comparisons: other ages, skins, beards, glasses and languages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from m2dao.errors import ConfigError
from m2dao.presenter.people import Person, get_person, somebody_like
from m2dao.presenter.recording import make_recording
from m2dao.tts import Voice

_GREY = (168, 164, 158)
_TEXTS = {
    "en": "Maybe my brother bought a big blue piano. People move above the pub before summer. Pause, imagine music.",
    "de": "Meine Mama backt im Mai. Papa bringt bald Brot, Butter und Pilze. Am Abend blieb alles beim Alten, prima.",
    "fr": "Ma maman prend un bon bain. Papa porte un petit pull bleu. On parle beaucoup, puis on pèle des pommes.",
    "es": "Mi mamá compra pan blanco. Papá bebe poco y habla bien. Mañana vamos a probar un buen postre, amigo.",
    "pt": "Minha mãe compra pão bom. Papai bebe pouco e fala bem. Amanhã vamos provar um bolo muito bom, amigo.",
    "it": "Mia mamma prepara un buon pane. Papà beve poco e parla bene. Domani proviamo un piatto molto buono.",
    "ru": "Моя мама покупает белый хлеб. Папа мало пьёт и быстро бегает. Потом мы пробуем большой пирог.",
    "pl": "Moja mama kupuje biały chleb. Tata pije mało i mówi powoli. Potem próbujemy bardzo dobry placek.",
}


class Role(NamedTuple):
    """One of the cast."""

    person: Person
    incidents: tuple[str, ...]  # what the person wears, names of ``incidents.INCIDENTS``


# base, number of the face, language, timbre of eSpeak (None: the base's own), pitch, grey hair, what is worn
_ROLES = (
    ("mira", 1, "en", None, 1.0, False, ()),
    ("omar", 1, "en", None, 1.0, False, ("beard",)),
    ("mira", 2, "de", "f2", 1.0, False, ("glasses",)),
    ("omar", 2, "de", "m1", 0.9, True, ("beard", "glasses")),
    ("mira", 3, "fr", "f1", 1.1, False, ()),
    ("omar", 3, "es", "m3", 1.0, False, ()),
    ("mira", 4, "pt", "f3", 0.9, True, ("glasses",)),
    ("omar", 4, "it", "m2", 0.85, True, ("beard",)),
    ("mira", 5, "ru", "f4", 1.0, False, ()),
    ("omar", 5, "pl", "m4", 1.05, False, ("glasses",)),
)


def cast() -> tuple[Role, ...]:
    """The ten, in an order in which the first few differ much."""
    return tuple(_role(*role) for role in _ROLES)


def _role(
    base: str, face: int, language: str, timbre: str | None, pitch: float, grey: bool, worn: tuple[str, ...]
) -> Role:
    person = somebody_like(get_person(base), face)
    voice = person.voice if timbre is None else Voice(timbre=timbre, pitch=pitch)
    if grey:
        person = replace(person, hair=_GREY)
    named = f"{base}{face}-{language}"
    return Role(replace(person, name=named, voice=voice, language=language, sentence=_TEXTS[language]), worn)


def film_cast(
    folder: Path,
    num: int,
    *,
    seconds: float,
    size: int,
    on_progress: Callable[[str, float], None],
) -> list[Path]:
    """Films of the first of the cast, with the truth beside each; those that are there are kept.

    Args:
        folder: where they go.
        num: how many, at most ten.
        seconds, size: of each film, size in pixels.
        on_progress: told whose film is made, and the share of it.

    Raises:
        ConfigError: more than there are.
        MissingExtra: no synthesiser for their languages.
    """
    roles = cast()
    if not 0 <= num <= len(roles):
        raise ConfigError("number of presenters", f"0 to {len(roles)}", str(num))
    films = []
    for role in roles[:num]:
        place = folder / f"{seconds:g}s-{size}px"
        film, truth = place / f"{role.person.name}.mp4", place / f"{role.person.name}.truth.json"
        if not (film.is_file() and truth.is_file()):  # the truth comes last
            make_recording(
                place,
                person=role.person,
                seconds=seconds,
                size=size,
                incidents=role.incidents,
                on_progress=partial(on_progress, f"filming {role.person.name}"),
            )
        films.append(film)
    return films

"""Synthetic presenters: recordings of people who do not exist, with the truth about every frame.

``make_recording`` writes a video of one of ``persons()`` talking, ``speak`` a sound file in that person's voice.
"""

from __future__ import annotations

__all__ = ["make_recording", "persons", "speak"]


def __getattr__(name: str):
    # the submodules load numba and scipy, which a mere import of the package should not cost
    if name == "make_recording":
        from m2dao.presenter.recording import make_recording

        return make_recording
    if name == "persons":
        from m2dao.presenter.people import persons

        return persons
    if name == "speak":
        from m2dao.presenter.voices import speak

        return speak
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

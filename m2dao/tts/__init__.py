"""Text to sound with the time of every phone. Knows no identity and no face.

`synthesise` says an English text in a voice.

The same text, language, voice and seed give the same samples and times. Nothing is fetched: what a synthesiser needs is
inside its package.
"""

from __future__ import annotations

from m2dao.errors import ConfigError
from m2dao.tts.speech import Phone, Speech, Voice

__all__ = ["Phone", "Speech", "Voice", "synthesise"]


def synthesise(text: str, voice: Voice | None = None, *, language: str = "en", seed: int = 0) -> Speech:
    """Say ``text`` in ``language`` with ``voice``; see the package's text for what there is.

    Args:
        text: words of the language.
        voice: who speaks; hibari's own voice when not given.
        language: two letters, as in ISO 639-1.
        seed: of everything random; the same seed gives the same samples.

    Raises:
        ConfigError: the voice does not speak the language, or there is nothing to say.
        MissingExtra: the synthesiser is not installed.
    """
    voice = voice or Voice()
    if language != "en":
        raise ConfigError("language of the timbre 'heart'", "en", repr(language))
    from m2dao.tts.hibari import say_english

    return say_english(text, voice, seed=seed)

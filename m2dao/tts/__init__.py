"""Text to sound with the time of every phone. Knows no identity and no face.

`synthesise` says a text in a language and a voice. Two synthesisers stand behind it, and the voice names one of them:

| timbre | languages | what it is | extra |
|---|---|---|---|
| heart | en | hibari-tts: a small network, natural | `fit` |
| f1 ... m8, klatt ... | see `m2dao.tts.espeak.LANGUAGES` | eSpeak NG: formant synthesis, plain but exact | `speech` |

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
    if voice.timbre != "heart":
        from m2dao.tts.espeak import say

        return say(text, voice, language=language, seed=seed)
    if language != "en":
        raise ConfigError("language of the timbre 'heart'", "en", repr(language), "take a timbre of m2dao.tts.espeak")
    from m2dao.tts.hibari import say_english

    return say_english(text, voice, seed=seed)

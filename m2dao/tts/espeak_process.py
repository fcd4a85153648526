"""Says one text with eSpeak NG and ends: a program of its own, which `m2dao.tts.espeak` starts.

eSpeak NG keeps state from text to text (its noise, its last phones), so only the first text of a process is always the
same. Its licence (GPL-3.0-or-later) also asks for a program beside ours, not for a part of it. Therefore this file
imports nothing of ours and nothing that is not in Python.

Standard input: one JSON object {library, data, voice, words_per_minute, pitch, seed, text}. Standard output: one line
of JSON {rate_hz, phones: [[sample, symbol], ...], num_samples}, then the samples as little-endian 16-bit integers.
"""

from __future__ import annotations

import ctypes
import json
import sys

_SYNCHRONOUS, _PHONEME_EVENTS_IN_IPA = 2, 3
_LIST_END, _PHONEME = 0, 7
_RATE, _PITCH = 1, 3
_UTF8_ENDS_IN_PAUSE = 0x1001


class _Value(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("type", "unique_identifier", "text_position", "length")),
        *((name, ctypes.c_int) for name in ("audio_position", "sample")),
        ("user_data", ctypes.c_void_p),
        ("value", _Value),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int16), ctypes.c_int, ctypes.POINTER(_Event))


def _say(request: dict) -> tuple[dict, bytes]:
    library = ctypes.CDLL(request["library"])
    rate_hz = library.espeak_Initialize(_SYNCHRONOUS, 0, request["data"].encode(), _PHONEME_EVENTS_IN_IPA)
    sound = bytearray()
    phones: list[list] = []

    def take(samples, num_samples, events) -> int:
        if num_samples > 0 and samples:
            sound.extend(ctypes.string_at(samples, 2 * num_samples))
        number = 0
        while events[number].type != _LIST_END:
            event = events[number]
            if event.type == _PHONEME:
                phones.append([event.sample, event.value.string.decode("utf-8", "ignore")])
            number += 1
        return 0

    callback = _Callback(take)
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(request["voice"].encode()) != 0:
        return {"error": "no such voice"}, b""
    library.espeak_ng_SetRandSeed(ctypes.c_long(request["seed"]))
    library.espeak_SetParameter(_RATE, request["words_per_minute"], 0)
    library.espeak_SetParameter(_PITCH, request["pitch"], 0)
    text = request["text"].encode()
    library.espeak_Synth(text, ctypes.c_size_t(len(text) + 1), 0, 1, 0, _UTF8_ENDS_IN_PAUSE, None, None)
    return {"rate_hz": rate_hz, "phones": phones, "num_samples": len(sound) // 2}, bytes(sound)


if __name__ == "__main__":
    answer, samples = _say(json.load(sys.stdin))
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n" + samples)

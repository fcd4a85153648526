"""What helps stays in a text, and no name does, wherever it stood."""

from __future__ import annotations

import json

import pytest

from cluster.operate.support.scrubber import MOST_CHARS, Scrubber


def cleaned(text: str, *, names=(), learnt_from: str = "") -> str:
    scrubber = Scrubber(names)
    scrubber.learn(text)
    scrubber.learn(learnt_from)
    return "\n".join(scrubber.clean_lines(text))


def test_a_long_traceback_keeps_its_begin_its_end_and_all_other_fields():
    trace = "Traceback: begin\n" + "  at a line of bert\n" * 900 + "OSError: the end"
    line = json.dumps({"message": "a fit failed", "identity": "bert", "trace": trace})
    assert len(line) > 4 * MOST_CHARS
    told = json.loads(cleaned(line))
    assert told["message"] == "a fit failed"
    assert told["trace"].startswith("Traceback: begin")
    assert told["trace"].endswith("OSError: the end")
    assert len(told["trace"]) <= MOST_CHARS
    assert "bert" not in told["trace"]


def test_a_long_line_of_others_and_a_long_list_are_data():
    assert cleaned("word " * MOST_CHARS) == "[a long line]"
    assert json.loads(cleaned(json.dumps({"pixels": list(range(1000))}))) == {"pixels": "[data]"}


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("failed on /tmp/x/Anna Smith interview.mp4: no face", "failed on /tmp/x/[file].mp4: no face"),
        ("'Anna Smith.MOV' and 'Bert Brown.m4v'", "'[file].mov' and '[file].m4v'"),
        ("from 2001:db8::7 came", "from [address] came"),
        ("from [2001:db8::7]:8000", "from [[address]]:8000"),
        ("2001:db8::7: refused", "[address]: refused"),
        ("from ::ffff:10.4.5.6", "from [address]"),
        ("at 12:30:00 by std::string on ::1", "at 12:30:00 by std::string on ::1"),
    ],
)
def test_media_names_and_addresses_are_cut_out_and_what_stands_beside_them_is_not(text, left):
    assert cleaned(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "PUT /m2dao/gone/uploads/rec-1",
        "GET /v1/identities/gone/champion",
        "tenant gone: expected a tenant; got none of that name",
        "identity gone.anna: expected a model",
        "version 7 of gone.anna cannot be read",
        "m2dao-train watch --tenant gone f-1",
        "request {'tenant': 'gone', 'number': 1}",
        "GET get?name%3D%27gone.anna%27",
        json.dumps({"message": "x", "facts": {"identity": "gone"}}),
        json.dumps({"message": "x", "request": "gone"}),
    ],
)
def test_a_name_that_is_known_to_nobody_any_more_is_found_by_where_it_stands(text):
    text = f"{text}\nand gone again"
    assert "gone" not in cleaned(text)
    assert cleaned("a text about /v1/identities/x and v1").endswith("and v1")


def test_a_request_that_a_client_has_named_is_hidden_and_one_that_we_named_is_not():
    ours = "0123456789abcdef" * 2
    lines = "\n".join(json.dumps({"message": "m", "request": name}) for name in ("smith-anna-1", ours))
    first, second = map(json.loads, cleaned(lines).splitlines())
    assert first["request"].startswith("name-")
    assert second["request"] == ours


def test_names_are_found_as_whole_words_among_ten_thousand_that_begin_alike():
    names = [f"clinic-{number:05}" for number in range(10_000)] + ["Anna Smith interview", "clinic"]
    text = "\n".join(f"{number} clinic-{number:05}, clinic-{number:05}x Anna Smith interview" for number in range(1000))
    scrubber = Scrubber(names)
    lines = list(scrubber.clean_lines(text))
    for number, line in enumerate(lines):
        assert line == (
            f"{number} {scrubber.hashed(f'clinic-{number:05}')}, "
            f"{scrubber.hashed('clinic')}-{number:05}x {scrubber.hashed('Anna Smith interview')}"
        )

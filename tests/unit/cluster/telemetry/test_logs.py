"""Log lines are JSON, hold their fields and no secrets."""

import io
import json
import logging

import pytest

from cluster.telemetry.logs import configure_logging
from m2dao.errors import UnknownIdentity


@pytest.fixture
def log():
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging("ingress", stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:], root.level = before[0], before[1]


def test_a_line_is_one_json_object_whatever_the_message_holds(log):
    logging.getLogger("a.b").info('quo"te\nline %s ü', "two")
    (line,) = log()
    assert line["message"] == 'quo"te\nline two ü'
    assert line["logger"] == "a.b"
    assert line["component"] == "ingress"
    assert line["level"] == "INFO"
    assert line["time"].endswith("Z")


def test_fields_come_from_the_line_and_end_with_it(log):
    logging.getLogger().warning("in", extra={"tenant": "acme", "frames": 3, "error": "no answer"})
    logging.getLogger().warning("out")
    inside, outside = log()
    assert (inside["tenant"], inside["frames"], inside["error"]) == ("acme", 3, "no answer")
    assert "tenant" not in outside


def test_a_field_cannot_pose_as_the_lines_own(log):
    logging.getLogger().warning("m", extra={"level": "NONE", "component": "x", "time": "never", "logger": "y"})
    assert log()[0]["logger"] == "root"
    assert log()[0]["time"] != "never"
    assert log()[0]["level"] == "WARNING"
    assert log()[0]["component"] == "ingress"


def test_numbers_stay_numbers_and_the_line_stays_valid_json(log):
    fields = {"n": 1, "t": 0.5, "nan": float("nan"), "inf": float("inf"), "ok": True, "l": [1, object], "d": {1: None}}
    logging.getLogger().info("m", extra=fields)
    (line,) = log()
    assert (line["n"], line["t"], line["nan"], line["inf"], line["ok"]) == (1, 0.5, "nan", "inf", True)
    assert line["l"][0] == 1
    assert line["d"] == {"1": None}


def test_keys_and_passwords_are_taken_out_of_messages_fields_and_traces(log):
    key, url = "m2dao_" + "A" * 43, "redis://:hunter2@host:1/0"
    try:
        raise ValueError(f"{key} {url}")
    except ValueError:
        logging.getLogger().exception("%s and %s", key, url, extra={"url": url, "keys": [key]})
    text = json.dumps(log())
    assert "hunter2" not in text
    assert "AAAA" not in text
    assert "[secret]" in text
    assert "host:1" in text


def test_an_error_is_logged_with_its_code_and_trace(log):
    try:
        raise UnknownIdentity("acme.anna@7")
    except UnknownIdentity:
        logging.getLogger().exception("failed")
    assert log()[0]["error"] == "unknown-identity"
    assert "test_logs.py" in log()[0]["trace"]


def test_a_huge_message_is_cut(log):
    logging.getLogger().info("x" * 1_000_000)
    assert len(log()[0]["message"]) < 30_000


def test_configuring_again_does_not_double_the_lines(log):
    stream = io.StringIO()
    configure_logging("ingress", stream=stream)
    configure_logging("ingress", stream=stream, level="WARNING")
    logging.getLogger().warning("once")
    logging.getLogger().info("too quiet")
    assert len(stream.getvalue().splitlines()) == 1

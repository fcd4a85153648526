"""`m2dao presenter` on the command line."""

from __future__ import annotations

import argparse

import pytest

from m2dao.commands import presenter
from m2dao.errors import ConfigError
from m2dao.presenter import persons


def run(*arguments: str) -> dict:
    parser = argparse.ArgumentParser()
    presenter.add_parser(parser.add_subparsers())
    args = parser.parse_args(["presenter", *arguments])
    return args.run(args)


def test_all_presenters_are_filmed_and_reported_on_one_object(tmp_path, capsys):
    result = run("--out", str(tmp_path), "--seconds", "1", "--size", "64", "--json")
    assert [item["person"] for item in result["recordings"]] == list(persons())
    for item in result["recordings"]:
        assert item["num_frames"] == 25
        assert item["size"] == 64
        assert (tmp_path / f"{item['person']}.mp4").stat().st_size > 1000
        assert (tmp_path / f"{item['person']}.truth.json").exists()
    assert capsys.readouterr().out == ""  # with --json only the caller prints


def test_speech_alone_can_be_had(tmp_path, capsys):
    result = run("--out", str(tmp_path), "--person", persons()[1], "--speech-only", "--sentence", "Only my voice.")
    assert [path.name for path in tmp_path.iterdir()] == [f"{persons()[1]}.wav"]
    assert result["recordings"][0]["sentence"] == "Only my voice."
    assert str(tmp_path) in capsys.readouterr().out


def test_an_unknown_presenter_is_a_usage_error_that_names_the_known(tmp_path):
    with pytest.raises(ConfigError) as caught:
        run("--out", str(tmp_path), "--person", "nobody")
    assert caught.value.exit_code == 2
    assert all(name in str(caught.value) for name in persons())

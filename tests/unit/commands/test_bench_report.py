"""The bench of the quality report tells what was owed, told, wrong and missed."""

import argparse
import json

import pytest

from m2dao.commands.bench import report
from m2dao.errors import InputError


def run(*words):
    parser = argparse.ArgumentParser()
    report.add_parser(parser.add_subparsers())
    return report.run(parser.parse_args(["report", "--person", "mira", *map(str, words)]))


def row(**changes):
    return {"person": "mira", "case": "hand", "owed": [], "found": [], "false": [], "missed": [], "refused": None} | (
        changes
    )


def test_what_is_owed_is_compared_with_what_is_told():
    told = {"verdict": "usable", "kinds": ["short", "covered", "dark"], "problems": ["only 10 s long", "", ""]}
    assert report.judged(("glasses", "glare", "hand"), told) == {
        "owed": ["covered", "glare"],
        "found": ["covered", "dark"],
        "false": ["dark"],
        "missed": ["glare"],
        "refused": None,
    }


def test_a_refusal_is_a_false_finding_and_its_film_is_not_made_again(tmp_path):
    words = ["--case", "hand", "--seconds", 1, "--size", 64, "--seed", 1, "--rows", tmp_path / "rows.jsonl"]
    found = run(*words, "--work", tmp_path / "films")
    (film,) = found["films"]
    assert (film["owed"], film["found"], film["false"]) == (["covered"], ["refused"], ["refused"])
    assert "at least 5 s" in film["refused"]
    assert (found["precision"], found["recall"]) == (0.0, 0.0)
    assert len(list(tmp_path.glob("films/*/mira.mp4"))) == 1
    assert run(*words, "--work", tmp_path / "others") == found
    assert not list(tmp_path.glob("others/*"))


def test_rows_of_other_films_are_not_taken_for_these(tmp_path):
    kept = tmp_path / "rows.jsonl"
    films = [[10.0, 256, 0], [10.0, 256, 1], [10.0, 128, 1], [5.0, 256, 1]]
    kept.write_text("".join(json.dumps({"film": film} | row(found=[str(film)])) + "\n" for film in films))
    assert run("--case", "hand", "--seed", 1, "--rows", kept)["films"] == [row(found=["[10.0, 256, 1]"])]


def test_precision_counts_false_findings_and_recall_missed_ones():
    films = [
        row(owed=["covered"], found=["covered", "glare"], false=["glare"]),
        row(owed=["noise"], missed=["noise"]),
        row(owed=["music", "noise"], found=["music", "noise"]),
    ]
    assert report.score(films) == {"precision": 0.75, "recall": 0.75, "num_findings": 4, "num_owed": 4}
    assert report.score([])["precision"] is None


def test_rows_that_cannot_be_kept_are_refused_before_anything_is_filmed(tmp_path):
    with pytest.raises(InputError, match="a file name that ends in .jsonl"):
        run("--case", "hand", "--rows", tmp_path, "--work", tmp_path / "films")
    assert not (tmp_path / "films").exists()

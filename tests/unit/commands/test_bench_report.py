"""The bench of the quality report tells what was owed, told, wrong and missed."""

import argparse

from m2dao.commands.bench import report


def test_a_hand_is_owed_told_and_counted(tmp_path):
    parser = argparse.ArgumentParser()
    report.add_parser(parser.add_subparsers())
    words = ["report", "--person", "mira", "--case", "hand", "--seconds", "5.2"]
    found = report.run(parser.parse_args([*words, "--work", str(tmp_path)]))
    assert [(row["case"], row["owed"], row["found"]) for row in found["films"]] == [("hand", ["covered"], ["covered"])]
    assert (found["precision"], found["recall"]) == (1.0, 1.0)
    assert len(list(tmp_path.glob("*/mira.mp4"))) == 1

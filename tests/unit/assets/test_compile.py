"""`m2dao assets compile` runs every kernel, so that no first request has to."""

import json

import pytest

from m2dao.cli import main


def test_every_part_with_kernels_is_compiled(capsys):
    assert main(["assets", "compile", "--json"]) == 0
    seconds = json.loads(capsys.readouterr().out)["seconds"]
    assert {"capture", "motion", "presenter", "render", "training"} <= set(seconds)


@pytest.mark.parametrize("rest", [["face_landmarker"], ["--into", "folder"]])
def test_parts_cannot_be_asked_for(rest, capsys):
    assert main(["assets", "compile", *rest]) == 2
    error = capsys.readouterr().err
    assert rest[0] in error
    assert "every kernel" in error

"""`m2dao assets compile` runs every kernel, so that no first request has to."""

import json

from m2dao.cli import main


def test_every_part_with_kernels_is_compiled(capsys):
    assert main(["assets", "compile", "--json"]) == 0
    seconds = json.loads(capsys.readouterr().out)["seconds"]
    assert [name.split()[0] for name in seconds] == ["capture", "render", "posing", "training"]

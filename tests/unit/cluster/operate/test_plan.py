"""A plan follows from figures and assumptions and prints all of them, in the guide too."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import sys

import pytest

from cluster.cli import build_parser, main
from cluster.operate.sizing.figures import measured
from cluster.operate.sizing.plan import Assumptions, Wish, make_plan
from m2dao.errors import ConfigError
from tests.unit.docs.markdown import ROOT
from tools.docs.texts import programs

GUIDE = ROOT / "docs" / "guides" / "operating.md"
EXAMPLE = ("plan", "--identities", "10000", "--streams", "500", "--fits-per-day", "200")
WISH = Wish(identities=10_000, streams=500, fits_per_day=200)


def value(name: str, wish: Wish = WISH, **assumed: float) -> float:
    lines = make_plan(wish, measured(), Assumptions(**assumed))
    (found,) = (line.value for line in lines if line.name == name)
    return found


def test_the_guide_shows_what_the_command_prints(capsys):
    assert main(EXAMPLE) == 0
    shown = re.search(
        r"^m2dao-cluster plan [^\n]*\n```\n+```text\n(.*?)```", GUIDE.read_text(), re.DOTALL | re.MULTILINE
    )
    assert shown, "the guide has no plan"
    assert shown[1] == capsys.readouterr().out


def test_every_assumption_and_every_figure_is_printed(capsys):
    main(EXAMPLE)
    text = capsys.readouterr().out
    for each in dataclasses.fields(Assumptions):
        assert f"--{each.name.replace('_', '-')} " in text
    for figure in measured().values():
        if figure.name != "stream_cores_512":
            assert figure.command in text
            assert figure.source in text


def test_every_figure_names_a_page_and_a_command_that_exist():
    for figure in measured().values():
        assert (ROOT / figure.source).is_file(), figure.source
        program, *words = shlex.split(figure.command)
        if program == "python":
            assert (ROOT / words[0]).is_file()
        else:
            programs()[program].parse_args(words)


FROM_RAW = {  # figure -> what the raw results say
    "stream_cores_256": lambda raw: (
        2 * max(r["real_time_factor"] for r in raw["renderer-cpu"]["talker"] if r["size"] == 256)
    ),
    "stream_cores_512": lambda raw: (
        2 * max(r["real_time_factor"] for r in raw["renderer-cpu"]["talker"] if r["size"] == 512)
    ),
    "saturation": lambda raw: min(r["throughput_ratio"] for r in newest(raw, "saturation", 3)),
    "fit_overhead": lambda raw: newest(raw, "fits", 1)[0]["overhead_ratio"],
    "version_bytes": lambda raw: max(r["num_bytes"] for r in raw["new-identity-in-a-minute"]["rows"]),
    "resident_mb": lambda raw: newest(raw, "residents", 1)[0]["rss_mb"],
    "reconcile_10000_s": lambda raw: newest(raw, "reconcile --identities 10000 --requests 10", 1)[0]["noticed_max_s"],
}


def newest(raw, what: str, num: int) -> list[dict]:
    return [json.loads(row["answer"]) for row in raw["service"]["rows"] if row["what"] == what][-num:]


@pytest.mark.parametrize("name", FROM_RAW)
def test_a_figure_is_that_of_the_raw_results(name):
    raw = {path.stem: json.loads(path.read_text()) for path in (ROOT / "docs" / "results" / "raw").glob("*.json")}
    assert measured()[name].value == pytest.approx(FROM_RAW[name](raw))


def test_more_of_anything_never_needs_less():
    small = make_plan(WISH, measured(), Assumptions())
    large = make_plan(Wish(identities=20_000, streams=1000, fits_per_day=400), measured(), Assumptions())
    assert all(more.value >= less.value for less, more in zip(small, large, strict=True))
    assert value("CPU machines for renders", headroom=0.5) > value("CPU machines for renders", headroom=0.1)
    assert value("CPU machines for renders", Wish(identities=1, streams=500, fits_per_day=0, size=512)) > value(
        "CPU machines for renders"
    )


def test_machines_carry_the_streams_that_the_plan_promises():
    machines, share = value("CPU machines for renders"), 1 - Assumptions().headroom
    cores = value("renderer replicas") + value("ingress")
    assert cores <= machines * Assumptions().node_cores * share
    assert cores > (machines - 1) * Assumptions().node_cores * share


def test_where_memory_is_short_it_decides():
    assert value("CPU machines for renders", node_gb=8.0) > 4 * value("CPU machines for renders")


def test_no_gpu_machine_is_planned_by_a_figure_that_nobody_measured():
    assert value("GPU machines for renders") == 0
    with pytest.raises(ConfigError, match="--gpu-streams"):
        Assumptions(gpu_share=1.0)
    assert value("GPU machines for renders", gpu_share=1.0, gpu_streams=50.0, headroom=0.5) == 20
    assert value("renderer replicas", gpu_share=1.0, gpu_streams=50.0) == 0


@pytest.mark.parametrize(
    "words", [("--headroom", "0.95"), ("--node-cores", "0"), ("--streams", "-1"), ("--fit-gb", "nan")]
)
def test_a_plan_of_nonsense_is_refused_by_the_name_of_the_option(words, capsys):
    assert main([*EXAMPLE, *words, "--json"]) == 2
    assert words[0] in json.loads(capsys.readouterr().out)["detail"]


def test_a_figure_of_ones_own_takes_the_place_of_ours(capsys):
    assert main([*EXAMPLE, "--stream-cores", "0.45", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    (replicas,) = (line["value"] for line in answer["needed"] if line["name"] == "renderer replicas")
    assert replicas == 252
    (figure,) = (each for each in answer["measured"] if each["name"] == "stream_cores_256")
    assert figure["source"] == "--stream-cores"


def test_a_stream_is_measured_by_the_bench_of_the_engine(monkeypatch, capsys):
    """The bench itself takes a minute; what it is asked and what becomes of its answer is held here."""
    asked = []

    def run(words, **options):
        asked.append(words)
        programs()["m2dao"].parse_args(words[3:])
        return type("Ran", (), {"returncode": 0, "stdout": json.dumps({"talker_real_time_factor": 0.25}), "stderr": ""})

    monkeypatch.setattr("cluster.operate.sizing.figures.subprocess.run", run)
    monkeypatch.setattr("cluster.operate.sizing.figures.os.sched_getaffinity", lambda pid: {0, 1, 2, 3})
    assert main([*EXAMPLE, "--measure", "--json"]) == 0
    assert asked[0][:3] == [sys.executable, "-m", "m2dao.cli"]
    (figure,) = (each for each in json.loads(capsys.readouterr().out)["measured"] if each["name"] == "stream_cores_256")
    assert (figure["value"], figure["source"]) == (1.0, "measured now")


def test_measuring_and_telling_exclude_each_other(capsys):
    with pytest.raises(SystemExit):
        build_parser().parse_args([*EXAMPLE, "--measure", "--stream-cores", "1"])

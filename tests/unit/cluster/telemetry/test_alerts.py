"""Alerts ring when they should, each has a runbook, and Prometheus understands the dashboard."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from cluster.telemetry.metrics import METRICS
from tests.unit.docs.markdown import ROOT, anchors_of

FOLDER = ROOT / "cluster" / "telemetry" / "prometheus"
RULES = yaml.safe_load((FOLDER / "alerts.yaml").read_text(encoding="utf-8"))["groups"][0]["rules"]
DASHBOARD = json.loads((ROOT / "cluster" / "telemetry" / "grafana" / "m2dao.json").read_text(encoding="utf-8"))
SHOWN = {target["expr"]: panel["title"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())}
NAMES = [rule["alert"] for rule in RULES]
ENDED = "m2dao_jobs_ended_total{kind='render',outcome='%s',code='%s'}"
KEEPING = {"m2dao_keeper_working": "1x400"}

# What is so, minute by minute, when an alert rings; "a+bxn" is Prometheus' way to write a series that grows.
RING = {
    "NobodyKeeps": {"m2dao_keeper_working": "0x400"},
    "RendersWait": {"m2dao_longest_wait_seconds{kind='render'}": "0+60x400"},
    "FitsWait": {"m2dao_longest_wait_seconds{kind='fit'}": "0+60x400"},
    "RendersFail": {ENDED % ("failed", "internal-error"): "0+1x400", ENDED % ("done", ""): "0+9x400"},
    "FitsFail": {"m2dao_jobs_ended_total{kind='fit',outcome='failed',code='fit-failed'}": "0+1x400"},
    "JobsPutOff": {"m2dao_jobs_put_off_total{kind='render',code='storage-unavailable'}": "0+3x400"},
    "JobsTriedAgain": {"m2dao_jobs_retried_total{kind='fit',code='internal-error'}": "0+1x400"},
    "WorkersFallSilent": {"m2dao_leases_lost_total{kind='render'}": "0+1x400"},
    "ApiFails": {"ray_m2dao_api_problems_total{status='503',code='service-unavailable'}": "0+60x400"},
    "RendersSlow": {
        "ray_m2dao_render_stage_seconds_sum{stage='rendering'}": "0+90x400",
        "ray_m2dao_video_seconds_total": "0+60x400",
    },
    "IdentitiesThrash": {
        "ray_m2dao_identity_uses_total{source='load'}": "0+8x400",
        "ray_m2dao_identity_uses_total{source='memory'}": "0+2x400",
        "ray_m2dao_identity_evictions_total": "0+8x400",
    },
    "PromotionsRefused": {"m2dao_champion_moves_total{what='promote',outcome='refused'}": "0+1x400"},
    "ProbesWait": {"m2dao_probes_waiting": "1x400"},
    "LedgerBehind": {"m2dao_ledger_untold": "2x400"},
    "ChoreFails": {"m2dao_chores_failed_total{chore='ledger'}": "0+1x400"},
}
# A good day: all of it happens, and nothing rings.
QUIET = {
    "m2dao_longest_wait_seconds{kind='render'}": "5x400",
    "m2dao_longest_wait_seconds{kind='fit'}": "600x400",
    ENDED % ("failed", "unknown-identity"): "0x100 1x300",
    ENDED % ("done", ""): "0+20x400",
    "m2dao_jobs_ended_total{kind='fit',outcome='failed',code='no-face'}": "0x100 1x300",
    "m2dao_jobs_put_off_total{kind='render',code='storage-unavailable'}": "0x100 2x300",
    "m2dao_jobs_retried_total{kind='render',code='internal-error'}": "0x100 1x300",
    "m2dao_leases_lost_total{kind='render'}": "0x100 1x300",
    "ray_m2dao_api_problems_total{status='422',code='invalid-input'}": "0+60x400",
    "ray_m2dao_api_problems_total{status='503',code='maintenance'}": "0+60x400",
    "ray_m2dao_api_problems_total{status='503',code='service-unavailable'}": "0x100 2x300",
    "ray_m2dao_render_stage_seconds_sum{stage='rendering'}": "0+30x400",
    "ray_m2dao_video_seconds_total": "0+60x400",
    "ray_m2dao_identity_uses_total{source='load'}": "0+1x400",
    "ray_m2dao_identity_uses_total{source='memory'}": "0+9x400",
    "ray_m2dao_identity_evictions_total": "0+1x400",
    "m2dao_champion_moves_total{what='promote',outcome='refused'}": "0x100 1x300",
    "m2dao_champion_moves_total{what='promote',outcome='moved'}": "0+1x400",
    "m2dao_probes_waiting": "0x100 1 0x299",
    "m2dao_ledger_untold": "0x100 3 0x299",
    "m2dao_chores_failed_total{chore='ledger'}": "0x100 1x300",
}


@pytest.fixture(scope="module")
def promtool():
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is in Debian's package prometheus")
    return found


def run(promtool, *words):
    ran = subprocess.run([promtool, *map(str, words)], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def check(promtool, tmp_path: Path, *tests: dict):
    path = tmp_path / "tests.yaml"
    path.write_text(yaml.safe_dump({"rule_files": [str(FOLDER / "alerts.yaml")], "tests": list(tests)}))
    run(promtool, "test", "rules", path)


def after_six_hours(series, expected):
    """A test: which alerts ring after these series went on for six hours, asked of every alert."""
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": "count by (alertname) (ALERTS{alertstate='firing'})",
                "eval_time": "6h",
                "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in expected],
            }
        ],
    }


def test_prometheus_takes_the_rules(promtool):
    run(promtool, "check", "rules", FOLDER / "alerts.yaml")


@pytest.mark.parametrize("name", NAMES)
def test_an_alert_rings_when_what_it_is_for_is_so(promtool, tmp_path, name):
    check(promtool, tmp_path, after_six_hours({**KEEPING, **RING[name]}, [name]))


def test_on_a_good_day_nothing_rings(promtool, tmp_path):
    check(promtool, tmp_path, after_six_hours({**KEEPING, **QUIET}, []))


def test_where_nothing_is_shown_at_all_somebody_is_told(promtool, tmp_path):
    check(promtool, tmp_path, after_six_hours({}, ["NobodyKeeps"]))


def test_every_alert_has_a_section_in_the_runbook_and_no_section_is_left_over():
    sections = {name.lower() for name in NAMES}
    assert anchors_of(Path("docs/guides/runbook.md")) - {"runbook"} == sections


def test_every_alert_says_who_is_told_and_what_of():
    for rule in RULES:
        assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]
        assert rule["annotations"]["summary"], rule["alert"]


def names_in(expression):
    return set(re.findall(r"\b(?:ray_)?m2dao_\w+", expression))


def labels_in(expression):
    """(metric or None for any, label) for every label that an expression names."""
    for name, filters in re.findall(r"(\w+)\{([^}]*)\}", expression):
        yield from ((name, label) for label in re.findall(r"(\w+)!?=~?\"", filters))
    for labels in re.findall(r"by \(([\w, ]+)\)", expression):
        yield from ((None, label) for label in labels.split(", ") if label != "le")


@pytest.mark.parametrize("expression", [*(rule["expr"] for rule in RULES), *SHOWN])
def test_an_expression_asks_for_metrics_that_exist_by_labels_that_they_have(expression):
    known = {}
    for each in METRICS:
        parts = ("_bucket", "_sum", "_count") if each.kind == "histogram" else ("",)
        known |= {each.shown_as + part: set(each.labels) for part in parts}
    names = names_in(expression)
    assert names <= set(known)
    for name, label in labels_in(expression):
        if name in known or (name is None and names):
            assert label in (known[name] if name else set.union(*(known[each] for each in names)))


def test_every_metric_is_on_the_dashboard():
    asked = set().union(*(names_in(expression) for expression in SHOWN))
    for each in METRICS:
        assert [name for name in asked if name.startswith(each.shown_as)], each.shown_as


def test_prometheus_understands_every_panel(promtool, tmp_path):
    rules = [
        {"record": f"panel_{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, expression in enumerate(SHOWN)
    ]
    path = tmp_path / "panels.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    run(promtool, "check", "rules", path)


def test_panels_have_titles_of_their_own_and_do_not_overlap():
    panels = DASHBOARD["panels"]
    assert len({panel["title"] for panel in panels}) == len(panels)
    taken = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(taken)) == len(taken)
    assert max(x for x, _ in taken) < 24

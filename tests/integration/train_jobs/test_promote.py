"""Promotion and rollback against the real registry, and the commands for them."""

from __future__ import annotations

import json

import pytest

from cluster.control.champions import Champions
from cluster.control.gate import Promotions
from cluster.control.promotion.checks import GateThresholds
from cluster.ids import AliasRef, IdentityName, ModelRef
from cluster.platform import Platform
from cluster.registry import Registry
from cluster.state.tallies import MOVES
from m2dao.errors import Conflict, PromotionConflict, PromotionRefused, UnknownIdentity
from tests.support.serve import probing
from tests.support.small_work import SPEAKS
from tests.support.tiny_identity import make_tiny_identity
from train_jobs import cli

ANNA = IdentityName("anna")
CAPTURE = "a" * 64


@pytest.fixture(scope="module")
def registry(stack):
    return Registry(stack)


@pytest.fixture(scope="module", autouse=True)
def prober(stack, tmp_path_factory):
    with probing(Platform(stack), tmp_path_factory.mktemp("disk")):
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_tiny_identity(tmp_path_factory.mktemp("identity") / "anna", size=32)


@pytest.fixture
def promotions(registry, state):
    return Promotions(state.versions, Champions(state))


@pytest.fixture
def register(registry, tenant, folder):
    def make(psnr_db: float = 30.0, sync_confidence: float = 0.6, capture: str = CAPTURE) -> ModelRef:
        metrics = {"psnr_db": psnr_db, "sync_confidence": sync_confidence, "num_frames": 100.0, **SPEAKS}
        return registry.register_version(tenant, ANNA, folder, metrics=metrics, tags={"capture_sha256": capture})

    return make


@pytest.fixture
def run(stack, monkeypatch, capsys):
    """Runs ``m2dao-train`` and returns its exit code, JSON result and what it said."""
    for name, value in stack.to_env().items():
        monkeypatch.setenv(name, value)

    def call(*words: object) -> tuple[int, dict | None, str]:
        capsys.readouterr()
        code = cli.main([*map(str, words), "--json"])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else None, err

    return call


def verdict_of(state, ref) -> str:
    (verdict,) = state.versions.verdicts([ref])
    return verdict["verdict"]


def champion(registry, tenant, alias: str = "champion") -> int:
    return registry.resolve(AliasRef(tenant, ANNA, alias)).version


def test_promotion_moves_the_champion_keeps_the_previous_one_and_tells_everybody(
    registry, promotions, state, tenant, register
):
    first, second = register(30.0), register(31.0)
    promotions.promote(first)
    with state.events.subscribe("champion") as messages:
        promotion = promotions.promote(second, expected=1)
        told = messages.get(timeout_s=10)
    change = {"tenant": str(tenant), "identity": "anna", "version": 2, "previous": 1, "epoch": 2}
    assert told == ("champion", change)
    assert (champion(registry, tenant), champion(registry, tenant, "previous")) == (2, 1)
    assert promotion.as_dict()["champion"] == str(second)
    (verdict,) = state.versions.verdicts([second])
    assert verdict["verdict"] == "passed"
    checks = {check["name"]: check for check in verdict["checks"]}
    assert checks["psnr_db"] == {
        "name": "psnr_db",
        "passed": True,
        "detail": "psnr_db 31.00 dB >= 25.00 dB",
        "value": 31.0,
        "limit": 25.0,
    }
    own = {"psnr_db", "sync_confidence", "size_mb", "probe", *SPEAKS}
    assert set(checks) == own | {"psnr_db_drop", "sync_confidence_drop", "probe.sync_confidence_drop"}


def test_a_refused_version_changes_nothing_and_keeps_the_reasons(registry, promotions, state, tenant, register):
    first, worse = register(33.0), register(30.0)
    promotions.promote(first)
    refusals = (MOVES, "promote", "refused")
    before = state.tallies.read().get(refusals, 0)
    with pytest.raises(PromotionRefused, match=r"psnr_db is 3 dB below .*anna@1"):
        promotions.promote(worse)
    assert champion(registry, tenant) == 1
    assert verdict_of(state, worse) == "refused"
    assert state.tallies.read()[refusals] == before + 1


def test_force_overrides_the_gate_and_says_so_for_ever(registry, promotions, state, tenant, register):
    poor = register(5.0)
    promotion = promotions.promote(poor, force=True)
    assert promotion.forced
    assert not promotion.decision.passed
    assert champion(registry, tenant) == 1
    (verdict,) = state.versions.verdicts([poor])
    assert verdict["verdict"] == "forced"
    assert "psnr_db" in verdict["reasons"][0]


def test_a_version_that_cannot_be_loaded_never_becomes_champion_not_even_by_force(
    registry, promotions, state, tenant, register, tmp_path
):
    good = register(30.0)
    promotions.promote(good)
    (tmp_path / "identity.json").write_text("{}")
    metrics = {"psnr_db": 40.0, "sync_confidence": 0.9, **SPEAKS}
    broken = registry.register_version(tenant, ANNA, tmp_path, metrics=metrics, tags={})
    for force in (False, True):
        with pytest.raises(PromotionRefused, match="loaded and rendered"):
            promotions.promote(broken, force=force)
    assert champion(registry, tenant) == good.version
    assert verdict_of(state, broken) == "refused"


def test_a_promotion_that_nobody_probes_is_refused(stack, registry, state, tenant, register):
    nobody = Champions(state, probe_s=0.0)
    with pytest.raises(PromotionRefused, match="nobody has probed it"):
        Promotions(state.versions, nobody).promote(register(30.0))
    with pytest.raises(UnknownIdentity):
        champion(registry, tenant)


def test_a_promotion_decided_on_old_facts_is_refused(registry, promotions, tenant, register):
    first, second, third = register(), register(), register()
    promotions.promote(first)
    promotions.promote(second)
    with pytest.raises(PromotionConflict, match="expected version 1"):
        promotions.promote(third, expected=1)
    assert champion(registry, tenant) == 2


def test_a_rollback_returns_to_the_previous_champion_and_a_second_one_goes_back_again(
    registry, promotions, tenant, register
):
    for psnr_db in (30.0, 31.0):
        promotions.promote(register(psnr_db))
    promotions.roll_back(tenant, ANNA)
    assert (champion(registry, tenant), champion(registry, tenant, "previous")) == (1, 2)
    promotions.roll_back(tenant, ANNA)
    assert (champion(registry, tenant), champion(registry, tenant, "previous")) == (2, 1)


def test_there_is_nothing_to_roll_back_to_before_the_second_promotion(registry, promotions, tenant, register):
    promotions.promote(register())
    with pytest.raises(Conflict, match="previous champion"):
        promotions.roll_back(tenant, ANNA)


def test_thresholds_can_be_set_for_one_promotion(registry, promotions, tenant, register):
    version = register(30.0)
    with pytest.raises(PromotionRefused):
        promotions.promote(version, thresholds=GateThresholds(min_psnr_db=35.0))
    promotions.promote(version, thresholds=GateThresholds(min_psnr_db=20.0))
    assert champion(registry, tenant) == 1


def test_the_commands_promote_refuse_show_list_and_roll_back(run, tenant, register):
    good, poor, better = register(30.0), register(5.0), register(32.0)
    assert run("promote", good)[0] == 0
    code, result, said = run("promote", poor)
    assert code == 2
    assert result["error"] == "promotion-refused"
    assert "psnr_db" in said
    assert "--force" in said
    assert run("promote", better, "--expected-version", 2)[0] == 2
    code, result, said = run("promote", better, "--expected-version", 1, "--min-psnr-db", 31)
    assert code == 0
    assert result["champion"] == str(better)
    assert result["previous"] == str(good)
    listed = run("list", "--tenant", tenant)[1]["identities"]
    assert listed == [{"identity": "anna", "champion": 3, "versions": [1, 2, 3]}]
    shown = run("show", f"{tenant}.anna@champion")[1]
    assert shown["ref"] == str(better)
    assert shown["aliases"] == ["champion"]
    assert shown["metrics"]["psnr_db"] == 32.0
    assert run("rollback", f"{tenant}.anna")[1]["champion"] == str(good)


@pytest.mark.parametrize(
    "words",
    [
        ("promote", "anna"),
        ("promote", "acme.anna@champion"),
        ("show", "acme.anna@latest"),
        ("rollback", "anna"),
        ("list", "--tenant", "Not A Tenant"),
        ("fit", "--tenant", "acme", "--identity", "anna"),
        ("fit", "--tenant", "acme", "--identity", "anna=/no/such/file.mp4"),
        ("watch", "--tenant", "acme", "not-an-id"),
    ],
)
def test_wrong_words_end_with_code_2_and_a_message(run, words):
    code, result, said = run(*words)
    assert code == 2
    assert result["error"]
    assert result["detail"] in said
    assert "expected" in said
    assert "Traceback" not in said

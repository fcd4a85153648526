"""MLflow shows what was decided, and what people change there is judged."""

from __future__ import annotations

import pytest

from cluster.control.champions import Champions
from cluster.control.gate import Promotions
from cluster.control.reconciler import SET_BACK_TAG, Reconciler
from cluster.folders import put_folder
from cluster.ids import AliasRef, FitId, IdentityName, ModelRef
from cluster.platform import Platform
from cluster.state import keys
from cluster.state.champions import Champion
from m2dao.errors import ServiceUnavailable
from tests.support.serve import probing
from tests.support.small_work import SPEAKS
from tests.support.tiny_identity import make_tiny_identity

ANNA = IdentityName("anna")
GOOD = {"psnr_db": 31.0, "sync_confidence": 0.6, **SPEAKS}
POOR = {"psnr_db": 5.0, "sync_confidence": 0.6, **SPEAKS}


@pytest.fixture(scope="module")
def platform(stack):
    return Platform(stack)


@pytest.fixture(scope="module")
def client(platform):
    """MLflow's own client, as people have it."""
    return platform.registry._client


@pytest.fixture
def reconciler(platform):
    promotions = Promotions(platform.state.versions, Champions(platform.state))
    return Reconciler(platform.state, platform.registry.ledger, promotions)


@pytest.fixture(scope="module", autouse=True)
def prober(platform, tmp_path_factory):
    with probing(platform, tmp_path_factory.mktemp("disk")):
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_tiny_identity(tmp_path_factory.mktemp("identity") / "anna", size=32)


@pytest.fixture
def register(platform, tenant, folder):
    def make(metrics=GOOD) -> ModelRef:
        return platform.registry.register_version(tenant, ANNA, folder, metrics=metrics, tags={})

    return make


def shown(client, tenant) -> dict[str, str]:
    return client.get_registered_model(f"{tenant}.anna").aliases


def set_alias(client, ref: ModelRef, alias: str = "champion") -> None:
    client.set_registered_model_alias(ref.registry_name, alias, str(ref.version))


def tags_of(client, ref: ModelRef) -> dict[str, str]:
    return client.get_model_version(ref.registry_name, str(ref.version)).tags


def test_what_was_decided_is_shown_and_always_the_newest(platform, reconciler, client, tenant, register):
    one, two = register(), register()
    platform.state.champions.promote(one)
    platform.state.champions.promote(two)
    reconciler.tell()
    assert shown(client, tenant) == {"champion": "2", "previous": "1"}
    assert (tenant, ANNA) not in platform.state.champions.untold()
    platform.state.champions.roll_back(tenant, ANNA)
    reconciler.tell()
    assert shown(client, tenant) == {"champion": "1", "previous": "2"}
    platform.state.champions.clear(tenant, ANNA)
    reconciler.tell()
    assert shown(client, tenant) == {}


def test_what_is_still_to_be_shown_is_not_taken_for_a_wish(platform, reconciler, client, tenant, register):
    one, two = register(), register()
    platform.state.champions.promote(one)
    reconciler.tell()
    platform.state.champions.promote(two)
    reconciler.look()
    assert platform.state.champions.get(tenant, ANNA).version == 2


def test_a_champion_chosen_in_mlflow_that_passes_the_gate_serves(platform, reconciler, client, tenant, register):
    one, two = register(), register()
    platform.state.champions.promote(one)
    reconciler.tell()
    set_alias(client, two)
    assert reconciler.look() == 1
    reconciler.tell()
    assert platform.state.champions.resolve(AliasRef(tenant, ANNA)) == two
    assert shown(client, tenant) == {"champion": "2", "previous": "1"}
    assert tags_of(client, two)["gate"] == "passed"
    assert reconciler.look() == 0


def test_a_champion_chosen_in_mlflow_that_the_gate_refuses_is_set_back_with_the_reason(
    platform, reconciler, client, tenant, register
):
    good, poor = register(), register(POOR)
    platform.state.champions.promote(good)
    reconciler.tell()
    set_alias(client, poor)
    assert reconciler.look() == 1
    reconciler.tell()
    assert platform.state.champions.resolve(AliasRef(tenant, ANNA)) == good
    assert shown(client, tenant) == {"champion": "1"}
    assert "psnr_db" in tags_of(client, poor)[SET_BACK_TAG]
    assert tags_of(client, poor)["gate"] == "refused"


def test_champions_chosen_in_mlflow_for_two_identities_serve_each_its_own(platform, reconciler, client, tenant, folder):
    names = (ANNA, IdentityName("ben"))
    chosen = []
    for name in names:
        refs = [platform.registry.register_version(tenant, name, folder, metrics=GOOD, tags={}) for _ in range(2)]
        platform.state.champions.promote(refs[0])
        chosen.append(refs[1])
    reconciler.tell()
    for ref in chosen:
        set_alias(client, ref)
    assert reconciler.look() == 2
    assert [platform.state.champions.resolve(AliasRef(tenant, name)) for name in names] == chosen


def test_a_champion_chosen_in_mlflow_for_an_identity_that_was_made_anew_serves(
    platform, reconciler, client, tenant, register
):
    for _ in range(2):
        ref = register()
        set_alias(client, ref)
        assert reconciler.look() == 1
        assert platform.state.champions.get(tenant, ANNA).version == ref.version
        platform.registry.delete_identity(tenant, ANNA)


@pytest.mark.parametrize("alias", ["champion", "previous"])
def test_an_alias_that_somebody_deleted_is_set_back(platform, reconciler, client, tenant, register, alias):
    for ref in (register(), register()):
        platform.state.champions.promote(ref)
    reconciler.tell()
    client.delete_registered_model_alias(f"{tenant}.anna", alias)
    assert reconciler.look() == 1
    reconciler.tell()
    assert shown(client, tenant) == {"champion": "2", "previous": "1"}


def test_a_version_that_does_not_count_is_no_champion_whoever_says_so(platform, reconciler, client, tenant, register):
    one = register()
    platform.state.champions.promote(one)
    reconciler.tell()
    fit_id = FitId.new()
    half = platform.registry._new_version(tenant, ANNA, platform.registry.runs.run_id(tenant, ANNA, fit_id), {}, fit_id)
    set_alias(client, half)
    assert reconciler.look() == 1
    reconciler.tell()
    assert shown(client, tenant) == {"champion": "1"}
    assert "complete version" in tags_of(client, half)[SET_BACK_TAG]


def test_a_challenger_chosen_in_mlflow_that_the_gate_refuses_is_set_back_with_the_reason(
    platform, reconciler, client, tenant, register
):
    platform.state.champions.promote(register())
    reconciler.tell()
    poor = register(POOR)
    set_alias(client, poor, "challenger")
    assert reconciler.look() == 1
    reconciler.tell()
    assert shown(client, tenant) == {"champion": "1"}
    assert platform.state.champions.get(tenant, ANNA).challenger is None
    assert "psnr_db" in tags_of(client, poor)[SET_BACK_TAG]


def test_people_may_choose_a_challenger(platform, reconciler, client, tenant, register):
    one, two = register(), register()
    platform.state.champions.promote(one)
    reconciler.tell()
    set_alias(client, two, "challenger")
    assert reconciler.look() == 1
    assert platform.state.champions.get(tenant, ANNA).challenger == 2
    client.delete_registered_model_alias(f"{tenant}.anna", "challenger")
    reconciler.tell()  # the first choice, shown again: the newest decision counts
    assert shown(client, tenant)["challenger"] == "2"


def test_a_version_whose_registration_was_cut_off_before_it_was_shown_is_shown_later(
    platform, reconciler, client, tenant, register, monkeypatch
):
    monkeypatch.setattr(type(platform.registry), "_show", lambda *args: None)
    ref = register()
    assert tags_of(client, ref)["m2dao.state"] == "incomplete"
    reconciler.tell()
    assert tags_of(client, ref)["m2dao.state"] == "ready"
    assert ref not in platform.state.versions.untold()


def test_a_version_of_an_earlier_release_is_judged_by_what_mlflow_knows_of_it(
    platform, reconciler, client, tenant, register
):
    ref = register()
    platform.state._link.call("DEL", keys.details(tenant, ANNA))
    platform.state._link.call("SADD", keys.ledger("versions"), str(ref))  # as its worker left it
    with pytest.raises(ServiceUnavailable, match="keeper"):
        reconciler._promotions.promote(ref)
    reconciler.tell()
    reconciler.look()
    reconciler._promotions.promote(ref)
    assert platform.state.champions.get(tenant, ANNA).version == 1
    reconciler.tell()
    assert tags_of(client, ref)["gate"] == "passed"
    assert "psnr_db 31.00 dB" in tags_of(client, ref)["gate_reasons"]
    assert ref not in platform.state.versions.untold_verdicts()


@pytest.fixture
def of_before(platform, tenant):
    """Makes a version one of a worker of the release before, which shows it and describes none."""

    def forget(ref: ModelRef) -> ModelRef:
        platform.state._link.call("HDEL", keys.details(tenant, ref.identity), ref.version)
        return ref

    return forget


def test_a_version_that_a_worker_of_an_earlier_release_has_shown_itself_is_described_and_judged(
    platform, reconciler, tenant, register, of_before
):
    one, two = register(), of_before(register())
    reconciler.tell()
    reconciler.look()
    (details,) = platform.state.versions.details([two])
    assert details.metrics == GOOD
    assert platform.state.versions.undescribed([(tenant, ANNA)]) == []
    for ref in (one, two):
        reconciler._promotions.promote(ref)
    assert platform.state.champions.get(tenant, ANNA).version == 2


def test_a_champion_of_which_nothing_is_known_is_replaced_without_a_comparison(
    platform, reconciler, tenant, register, of_before
):
    one, two = register(), register()
    reconciler._promotions.promote(one)
    of_before(one)
    promotion = reconciler._promotions.promote(two)
    assert any(f"not compared with {one}: no metrics" in reason for reason in promotion.decision.reasons)
    assert platform.state.champions.get(tenant, ANNA).version == 2


def test_a_version_of_which_nothing_is_known_serves_by_force(platform, reconciler, tenant, register, of_before):
    ref = of_before(register())
    assert reconciler._promotions.promote(ref, force=True).forced
    assert platform.state.champions.get(tenant, ANNA).version == 1


def test_an_identity_that_cannot_be_judged_yet_holds_no_other_up(
    platform, reconciler, client, tenant, folder, of_before, monkeypatch
):
    monkeypatch.setattr(Reconciler, "_describe", lambda self, ref: None)  # nothing can be taken over yet
    chosen = []
    for name in (ANNA, IdentityName("ben")):
        chosen.append(platform.registry.register_version(tenant, name, folder, metrics=GOOD, tags={}))
        set_alias(client, chosen[-1])
    of_before(chosen[0])
    assert reconciler.look() == 1
    assert platform.state.champions.get(tenant, IdentityName("ben")).version == 1
    monkeypatch.undo()
    assert reconciler.look() == 1
    assert platform.state.champions.get(tenant, ANNA).version == 1


def test_data_of_the_time_when_mlflow_decided_is_taken_over(platform, reconciler, client, stack, tenant, tmp_path):
    """As commit af8ef41 wrote it: versions, tags and aliases in MLflow, nothing in Redis."""
    name, fit_id = f"{tenant}.anna", FitId.new()
    folder = tmp_path / "identity"
    folder.mkdir()
    client.create_registered_model(name)
    for number, state in ((1, "ready"), (2, "ready"), (3, "incomplete")):
        (folder / "identity.json").write_text(str(number))
        stored = put_folder(platform.store, f"{tenant}/identities/anna/{number}/", folder)
        tags = {
            "m2dao.metrics": '{"psnr_db": 30.0}',
            "m2dao.fit_id": str(fit_id if number == 1 else FitId.new()),
            "m2dao.state": state,
            "m2dao.files_sha256": stored.sha256,
            "m2dao.num_bytes": str(stored.num_bytes),
        }
        client.create_model_version(name, f"s3://{stack.s3.bucket}/{tenant}/identities/anna", tags=tags)
    client.set_registered_model_alias(name, "champion", "2")
    client.set_registered_model_alias(name, "previous", "1")
    platform.state._link.call("DEL", "ledger:imported", "ledger:described")  # as if the stack were of that time

    assert reconciler.take_over() >= 1
    assert platform.state.champions.get(tenant, ANNA) == Champion(version=2, previous=1, epoch=1)
    assert platform.state.versions.numbers(tenant, ANNA) == (1, 2)
    assert platform.state._link.call("GET", keys.version_of(tenant, fit_id)) == "1"
    ref = platform.state.champions.resolve(AliasRef(tenant, ANNA))
    (details,) = platform.state.versions.details([ref])
    assert details.metrics == {"psnr_db": 30.0}
    platform.registry.download(ref, tmp_path / "copy")
    assert (tmp_path / "copy" / "identity.json").read_text() == "2"
    assert reconciler.take_over() == 0  # once: what people change from now on is judged
    assert reconciler.look() == 0

"""Versions, aliases and promotion, against a real MLflow server and a real S3."""

import pickle
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from cluster.control.champions import TOPIC, Champions
from cluster.ids import AliasRef, FitId, IdentityName, ModelRef, TenantId
from cluster.registry import Registry
from cluster.storage import ObjectStore
from m2dao.errors import (
    Conflict,
    InputError,
    InvalidId,
    LockBusy,
    ObjectCorrupt,
    PromotionConflict,
    ServiceError,
    UnknownIdentity,
)

ANNA = IdentityName("anna")
METRICS = {"psnr_db": 31.25, "sync_offset_frames": -1}


@pytest.fixture(scope="module")
def champions(registry, state):
    return Champions(registry, state)


@pytest.fixture(scope="module")
def registry(stack):
    return Registry(stack)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "identity"
    root.mkdir()
    (root / "identity.json").write_text('{"format": "m2dao.identity"}')
    (root / "gaussians.safetensors").write_bytes(b"g" * 1000)
    return root


def register(registry, tenant, folder, identity=ANNA, **more):
    return registry.register_version(tenant, identity, folder, metrics=METRICS, tags={"recipe": "m2dao"}, **more)


def test_a_version_is_described_as_it_was_registered_and_comes_back_byte_for_byte(registry, tenant, folder, tmp_path):
    sheet = tmp_path / "s.jpg"
    sheet.write_bytes(b"a contact sheet")
    fit_id = FitId.new()
    ref = register(registry, tenant, folder, artifacts={"contact_sheet.jpg": sheet}, fit_id=fit_id)
    assert ref == ModelRef(tenant, ANNA, 1)
    info = registry.describe(ref)
    assert (info.ref, info.metrics, info.tags, info.aliases) == (ref, METRICS, {"recipe": "m2dao"}, ())
    assert info.fit_id == fit_id
    assert info.num_bytes == 1028
    stored = registry.download(ref, tmp_path / "copy")
    assert stored.sha256 == info.files_sha256
    for name in ("identity.json", "gaussians.safetensors"):
        assert (tmp_path / "copy" / name).read_bytes() == (folder / name).read_bytes()
    assert registry.download_artifact(ref, "contact_sheet.jpg", tmp_path).read_bytes() == b"a contact sheet"
    with pytest.raises(UnknownIdentity):
        registry.download_artifact(ref, "other.jpg", tmp_path)


def test_a_fit_that_registers_again_gets_its_first_version(registry, tenant, folder):
    fit_id = FitId.new()
    first = register(registry, tenant, folder, fit_id=fit_id)
    assert register(registry, tenant, folder, fit_id=fit_id) == first
    assert register(registry, tenant, folder).version == 2
    assert [info.ref.version for info in registry.list_versions(tenant, ANNA)] == [2, 1]


def test_the_identities_of_a_tenant_are_its_own(registry, tenant, folder):
    neighbour = TenantId(f"{tenant}-x")
    register(registry, tenant, folder)
    register(registry, tenant, folder, IdentityName("bert"))
    register(registry, neighbour, folder)
    infos = registry.list_identities(tenant)
    assert [(info.identity.name, info.champion, info.versions) for info in infos] == [
        ("anna", None, (1,)),
        ("bert", None, (1,)),
    ]
    assert {info.tenant for info in registry.list_identities(neighbour)} == {neighbour}
    assert registry.list_identities(TenantId("nobody")) == []


@pytest.mark.parametrize("what", ["anna@2", "bert@1", "anna@champion", "bert@champion"])
def test_what_is_not_there_is_an_unknown_identity(registry, tenant, folder, what):
    if "anna" in what:
        register(registry, tenant, folder)
    name, _, last = what.partition("@")
    ref = ModelRef(tenant, IdentityName(name), 2) if last == "2" else AliasRef(tenant, IdentityName(name), "champion")
    ref = ModelRef(tenant, IdentityName(name), 1) if what == "bert@1" else ref
    for read in (registry.resolve, registry.describe):
        with pytest.raises(UnknownIdentity, match=str(ref)):
            read(ref)


def test_a_registration_that_breaks_off_leaves_no_version_and_no_files(registry, stack, tenant, folder, tmp_path):
    with pytest.raises(InputError):
        register(registry, tenant, folder, artifacts={"sheet.jpg": tmp_path / "missing.jpg"})
    with pytest.raises(UnknownIdentity):
        registry.resolve(ModelRef(tenant, ANNA, 1))
    assert registry.list_identities(tenant) == []
    assert list(ObjectStore(stack).list(f"{tenant}/")) == []
    assert register(registry, tenant, folder).version >= 1  # and it can be done after all


def test_a_version_that_is_not_complete_cannot_be_resolved_or_promoted(registry, champions, tenant, folder):
    ref = register(registry, tenant, folder)
    # What is left when the process is killed before the last tag is written:
    registry._client.set_model_version_tag(ref.registry_name, str(ref.version), "m2dao.state", "incomplete")
    for act in (
        registry.resolve,
        lambda r: registry.set_alias(r, "champion"),
        lambda r: champions.move(r),
    ):
        with pytest.raises(UnknownIdentity):
            act(ref)
    assert registry.list_identities(tenant) == []
    assert registry.list_versions(tenant, ANNA) == []


def test_stored_bytes_that_changed_are_refused(registry, stack, tenant, folder, tmp_path):
    ref = register(registry, tenant, folder)
    ObjectStore(stack).put_bytes(ref.object_prefix + "gaussians.safetensors", b"h" * 1000)
    with pytest.raises(ObjectCorrupt):
        registry.download(ref, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), True, "31", None])
def test_a_metric_that_is_not_a_finite_number_is_refused_before_anything_is_stored(registry, tenant, folder, value):
    with pytest.raises(InputError, match="psnr_db"):
        registry.register_version(tenant, ANNA, folder, metrics={"psnr_db": value}, tags={})
    assert registry.list_identities(tenant) == []


def test_tags_of_ours_cannot_be_forged(registry, tenant, folder):
    with pytest.raises(InputError, match="m2dao.state"):
        registry.register_version(tenant, ANNA, folder, metrics={}, tags={"m2dao.state": "ready"})
    ref = register(registry, tenant, folder)
    with pytest.raises(InputError):
        registry.set_tags(ref, {"m2dao.files_sha256": "0"})
    registry.set_tags(ref, {"gate": "passed"})
    assert registry.describe(ref).tags == {"recipe": "m2dao", "gate": "passed"}


def test_the_progress_of_a_fit_is_one_run_that_a_retry_goes_on_in(stack, registry, tenant, folder):
    fit_id = FitId.new()
    registry.runs.log(tenant, ANNA, fit_id, step=1, metrics={"loss": 1.0}, params={"recipe": "m2dao"})
    retry = Registry(stack)  # another process, with nothing remembered
    retry.runs.log(tenant, ANNA, fit_id, step=2, metrics={"loss": 0.5})
    run_id = registry.describe(register(retry, tenant, folder, fit_id=fit_id)).run_id
    run = registry._client.get_run(run_id)
    history = registry._client.get_metric_history(run_id, "loss")
    assert [(m.step, m.value) for m in history] == [(1, 1.0), (2, 0.5)]
    assert run.data.params == {"recipe": "m2dao"}
    assert run.info.status == "FINISHED"
    assert run.data.metrics["final.psnr_db"] == 31.25


def test_a_failed_fit_is_marked_so(registry, tenant):
    fit_id = FitId.new()
    registry.runs.log(tenant, ANNA, fit_id, step=1, metrics={"loss": 1.0})
    registry.runs.end(tenant, ANNA, fit_id, failed=True)
    assert registry._client.get_run(registry.runs.run_id(tenant, ANNA, fit_id)).info.status == "FAILED"


def test_promotion_moves_champion_and_previous_and_tells_everybody(registry, champions, state, tenant, folder):
    one, two = register(registry, tenant, folder), register(registry, tenant, folder)
    champion, previous = AliasRef(tenant, ANNA, "champion"), AliasRef(tenant, ANNA, "previous")
    with state.events.subscribe(TOPIC) as messages:
        assert champions.move(one, expected=None).previous is None
        assert registry.resolve(champion) == one
        change = champions.move(two, expected=1)
        assert (change.champion, change.previous) == (two, one)
        heard = [messages.get(5)[1] for _ in range(2)]
    assert heard[1] == {"tenant": str(tenant), "identity": "anna", "version": 2, "ref": str(two), "previous": 1}
    assert (registry.resolve(champion), registry.resolve(previous)) == (two, one)
    assert registry.list_identities(tenant)[0].champion == 2
    assert registry.describe(two).aliases == ("champion",)
    champions.move(registry.resolve(previous))  # a rollback
    assert (registry.resolve(champion), registry.resolve(previous)) == (one, two)


def test_promotion_on_old_facts_is_refused_and_changes_nothing(registry, champions, state, tenant, folder):
    one, two = register(registry, tenant, folder), register(registry, tenant, folder)
    champions.move(one)
    for expected in (None, 2):
        with pytest.raises(PromotionConflict):
            champions.move(two, expected=expected)
    assert registry.resolve(AliasRef(tenant, ANNA, "champion")) == one
    with state.limits.lock(tenant, "promote:anna", ttl_s=60), pytest.raises(LockBusy):
        champions.move(two, wait_s=0)


def test_of_many_promotions_that_expect_the_same_champion_one_wins(registry, champions, tenant, folder):
    refs = [register(registry, tenant, folder) for _ in range(3)]
    champions.move(refs[0])

    def promote(ref):
        try:
            return champions.move(ref, expected=1, wait_s=60).champion
        except PromotionConflict:
            return None

    with ThreadPoolExecutor(2) as pool:
        winners = [ref for ref in pool.map(promote, refs[1:]) if ref]
    assert len(winners) == 1
    assert registry.resolve(AliasRef(tenant, ANNA, "champion")) == winners[0]


def test_an_alias_of_another_name_is_refused_and_one_can_be_taken_away(registry, tenant, folder):
    ref = register(registry, tenant, folder)
    with pytest.raises(InvalidId):
        registry.set_alias(ref, "latest")
    registry.set_alias(ref, "challenger")
    alias = AliasRef(tenant, ANNA, "challenger")
    assert registry.resolve(alias) == ref
    registry.delete_alias(alias)
    registry.delete_alias(alias)  # no error
    with pytest.raises(UnknownIdentity):
        registry.resolve(alias)


def test_a_version_under_an_alias_is_not_deleted_and_one_without_leaves_nothing(
    registry, stack, tenant, folder, tmp_path
):
    sheet = tmp_path / "s.jpg"
    sheet.write_bytes(b"a face")
    one = register(registry, tenant, folder, artifacts={"s.jpg": sheet})
    two = register(registry, tenant, folder)
    registry.set_alias(two, "champion")
    with pytest.raises(Conflict, match="champion"):
        registry.delete_version(two)
    registry.delete_version(one)
    with pytest.raises(UnknownIdentity):
        registry.resolve(one)
    assert registry.resolve(AliasRef(tenant, ANNA)) == two
    registry.delete_identity(tenant, ANNA)
    assert registry.list_identities(tenant) == []
    client = ObjectStore(stack)._client
    keys = [e["Key"] for e in client.list_objects_v2(Bucket=stack.s3.bucket).get("Contents", ())]
    assert not [key for key in keys if f"{tenant}/" in key]  # neither files nor reports
    with pytest.raises(UnknownIdentity):
        registry.delete_identity(tenant, ANNA)


def test_models_that_others_put_into_mlflow_do_no_harm(registry, tenant, folder):
    register(registry, tenant, folder)
    registry._client.create_registered_model(f"{tenant}.Not an Identity")
    assert [info.identity.name for info in registry.list_identities(tenant)] == ["anna"]


def test_a_registry_can_be_sent_to_another_process(registry, tenant, folder):
    ref = register(registry, tenant, folder)
    assert pickle.loads(pickle.dumps(registry)).resolve(ref) == ref


def test_mlflow_is_asked_to_report_to_nobody_and_holds_no_pickles(registry, stack):
    import os

    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    with urllib.request.urlopen(f"{stack.require('mlflow.url')}/health", timeout=10) as answer:
        assert answer.status == 200
    client = ObjectStore(stack)._client
    keys = [e["Key"] for e in client.list_objects_v2(Bucket=stack.s3.bucket).get("Contents", ())]
    assert not [key for key in keys if key.endswith((".pkl", ".pickle", ".pt", ".pth"))]


def test_a_server_that_is_not_mlflow_is_a_service_error(stack):
    from tests.support.stack import reaching

    with pytest.raises(ServiceError):
        Registry(reaching(stack, mlflow_url=stack.require("s3.endpoint"))).check()

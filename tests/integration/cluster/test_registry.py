"""Versions, aliases and promotion, against a real MLflow server and a real S3."""

import pickle
import urllib.request

import pytest

from cluster import registry as registry_module
from cluster.ids import AliasRef, FitId, IdentityName, ModelRef, TenantId
from cluster.registry import Registry
from cluster.storage import ObjectStore
from m2dao.errors import (
    Conflict,
    InputError,
    LeaseLost,
    ObjectCorrupt,
    ServiceError,
    StateUnavailable,
    UnknownIdentity,
)

ANNA = IdentityName("anna")
METRICS = {"psnr_db": 31.25, "sync_offset_frames": -1}


@pytest.fixture(scope="module")
def champions(state):
    return state.champions


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


def fit(state, tenant):
    """A claimed fit."""
    state.accounts.create_tenant(tenant) if tenant not in state.accounts.list_tenants() else None
    job, _ = state.jobs.create(tenant, "fit", {})
    return state.jobs.claim("fit", worker="w", lease_s=60, tenant=tenant, job_id=job.id)


def register(registry, tenant, folder, identity=ANNA, **more):
    return registry.register_version(tenant, identity, folder, metrics=METRICS, tags={"recipe": "m2dao"}, **more)


def test_a_version_is_described_as_it_was_registered_and_comes_back_byte_for_byte(
    registry, state, tenant, folder, tmp_path
):
    sheet = tmp_path / "s.jpg"
    sheet.write_bytes(b"a contact sheet")
    claim = fit(state, tenant)
    ref = register(registry, tenant, folder, artifacts={"contact_sheet.jpg": sheet}, claim=claim)
    assert ref == ModelRef(tenant, ANNA, 1)
    info = registry.describe(ref)
    assert (info.ref, info.metrics, info.tags, info.aliases) == (ref, METRICS, {"recipe": "m2dao"}, ())
    assert info.fit_id == claim.job.id
    assert info.num_bytes == 1028
    stored = registry.download(ref, tmp_path / "copy")
    assert stored.sha256 == info.files_sha256
    for name in ("identity.json", "gaussians.safetensors"):
        assert (tmp_path / "copy" / name).read_bytes() == (folder / name).read_bytes()
    assert registry.download_artifact(ref, "contact_sheet.jpg", tmp_path).read_bytes() == b"a contact sheet"
    with pytest.raises(UnknownIdentity):
        registry.download_artifact(ref, "other.jpg", tmp_path)


def test_a_fit_that_registers_again_gets_its_first_version(registry, state, tenant, folder):
    claim = fit(state, tenant)
    first = register(registry, tenant, folder, claim=claim)
    assert register(registry, tenant, folder, claim=claim) == first
    assert register(registry, tenant, folder).version == 2
    assert state.versions.numbers(tenant, ANNA) == (1, 2)


def test_a_worker_that_was_given_up_adds_no_second_version(registry, state, tenant, folder, monkeypatch):
    """It stalls in its upload, after the last look at its lease; its successor registers meanwhile."""
    zombie = fit(state, tenant)
    put = registry_module.put_folder

    def stalled(*args):
        monkeypatch.setattr(registry_module, "put_folder", put)
        state.jobs.release(zombie)
        after = state.jobs.claim("fit", worker="w2", lease_s=60, tenant=tenant, job_id=zombie.job.id)
        assert register(registry, tenant, folder, claim=after).version == 2
        return put(*args)

    monkeypatch.setattr(registry_module, "put_folder", stalled)
    with pytest.raises(LeaseLost):
        register(registry, tenant, folder, claim=zombie)
    assert state.versions.numbers(tenant, ANNA) == (2,)
    assert list(registry._store.list(f"{tenant}/identities/anna/1/")) == []


def test_a_version_whose_commit_got_no_answer_is_kept_and_found_again(registry, state, tenant, folder, monkeypatch):
    claim = fit(state, tenant)
    commit = registry._state.versions.commit

    def cut_off(*args, **more):
        commit(*args, **more)
        raise StateUnavailable("state store")

    monkeypatch.setattr(registry._state.versions, "commit", cut_off)
    with pytest.raises(StateUnavailable):
        register(registry, tenant, folder, claim=claim)
    ref = register(registry, tenant, folder, claim=claim)
    assert registry.describe(ref).fit_id == claim.job.id
    assert [info.key for info in registry._store.list(ref.object_prefix)] != []


def test_a_version_that_mlflow_does_not_show_counts_and_is_shown_later(registry, state, tenant, folder, monkeypatch):
    def refuse(*args):
        raise ServiceError("a tag", "MLflow to accept the request", "UNIQUE constraint failed")

    monkeypatch.setattr(registry.ledger, "show_ready", refuse)
    ref = register(registry, tenant, folder)
    monkeypatch.undo()
    assert registry.resolve(ref) == ref
    assert ref in state.versions.untold()


def test_the_identities_of_a_tenant_are_its_own(registry, tenant, folder):
    neighbour = TenantId(f"{tenant}-x")
    register(registry, tenant, folder)
    register(registry, tenant, folder, IdentityName("bert"))
    register(registry, neighbour, folder)
    infos = registry._state.champions.identities(tenant)
    assert [(info.identity.name, info.champion, info.versions) for info in infos] == [
        ("anna", None, (1,)),
        ("bert", None, (1,)),
    ]
    assert {info.tenant for info in registry._state.champions.identities(neighbour)} == {neighbour}
    assert registry._state.champions.identities(TenantId("nobody")) == []


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
    assert registry._state.champions.identities(tenant) == []
    assert list(ObjectStore(stack).list(f"{tenant}/")) == []
    assert register(registry, tenant, folder).version >= 1  # and it can be done after all


def test_a_version_that_is_not_complete_cannot_be_resolved_or_promoted(registry, champions, tenant, folder):
    # What is left when the process is killed before the version counts:
    ref = registry._new_version(tenant, ANNA, registry.runs.run_id(tenant, ANNA, FitId.new()), {}, FitId.new())
    for act in (registry.resolve, registry.describe, champions.promote):
        with pytest.raises(UnknownIdentity):
            act(ref)
    assert registry._state.champions.identities(tenant) == []
    assert registry._state.versions.numbers(tenant, ANNA) == ()


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
    assert registry._state.champions.identities(tenant) == []


def test_tags_of_ours_cannot_be_forged(registry, tenant, folder):
    with pytest.raises(InputError, match="m2dao.state"):
        registry.register_version(tenant, ANNA, folder, metrics={}, tags={"m2dao.state": "ready"})
    ref = register(registry, tenant, folder)
    assert registry.describe(ref).tags == {"recipe": "m2dao"}


def test_the_progress_of_a_fit_is_one_run_that_a_retry_goes_on_in(stack, registry, state, tenant, folder):
    claim = fit(state, tenant)
    fit_id = claim.job.fit_id
    registry.runs.log(tenant, ANNA, fit_id, step=1, metrics={"loss": 1.0}, params={"recipe": "m2dao"})
    retry = Registry(stack)  # another process, with nothing remembered
    retry.runs.log(tenant, ANNA, fit_id, step=2, metrics={"loss": 0.5})
    run_id = registry.describe(register(retry, tenant, folder, claim=claim)).run_id
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


def test_a_version_under_an_alias_is_not_deleted_and_one_without_leaves_nothing(
    registry, champions, stack, tenant, folder, tmp_path
):
    sheet = tmp_path / "s.jpg"
    sheet.write_bytes(b"a face")
    one = register(registry, tenant, folder, artifacts={"s.jpg": sheet})
    two = register(registry, tenant, folder)
    champions.promote(two)
    with pytest.raises(Conflict, match="champion"):
        registry.delete_version(two)
    registry.delete_version(one)
    with pytest.raises(UnknownIdentity):
        registry.resolve(one)
    assert registry.resolve(AliasRef(tenant, ANNA)) == two
    registry.delete_identity(tenant, ANNA)
    assert champions.identities(tenant) == []
    client = ObjectStore(stack)._client
    keys = [e["Key"] for e in client.list_objects_v2(Bucket=stack.s3.bucket).get("Contents", ())]
    assert not [key for key in keys if f"{tenant}/" in key]  # neither files nor reports
    with pytest.raises(UnknownIdentity):
        registry.delete_identity(tenant, ANNA)


def test_models_that_others_put_into_mlflow_do_no_harm(registry, tenant, folder):
    register(registry, tenant, folder)
    registry._client.create_registered_model(f"{tenant}.Not an Identity")
    assert [info.identity.name for info in registry._state.champions.identities(tenant)] == ["anna"]


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

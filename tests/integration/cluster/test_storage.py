"""The object store, against a real S3 server."""

import hashlib
import json
import pickle
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from cluster.folders import describe_folder, get_folder, put_folder
from cluster.ids import TenantId
from cluster.object_keys import check_key, check_prefix, object_key
from cluster.storage import ObjectStore
from m2dao.errors import AlreadyExists, InputError, InvalidId, ObjectCorrupt, ServiceError, UnknownObject
from m2dao.formats import FILE_TABLE
from tests.support.stack import reaching

ACME = TenantId("acme")


@pytest.fixture(scope="module")
def store(stack):
    return ObjectStore(stack)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "identity"
    (root / "sub").mkdir(parents=True)
    (root / "identity.json").write_text("{}")
    (root / "sub" / "empty.bin").write_bytes(b"")
    (root / "gaussians.safetensors").write_bytes(bytes(range(256)) * 5000)
    return root


@pytest.mark.parametrize(
    "parts",
    [
        ("..", "x"),
        ("a", "../b"),
        ("",),
        ("a//b",),
        (".hidden",),
        ("a b",),
        ("a\nb",),
        ("ü",),
        ("x" * 201,),
        ("a/",),
        (),
    ],
)
def test_a_key_with_an_unsafe_part_is_refused(parts):
    with pytest.raises(InvalidId):
        object_key(ACME, *parts)


@pytest.mark.parametrize("key", ["/x", "ACME/x", "acme", "a.b/x", "../x", "acme/" + "a/" * 500 + "a"])
def test_a_key_that_does_not_begin_with_a_tenant_is_refused(key):
    with pytest.raises(InvalidId):
        check_key(key)


@pytest.mark.parametrize("prefix", ["acme", "/", "", "acme/x", "acme/../"])
def test_a_prefix_must_be_a_tenants_and_end_in_a_slash(prefix):
    with pytest.raises(InvalidId):
        check_prefix(prefix)


def test_every_operation_checks_its_key(store, tmp_path):
    (tmp_path / "f").write_bytes(b"x")
    for operation in (
        lambda: store.put_bytes("../x", b""),
        lambda: store.put_file("../x", tmp_path / "f"),
        lambda: store.get_bytes("../x"),
        lambda: store.get_file("../x", tmp_path / "g"),
        lambda: store.exists("../x"),
        lambda: store.delete("../x"),
        lambda: list(store.list("../")),
        lambda: store.presign_get("../x"),
        lambda: put_folder(store, "../", tmp_path),
        lambda: get_folder(store, "../", tmp_path / "d"),
        lambda: store.delete_prefix("../"),
    ):
        with pytest.raises(InvalidId):
            operation()


def test_bytes_come_back_as_they_were_stored(store, tenant):
    key = object_key(tenant, "uploads", "speech.wav")
    store.put_bytes(key, b"\x00\xffabc")
    assert store.get_bytes(key) == b"\x00\xffabc"
    assert store.head(key).num_bytes == 5
    store.put_bytes(key, b"second")
    assert store.get_bytes(key) == b"second"


def test_a_missing_object_is_an_unknown_object(store, tenant, tmp_path):
    key = object_key(tenant, "nothing")
    assert not store.exists(key)
    store.delete(key)  # no error
    for read in (store.get_bytes, store.head, lambda k: store.get_file(k, tmp_path / "f")):
        with pytest.raises(UnknownObject, match="nothing"):
            read(key)
    assert list(tmp_path.iterdir()) == []


def test_an_object_longer_than_allowed_is_not_read(store, tenant):
    key = object_key(tenant, "long")
    store.put_bytes(key, b"x" * 100)
    assert len(store.get_bytes(key, max_bytes=100)) == 100
    with pytest.raises(ObjectCorrupt):
        store.get_bytes(key, max_bytes=99)


def test_of_many_writers_that_want_to_be_the_first_one_is(store, tenant):
    key = object_key(tenant, "only-once")

    def write(number):
        try:
            store.put_bytes(key, str(number).encode(), if_absent=True)
            return number
        except AlreadyExists:
            return None

    with ThreadPoolExecutor(8) as pool:
        winners = [n for n in pool.map(write, range(16)) if n is not None]
    assert len(winners) == 1
    assert store.get_bytes(key) == str(winners[0]).encode()


def test_a_large_file_goes_in_parts_and_comes_back_the_same(store, tenant, tmp_path):
    source = tmp_path / "large.bin"
    source.write_bytes(bytes(range(256)) * (20 << 12))  # 20 MiB: above the size from which boto3 splits
    key = object_key(tenant, "large.bin")
    store.put_file(key, source)
    assert "-" in store.head(key).etag  # how S3 marks an object that came in parts
    assert store.get_file(key, tmp_path / "copy.bin") == hashlib.sha256(source.read_bytes()).hexdigest()
    assert (tmp_path / "copy.bin").read_bytes() == source.read_bytes()


def test_listing_and_deleting_a_prefix_leave_its_neighbours_alone(store, tenant):
    for name in ("a/1", "a/2", "ab/3"):
        store.put_bytes(object_key(tenant, name), b"x")
    assert [info.key for info in store.list(f"{tenant}/a/")] == [f"{tenant}/a/1", f"{tenant}/a/2"]
    assert store.delete_prefix(f"{tenant}/a/") == 2
    assert [info.key for info in store.list(f"{tenant}/")] == [f"{tenant}/ab/3"]


@pytest.mark.parametrize(("download", "kind"), [(False, "inline"), (True, "attachment")])
def test_a_presigned_url_plays_the_object_or_saves_it_under_its_name(store, tenant, download, kind):
    key = object_key(tenant, "renders", "x.mp4")
    store.put_bytes(key, b"video", content_type="video/mp4")
    url = store.presign_get(key, expires_s=60, name="anna.mp4", download=download)
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert answer.read() == b"video"
        assert answer.headers["Content-Disposition"] == f'{kind}; filename="anna.mp4"'
        assert answer.headers["Content-Type"] == "video/mp4"


def test_a_presigned_url_for_another_object_or_without_signature_is_refused(store, tenant):
    store.put_bytes(object_key(tenant, "mine"), b"m")
    store.put_bytes(object_key(tenant, "other"), b"o")
    url = store.presign_get(object_key(tenant, "mine"), expires_s=60)
    for changed in (url.replace("/mine?", "/other?"), url.split("?")[0]):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(changed, timeout=10)
        caught.value.close()
        assert caught.value.code == 403


@pytest.mark.parametrize("arguments", [{"expires_s": 0}, {"expires_s": 604801}, {"name": 'x"; y'}])
def test_a_presigned_url_with_unusable_terms_is_refused(store, arguments):
    with pytest.raises(InputError):
        store.presign_get("acme/x", **arguments)


def test_presigned_urls_carry_the_public_address(stack):
    public = ObjectStore(reaching(stack, s3_public_endpoint="https://media.example.org"))
    assert public.presign_get("acme/x").startswith("https://media.example.org/m2dao/acme/x?")


def test_a_folder_comes_back_whole_and_verified(store, tenant, folder, tmp_path):
    prefix = f"{tenant}/identities/anna/1/"
    stored = put_folder(store, prefix, folder)
    dest = tmp_path / "cache" / "anna"
    fetched = get_folder(store, prefix, dest, sha256=stored.sha256)
    assert fetched == stored
    assert set(stored.files) == {"identity.json", "sub/empty.bin", "gaussians.safetensors"}
    for name, entry in stored.files.items():
        assert (dest / name).read_bytes() == (folder / name).read_bytes()
        assert entry["bytes"] == (folder / name).stat().st_size
    assert sorted(p.name for p in dest.parent.iterdir()) == ["anna"]  # nothing half-done beside it


def test_one_flipped_byte_is_found_and_nothing_is_left_behind(store, tenant, folder, tmp_path):
    prefix = f"{tenant}/identities/anna/1/"
    put_folder(store, prefix, folder)
    data = bytearray((folder / "gaussians.safetensors").read_bytes())
    data[1000] ^= 1
    store.put_bytes(prefix + "gaussians.safetensors", bytes(data))
    with pytest.raises(ObjectCorrupt, match="gaussians.safetensors"):
        get_folder(store, prefix, tmp_path / "cache" / "anna")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_swapped_file_table_is_found_by_its_registered_hash(store, tenant, folder, tmp_path):
    prefix = f"{tenant}/identities/anna/1/"
    stored = put_folder(store, prefix, folder)
    store.put_bytes(prefix + "identity.json", b'{"evil": 1}')
    table = json.loads(store.get_bytes(prefix + FILE_TABLE.manifest))
    table["files"]["identity.json"] = {"sha256": hashlib.sha256(b'{"evil": 1}').hexdigest(), "bytes": 11}
    store.put_bytes(prefix + FILE_TABLE.manifest, json.dumps(table).encode())
    with pytest.raises(ObjectCorrupt, match=FILE_TABLE.manifest):
        get_folder(store, prefix, tmp_path / "d", sha256=stored.sha256)


def test_a_file_table_cannot_write_outside_the_folder(store, tenant, tmp_path):
    prefix = f"{tenant}/identities/anna/1/"
    entry = {"sha256": "0" * 64, "bytes": 1}
    for name in ("../evil", "/etc/evil", "a/../../evil", ".hidden", ""):
        table = {"format": "m2dao.files", "version": 1, "files": {name: entry}}
        store.put_bytes(prefix + FILE_TABLE.manifest, json.dumps(table).encode())
        with pytest.raises(ObjectCorrupt):
            get_folder(store, prefix, tmp_path / "d")


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"format":"m2dao.files","version":2,"files":{"a":{"sha256":"0","bytes":1}}}', b"\xff"]
)
def test_a_file_table_of_another_kind_is_corrupt(store, tenant, data):
    store.put_bytes(f"{tenant}/f/{FILE_TABLE.manifest}", data)
    with pytest.raises(ObjectCorrupt):
        describe_folder(store, f"{tenant}/f/")


def test_a_folder_that_was_not_stored_to_the_end_is_unknown(store, tenant, folder, tmp_path):
    prefix = f"{tenant}/identities/anna/1/"
    put_folder(store, prefix, folder)
    store.delete(prefix + FILE_TABLE.manifest)
    with pytest.raises(UnknownObject):
        get_folder(store, prefix, tmp_path / "d")


def test_a_folder_is_not_fetched_over_another(store, tenant, folder):
    put_folder(store, f"{tenant}/f/", folder)
    with pytest.raises(AlreadyExists):
        get_folder(store, f"{tenant}/f/", folder)


def test_of_many_that_fetch_the_same_folder_one_wins_and_none_sees_half(store, tenant, folder, tmp_path):
    stored = put_folder(store, f"{tenant}/f/", folder)

    def fetch(_):
        try:
            get_folder(store, f"{tenant}/f/", tmp_path / "shared")
            return True
        except AlreadyExists:
            return (tmp_path / "shared" / "gaussians.safetensors").stat().st_size

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(fetch, range(8)))
    assert results.count(True) == 1
    assert set(results) <= {True, stored.files["gaussians.safetensors"]["bytes"]}


@pytest.mark.parametrize("spoil", ["empty", "missing", "link", "table"])
def test_a_folder_that_cannot_be_stored_faithfully_is_refused(store, tenant, tmp_path, spoil):
    folder = tmp_path / "f"
    if spoil != "missing":
        folder.mkdir()
    if spoil == "link":
        (folder / "passwd").symlink_to("/etc/passwd")
    if spoil == "table":
        (folder / FILE_TABLE.manifest).write_text("{}")
    with pytest.raises(InputError):
        put_folder(store, f"{tenant}/f/", folder)
    assert list(store.list(f"{tenant}/")) == []


def test_wrong_credentials_say_which_settings_to_check(stack):
    stranger = ObjectStore(reaching(stack, s3_secret_key="wrong"))
    with pytest.raises(ServiceError, match="M2DAO_S3_SECRET_KEY"):
        stranger.get_bytes("acme/x")


def test_a_missing_bucket_is_made_once_and_again_is_no_error(stack):
    store = ObjectStore(reaching(stack, s3_bucket="another-bucket"))
    with pytest.raises((UnknownObject, ServiceError)):
        store.check()
    store.ensure_bucket()
    store.ensure_bucket()
    store.check()


def test_a_store_can_be_sent_to_another_process(store, tenant):
    store.put_bytes(object_key(tenant, "x"), b"x")
    assert pickle.loads(pickle.dumps(store)).get_bytes(object_key(tenant, "x")) == b"x"

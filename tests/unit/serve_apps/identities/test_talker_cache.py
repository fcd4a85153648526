"""The identity cache: what it promises to renders that run side by side."""

from __future__ import annotations

import contextlib
import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from cluster.ids import ModelRef
from m2dao.errors import CheckpointCorrupt, ConfigError, ServiceUnavailable, StorageUnavailable, UnknownIdentity
from serve_apps.identities.talker_cache import TalkerCache, keep_warm

WAIT_S = 20  # only reached by a broken cache


class FakeTalker:
    def __init__(self, ref: ModelRef, num_bytes: int):
        self.ref = ref
        self.num_bytes = num_bytes


class Source:
    """Identities of 10 bytes each, unless told otherwise; records what it was asked for."""

    def __init__(self):
        self.sizes: dict[ModelRef, int] = {}
        self.errors: dict[ModelRef, Exception] = {}
        self.load_errors: dict[ModelRef, Exception] = {}
        self.prepared: list[ModelRef] = []
        self.loaded: list[ModelRef] = []
        self.gate: threading.Event | None = None
        self.preparing = threading.Semaphore(0)

    @contextlib.contextmanager
    def prepare(self, ref: ModelRef):
        self.prepared.append(ref)
        self.preparing.release()
        if self.gate is not None:
            assert self.gate.wait(WAIT_S)
        if ref in self.errors:
            raise self.errors[ref]
        yield _Prepared(self, ref, self.sizes.get(ref, 10))


class _Prepared:
    def __init__(self, source: Source, ref: ModelRef, num_bytes: int):
        self.source, self.ref, self.num_bytes = source, ref, num_bytes

    def load(self) -> FakeTalker:
        if self.ref in self.source.load_errors:
            raise self.source.load_errors[self.ref]
        self.source.loaded.append(self.ref)
        return FakeTalker(self.ref, self.num_bytes)


def ref(version: int, identity: str = "anna") -> ModelRef:
    return ModelRef.parse(f"acme.{identity}@{version}")


@pytest.fixture
def source() -> Source:
    return Source()


def cache_of(source: Source, **options) -> TalkerCache:
    return TalkerCache(source.prepare, **{"byte_budget": 30, "room_timeout_s": 0.01, **options})


def use(cache: TalkerCache, *refs: ModelRef) -> None:
    for each in refs:
        with cache.lease(each) as talker:
            assert talker.ref == each


def test_a_talker_in_memory_is_not_loaded_again(source):
    cache = cache_of(source)
    use(cache, ref(1), ref(1), ref(1))
    assert source.loaded == [ref(1)]
    assert cache.figures().hits == 2


def test_the_least_recently_used_talker_makes_room(source):
    cache = cache_of(source)
    use(cache, ref(1), ref(2), ref(3), ref(1), ref(4))
    assert cache.resident() == [ref(3), ref(1), ref(4)]
    assert cache.figures().evictions == 1


def test_bytes_count_and_not_talkers(source):
    source.sizes = {ref(9): 25}
    cache = cache_of(source)
    use(cache, ref(1), ref(2), ref(3), ref(9))
    assert cache.resident() == [ref(9)]
    assert cache.figures().reserved_bytes <= 30


def test_a_leased_talker_is_never_evicted(source):
    cache = cache_of(source)
    with cache.lease(ref(1)) as talker:
        use(cache, ref(2), ref(3), ref(4), ref(5))
        assert ref(1) in cache.resident()
        assert talker.ref == ref(1)
    use(cache, ref(6), ref(7), ref(8))
    assert ref(1) not in cache.resident()


def test_a_discarded_talker_lives_as_long_as_its_lease_and_no_longer(source):
    cache = cache_of(source)
    with cache.lease(ref(1)) as talker:
        alive = weakref.ref(talker)
        cache.discard(ref(1))
        assert cache.resident() == []
        assert talker.ref == ref(1)
        assert cache.figures().reserved_bytes == 10  # it still uses memory
        del talker
        gc.collect()
        assert alive() is not None
    gc.collect()
    assert alive() is None
    assert cache.figures().reserved_bytes == 0


def test_a_discarded_talker_can_be_loaded_anew_while_the_old_one_is_leased(source):
    cache = cache_of(source)
    with cache.lease(ref(1)) as old:
        cache.discard(ref(1))
        with cache.lease(ref(1)) as new:
            assert new is not old
            assert cache.figures().reserved_bytes == 20
    assert cache.figures().reserved_bytes == 10


def test_everything_leased_means_waiting_and_then_a_clear_error(source):
    cache = cache_of(source, byte_budget=10)
    with cache.lease(ref(1)), pytest.raises(ServiceUnavailable, match="leased"), cache.lease(ref(2)):
        pass
    use(cache, ref(2))  # not remembered as refused: it was nobody's fault


def test_a_load_that_waits_for_room_goes_on_when_a_lease_ends(source):
    cache = cache_of(source, byte_budget=10, room_timeout_s=WAIT_S)
    with ThreadPoolExecutor(1) as pool:
        with cache.lease(ref(1)):
            source.preparing.acquire()
            waiting = pool.submit(use, cache, ref(2))
            assert source.preparing.acquire(timeout=WAIT_S)
        waiting.result(WAIT_S)
    assert cache.resident() == [ref(2)]


def test_many_renders_of_one_identity_share_one_load(source):
    cache = cache_of(source)
    source.gate = threading.Event()
    with ThreadPoolExecutor(8) as pool:
        uses = [pool.submit(use, cache, ref(1)) for _ in range(8)]
        assert source.preparing.acquire(timeout=WAIT_S)
        source.gate.set()
        for each in uses:
            each.result(WAIT_S)
    assert source.prepared == [ref(1)]


def test_loads_of_different_identities_run_side_by_side(source):
    cache = cache_of(source)
    source.gate = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        uses = [pool.submit(use, cache, ref(version)) for version in (1, 2)]
        for _ in uses:  # both are being prepared although neither has finished
            assert source.preparing.acquire(timeout=WAIT_S)
        source.gate.set()
        for each in uses:
            each.result(WAIT_S)


def test_an_unknown_identity_evicts_nobody(source):
    cache = cache_of(source)
    use(cache, ref(1), ref(2), ref(3))
    source.errors[ref(404)] = UnknownIdentity("acme.anna@404")
    with pytest.raises(UnknownIdentity), cache.lease(ref(404)):
        pass
    assert cache.resident() == [ref(1), ref(2), ref(3)]


def test_an_identity_beyond_the_budget_is_refused_and_evicts_nobody(source):
    cache = cache_of(source)
    use(cache, ref(1), ref(2))
    source.sizes[ref(9)] = 31
    with pytest.raises(ConfigError, match="31"), cache.lease(ref(9)):
        pass
    assert cache.resident() == [ref(1), ref(2)]


def test_a_refusal_is_remembered_for_its_time_and_then_asked_again(source):
    now = [0.0]
    cache = cache_of(source, clock=lambda: now[0], negative_ttl_s=5.0)
    source.errors[ref(1)] = UnknownIdentity("acme.anna@1", "a version", "none")
    for _ in range(3):
        with pytest.raises(UnknownIdentity, match="expected a version"), cache.lease(ref(1)):
            pass
    assert len(source.prepared) == 1
    del source.errors[ref(1)]
    now[0] = 5.0
    use(cache, ref(1))


def test_a_service_that_does_not_answer_is_asked_again_at_once(source):
    cache = cache_of(source)
    source.errors[ref(1)] = StorageUnavailable("bucket")
    with pytest.raises(StorageUnavailable), cache.lease(ref(1)):
        pass
    del source.errors[ref(1)]
    use(cache, ref(1))


def test_a_load_that_fails_gives_its_room_back(source):
    cache = cache_of(source)
    source.load_errors[ref(1)] = CheckpointCorrupt("gaussians.safetensors")
    with pytest.raises(CheckpointCorrupt), cache.lease(ref(1)):
        pass
    assert cache.figures().reserved_bytes == 0


def test_those_who_wait_for_a_load_that_fails_get_its_error(source):
    cache = cache_of(source)
    source.gate = threading.Event()
    source.errors[ref(1)] = UnknownIdentity("acme.anna@1")
    with ThreadPoolExecutor(4) as pool:
        uses = [pool.submit(use, cache, ref(1)) for _ in range(4)]
        assert source.preparing.acquire(timeout=WAIT_S)
        source.gate.set()
        for each in uses:
            with pytest.raises(UnknownIdentity):
                each.result(WAIT_S)
    assert len(source.prepared) == 1


def test_an_error_inside_a_render_ends_its_lease(source):
    cache = cache_of(source, byte_budget=10)
    with pytest.raises(RuntimeError), cache.lease(ref(1)):
        raise RuntimeError("a frame failed")
    use(cache, ref(2))


def test_prefetch_loads_without_leasing(source):
    cache = cache_of(source)
    cache.prefetch(ref(7))
    assert cache.resident() == [ref(7)]
    use(cache, ref(7))
    assert source.loaded == [ref(7)]


def test_a_budget_must_be_positive(source):
    with pytest.raises(ConfigError):
        cache_of(source, byte_budget=0)


def test_a_new_champion_is_loaded_where_its_identity_is_in_use_and_nowhere_else(source):
    cache = cache_of(source)
    use(cache, ref(1))
    keep_warm(cache, {"tenant": "acme", "identity": "anna", "version": 2})
    keep_warm(cache, {"tenant": "acme", "identity": "ben", "version": 1})
    keep_warm(cache, {})
    assert cache.resident() == [ref(1), ref(2)]

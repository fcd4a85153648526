"""A version is loaded and rendered before it serves: by a replica, or by the keeper."""

from __future__ import annotations

import numpy as np
import pytest

from cluster.control.champions import Champions
from cluster.ids import ModelRef
from cluster.keeper.probe_chore import ProbeChore
from m2dao.errors import PromotionRefused
from serve_apps.rendering.probe import ReplicaProber, fault_of
from tests.support.serve import make_worker


class Picture:
    """A talker of one frame, which may depend on what is behind it."""

    def __init__(self, frame):
        self._frame = frame

    def frames(self, waveform, *, background):
        yield self._frame(np.full((16, 16, 3), background, np.uint8))


def with_person(behind):
    behind[4:12, 4:12] = np.arange(64).reshape(8, 8, 1)
    return behind


def flat(behind):
    behind[:] = 7
    return behind


@pytest.mark.parametrize(
    ("frame", "fault"),
    [(with_person, ""), (lambda behind: behind, "nobody"), (flat, "one flat colour")],
)
def test_a_frame_shows_somebody_or_it_is_a_bad_one(frame, fault):
    assert fault_of(Picture(frame)).endswith(fault)
    assert bool(fault_of(Picture(frame))) == bool(fault)


@pytest.fixture
def listening(api, tmp_path):
    """A replica's talkers, whose prober hears of probes."""
    _, talkers = make_worker(api.services, tmp_path / "disk")
    prober = ReplicaProber(api.services.state.probes, talkers, name="replica", backend="cpu")
    return talkers, prober


def test_a_replica_that_serves_the_old_version_has_the_new_one_warm_before_it_serves(api, own, folder, listening):
    talkers, prober = listening
    old = ModelRef.parse(f"{own.tenant}.anna@1")
    new = api.register(own.tenant, folder, promote=False)
    probes = api.services.state.probes
    with talkers.lease(old):
        probes.ask(new, "p1")
        with api.services.state.events.subscribe(probes.topic(new, "p1")) as answers:
            prober.heard({"tenant": str(own.tenant), "id": "p1", "ref": str(new)})
            assert answers.get(120) is not None
    assert probes.fault(new, "p1") == ""
    assert set(talkers.resident()) == {old, new}


def test_a_replica_that_does_not_serve_the_identity_leaves_the_probe_to_others(api, own, listening):
    talkers, prober = listening
    ref = ModelRef.parse(f"{own.tenant}.anna@1")
    probes = api.services.state.probes
    probes.ask(ref, "p2")
    prober.heard({"tenant": str(own.tenant), "id": "p2", "ref": str(ref)})
    assert probes.claim(own.tenant, "p2", "the keeper") == ref
    assert talkers.resident() == []


def test_one_has_a_probe_at_a_time_and_only_its_word_counts(api, own):
    ref = ModelRef.parse(f"{own.tenant}.anna@1")
    probes = api.services.state.probes
    probes.ask(ref, "p3")
    assert probes.claim(own.tenant, "p3", "a") == ref
    assert probes.claim(own.tenant, "p3", "b") is None
    probes.answer(own.tenant, "p3", "b", "", backend="cpu")
    assert probes.fault(ref, "p3") is None
    probes.answer(own.tenant, "p3", "a", "broken", backend="gsplat")
    assert probes.fault(ref, "p3") == "broken"
    assert probes.backend(ref, "p3") == "gsplat"
    assert (own.tenant, "p3") not in probes.waiting(for_s=0.0)


def test_the_keeper_probes_in_a_process_of_its_own_what_no_replica_takes_on(api, own, tmp_path):
    """The real program: it loads the good version, and says what is wrong with the broken one."""
    good = ModelRef.parse(f"{own.tenant}.anna@1")
    (tmp_path / "identity.json").write_text("{}")
    broken = api.register(own.tenant, tmp_path, promote=False)
    probes, chore = api.services.state.probes, ProbeChore(api.platform, replicas_s=0.0)

    class Lease:
        check = staticmethod(lambda: None)

    for name, ref in (("p4", good), ("p5", broken)):
        probes.ask(ref, name)
        chore.do(Lease())
    assert probes.fault(good, "p4") == ""
    assert "identity.json" in probes.fault(broken, "p5")


def test_what_nobody_probes_does_not_serve(api, own, folder):
    new = api.register(own.tenant, folder, promote=False)
    with pytest.raises(PromotionRefused, match="nobody has probed it within 0 s"):
        Champions(api.services.state, probe_s=0.0).prove(new)

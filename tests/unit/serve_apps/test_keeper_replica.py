"""A keeper beside the API ends as the other replicas do."""

from __future__ import annotations

import threading

from serve_apps import keeper_deployment


def test_the_spans_of_a_keeper_are_sent_when_its_replica_ends_and_it_is_stopped_before(monkeypatch):
    replica = object.__new__(keeper_deployment.KeeperReplica)  # a whole one needs services
    replica._stop = stop = threading.Event()
    seen: list[bool] = []
    monkeypatch.setattr(keeper_deployment, "flush_traces", lambda: seen.append(stop.is_set()))
    del replica
    assert seen == [True]

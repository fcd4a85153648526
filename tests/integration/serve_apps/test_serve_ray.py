"""The application on a real Ray cluster: routing, scaling, killed replicas, promotions, draining.

One deployment serves all tests of this file, with small figures so that scaling is seen within seconds.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from cluster.platform import Platform
from cluster.settings import ServeConfig, Settings
from cluster.stack.home import StackHome
from cluster.telemetry.metrics import EVICTIONS, METRICS
from serve_apps.api.services import Services, make_services
from tests.support.serve import Customer, new_customer, register
from tests.support.stack import cancel_open_jobs, reaching
from tests.support.telemetry.spans import Collector, Seen, collecting
from tests.support.tiny_identity import make_tiny_identity

# Importing Ray Serve warns about its own use of pydantic, and it lets go of sockets only when its process ends.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
WAIT_S = 240
CONFIG = ServeConfig(
    min_replicas=1,
    max_replicas=2,
    target_wait_s=2.0,
    upscale_delay_s=0.5,
    downscale_delay_s=3.0,
    lease_s=8.0,
    render_threads=1,
    drain_s=60.0,
    max_audio_s=120.0,
    max_active_renders=20,
)


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def serve_settings(ray_stack: Settings, collector: Collector) -> Settings:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    return reaching(ray_stack, api_port=port, traces_endpoint=collector.url)


@pytest.fixture(scope="module")
def services(serve_settings: Settings) -> Iterator[Services]:
    services = make_services(serve_settings, CONFIG)
    yield services
    services.state.close()


@pytest.fixture(scope="module")
def platform(serve_settings: Settings) -> Platform:
    platform = Platform(serve_settings)
    platform.state.champions.set_imported()  # the stack of the tests began empty
    return platform


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> list[Path]:
    root = tmp_path_factory.mktemp("identities")
    return [make_tiny_identity(root / str(hue), size=64, hue=hue) for hue in (0.1, 0.6)]


@pytest.fixture(scope="module")
def url(serve_settings: Settings, services: Services) -> Iterator[str]:
    from serve_apps.deploy import deploy, on_ray, undeploy

    cancel_open_jobs(services.state, *services.state.accounts.list_tenants())
    with on_ray(serve_settings):
        yield deploy(serve_settings, CONFIG, timeout_s=WAIT_S, progress=lambda line: print(f"[serve] {line}"))
        undeploy(serve_settings)


@pytest.fixture
def own(url: str, services: Services, platform: Platform, folders: list[Path]) -> Iterator[Customer]:
    customer = new_customer(services.state, url)
    register(platform, customer.tenant, folders[0])
    yield customer
    for render in customer.client.get("/v1/renders?limit=100").json()["renders"]:
        customer.client.delete(f"/v1/renders/{render['id']}")
    customer.client.close()


def until(condition: Callable[[], Any], what: str) -> Any:
    """Poll, because the processes that change things are not ours."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        threading.Event().wait(0.1)
    raise AssertionError(f"not within {WAIT_S} s: {what}")


def render_of(customer: Customer, answer: httpx.Response) -> dict:
    assert answer.status_code == 202, answer.text
    return customer.client.get(answer.headers["location"]).json()


def finished(customer: Customer, answer: httpx.Response) -> dict:
    def look() -> dict | None:
        render = render_of(customer, answer)
        return render if render["status"] not in ("queued", "running") else None

    return until(look, "the render to finish")


def talker_pids(settings: Settings) -> set[int]:
    """Processes of the renderer replicas."""
    from ray.util.state import list_actors

    actors = list_actors(address=settings.ray.dashboard_url, filters=[("state", "=", "ALIVE")], limit=1000)
    return {actor.pid for actor in actors if "#talker#" in (actor.name or "")}


def num_running(settings: Settings) -> int:
    from serve_apps.deploy import status

    return next(entry["replicas"] for entry in status(settings)["deployments"] if entry["name"] == "talker")


def test_no_secret_is_in_rays_tables(url, serve_settings):
    from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_list

    secrets = [serve_settings.require(name).encode() for name in ("s3.secret_key", "key_pepper", "redis.url")]
    num_found = 0
    for namespace in ("serve", "job", "fun", "cls", "session", "runtime_env", None):
        for key in _internal_kv_list(b"", namespace=namespace):
            value = _internal_kv_get(key, namespace=namespace) or b""
            num_found += len(value) > 0
            assert not [secret for secret in secrets if secret in key + value]
    assert num_found > 0


def test_a_render_goes_all_the_way_and_its_trace_with_it(own, collector):
    trace = "0af7651916cd43dd8448eb211c80319c"
    named = {"traceparent": f"00-{trace}-b7ad6b7169203331-01", "X-Request-Id": "q-9"}
    render = finished(own, own.ask(2.0, background="#123456", headers=named))
    assert (render["status"], render["attempt"], render["figures"]["num_frames"]) == ("done", 1, 50), render
    video = httpx.get(render["result"]["url"], trust_env=False)
    assert video.status_code == 200
    assert video.content[4:8] == b"ftyp"

    wanted = {"ingress": ("POST /v1/renders", "decode", "queue", "dispatch"), "talker": ("attempt", "render", "commit")}
    pairs = {(component, name) for component, names in wanted.items() for name in names}

    def whole(spans: list[Seen]) -> list[Seen]:
        """Processes send what they have every five seconds."""
        ours = [span for span in spans if span.trace == trace]
        return ours if pairs <= {(span.component, span.name) for span in ours} else []

    spans = collector.wait(whole, within_s=WAIT_S)
    (attempt,) = (span for span in spans if span.name == "attempt")
    assert (attempt["job"], attempt["request"], attempt["outcome"]) == (render["id"], "q-9", "done")


def test_prometheus_sees_renders_and_problems_by_their_names_and_no_tenant(own, stack_home):
    finished(own, own.ask(1.0))
    assert own.client.get("/v1/renders/r-nothing").status_code == 404
    port = StackHome(stack_home).ports()["ray"]["metrics"]

    told = [each for each in METRICS if not each.by_keeper and each != EVICTIONS]
    kinds = {each.shown_as.removesuffix("_total"): each.kind for each in told}

    def shown() -> str | None:
        """The page, once it shows all that was told: processes tell Ray's agent every ten seconds."""
        page = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False, timeout=60).text
        found = {family.name: family.type for family in text_string_to_metric_families(page)}
        return page if kinds.items() <= found.items() else None

    page = until(shown, f"{sorted(kinds)} in Ray's metrics")
    ours = [line for line in page.splitlines() if "m2dao_" in line.partition("{")[0]]
    assert not [line for line in ours if str(own.tenant) in line]


def test_the_header_that_serve_routes_by_has_no_effect_when_a_client_sends_it(own, services, platform, folders, url):
    victim = new_customer(services.state, url)
    try:
        ref = register(platform, victim.tenant, folders[1])
        hole = {"serve_multiplexed_model_id": str(ref)}
        plain = finished(own, own.ask(1.0))
        forged = finished(own, own.ask(1.0, headers=hole))
        assert forged["status"] == plain["status"] == "done"
        assert forged["result"]["sha256"] == plain["result"]["sha256"]  # the caller's own identity, not the victim's
        assert own.client.get("/v1/identities", headers=hole).json() == own.client.get("/v1/identities").json()
        assert own.ask(identity=str(ref), headers=hole).status_code == 404
    finally:
        victim.client.close()


def test_errors_are_problem_documents_behind_serve_too_and_name_the_request(own, url):
    for answer, status in (
        (httpx.get(f"{url}/nowhere", trust_env=False), 404),
        (httpx.get(f"{url}/v1/renders", trust_env=False), 401),
        (httpx.put(f"{url}/healthz", trust_env=False), 405),
        (own.client.get("/v1/renders?limit=0"), 422),
        (own.client.post("/v1/renders", json={}), 415),
        (own.ask(audio=b"no sound"), 422),
    ):
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        assert answer.headers.get_list("x-request-id") == [answer.json()["request_id"]]
    named = own.client.get("/v1/renders/r-none", headers={"X-Request-Id": "q-1"})
    assert named.headers.get_list("x-request-id") == [named.json()["request_id"]] == ["q-1"]
    assert httpx.get(f"{url}/readyz", trust_env=False).json() == {"status": "ok", "degraded": []}


def test_a_promotion_is_served_without_a_restart_while_open_renders_keep_their_version(
    own, platform, folders, serve_settings
):
    pids = talker_pids(serve_settings)
    open_render = own.ask(20.0)
    register(platform, own.tenant, folders[1])
    until(lambda: render_of(own, own.ask(0.2))["version"] == 2, "the promotion to be seen")
    new = finished(own, own.ask(1.0))
    old = finished(own, open_render)
    assert (new["status"], new["version"], old["status"], old["version"]) == ("done", 2, "done", 1)
    assert pids & talker_pids(serve_settings)  # nobody was restarted


def test_replicas_are_added_for_a_backlog_and_removed_after_it(own, serve_settings):
    until(lambda: num_running(serve_settings) == 1, "one replica while there is nothing to do")
    asked = []

    def added() -> bool:
        """However fast renders are on this machine, ten of them wait or run until a replica is added."""
        open_renders = [render_of(own, answer) for answer in asked[-10:]]
        if sum(render["status"] in ("queued", "running") for render in open_renders) < 10:
            asked.append(own.ask(20.0))
        return num_running(serve_settings) == 2

    until(added, "a replica to be added")
    for answer in asked:
        assert finished(own, answer)["status"] == "done"
    until(lambda: num_running(serve_settings) == 1, "the replica to be removed")


def test_a_render_whose_replica_is_killed_finishes_on_another_in_the_same_trace(own, serve_settings, collector):
    answer = own.ask(40.0)
    until(lambda: render_of(own, answer)["stage"] == "rendering", "the render to begin")
    killed = talker_pids(serve_settings)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    render = finished(own, answer)
    assert (render["status"], render["attempt"], render["figures"]["num_frames"]) == ("done", 2, 1000)

    def both_told(spans: list[Seen]) -> bool:
        """The replica that died took its own span along; the dispatcher's tells of it."""
        ours = [span for span in spans if span.attributes.get("m2dao.job") == render["id"]]
        traces = {span.trace for span in ours if span.name == "POST /v1/renders"}
        tries = {(span.name, span["attempt"], span.trace) for span in ours if "m2dao.attempt" in span.attributes}
        return any({("replica lost", 1, trace), ("attempt", 2, trace)} <= tries for trace in traces)

    collector.wait(both_told, within_s=WAIT_S)
    assert not killed & talker_pids(serve_settings)


def test_an_actor_that_was_stopped_on_purpose_is_told_from_one_that_died(url):
    """Ray says so in the text of its error alone: this fails when a new Ray words it otherwise."""
    import ray
    from ray.exceptions import ActorDiedError

    from serve_apps.app import _was_stopped

    class Waiting:
        def pid(self) -> int:
            return os.getpid()

        def wait(self) -> None:
            threading.Event().wait()

    def error_after(end: Callable[[Any, int], object]) -> ActorDiedError:
        actor = ray.remote(num_cpus=0)(Waiting).remote()
        pid = ray.get(actor.pid.remote())
        waiting = actor.wait.remote()
        end(actor, pid)
        with pytest.raises(ActorDiedError) as caught:
            ray.get(waiting)
        return caught.value

    assert _was_stopped(error_after(lambda actor, pid: ray.kill(actor)))
    assert not _was_stopped(error_after(lambda actor, pid: os.kill(pid, signal.SIGKILL)))


@contextlib.contextmanager
def another_application(url: str) -> Iterator[None]:
    """An application that is not ours, on the same Ray."""
    from ray import serve

    class Neighbour:
        def __call__(self, request: Any) -> str:
            return "here"

    deployment = serve.deployment(name="neighbour", ray_actor_options={"num_cpus": 0})(Neighbour)
    serve.run(deployment.bind(), name="neighbour", route_prefix="/neighbour")
    try:
        yield
        assert httpx.get(f"{url}/neighbour", timeout=WAIT_S, trust_env=False).text == "here"
    finally:
        serve.delete("neighbour")


def test_stopping_lets_a_running_render_finish_and_keeps_the_queue_and_the_applications_of_others(
    own, services, serve_settings, url
):
    from serve_apps.deploy import deploy, undeploy

    with another_application(url):
        running = own.ask(10.0)
        until(lambda: render_of(own, running)["stage"] == "rendering", "the render to begin")
        queued = [own.ask(30.0) for _ in range(8)]  # much more than can be done until the stop
        undeploy(serve_settings)
    ids = [answer.headers["location"].rpartition("/")[2] for answer in (running, *queued)]
    jobs = {str(job.id): job for job in services.state.jobs.list(own.tenant, "render")}
    assert jobs[ids[0]].status == "done"
    kept = [each for each in ids[1:] if jobs[each].status == "queued"]
    assert kept
    assert all(jobs[each].error is None for each in ids)
    for each in kept[1:]:  # one tells as much as all
        services.state.jobs.cancel(own.tenant, jobs[each].id)
    try:  # without replicas: what has waited starts one, and they leave when nothing waits
        deploy(serve_settings, CONFIG.model_copy(update={"min_replicas": 0}), timeout_s=WAIT_S)
        assert finished(own, queued[ids[1:].index(kept[0])])["status"] == "done"
        until(lambda: num_running(serve_settings) == 0, "all replicas to be removed")
        assert finished(own, own.ask(1.0))["status"] == "done"
    finally:
        deploy(serve_settings, CONFIG, timeout_s=WAIT_S)

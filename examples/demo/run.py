"""The whole way in one command: recordings in, videos of fitted people speaking out.

    python -m examples.demo.run
    python -m examples.demo.run --video anna.mp4 ben.mp4 --audio speech.wav

It uses the platform as its users do, by command lines and HTTP, in a stack of its own that ends with it. The time for
the fits is what the other steps leave of ``--total-minutes``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from examples.demo import checks as demo_checks
from examples.demo.plan import fit_minutes, identity_names, slowness
from examples.demo.programs import Programs, Screen
from m2dao.errors import ConfigError, InputError, M2daoError
from m2dao.files import whole_file

TENANT = "demo"
SENTENCES = (
    "This sentence is new to me. I have never said it before, and my lips follow every word of it. "
    "Maybe you will believe me.",
    "Please watch my mouth, because these words are not in my recording. Both lips close for a plum, a beam and a map.",
)
MODEL_FILES = ("face_landmarker", "selfie_segmentation", "lpips_alex")  # those that the default recipe needs
NUM_STEPS = 7
POLL_S = 0.5
RENDER_TIMEOUT_S = 600.0


@dataclass(kw_only=True)
class Person:
    """One identity on its way through the demo."""

    name: str
    video: Path
    audio: Path
    sentence: str = ""
    fit: dict[str, Any] = field(default_factory=dict)
    render: dict[str, Any] = field(default_factory=dict)
    result: Path | None = None
    facts: dict[str, Any] = field(default_factory=dict)


class Demo:
    """One run of the demo."""

    def __init__(self, args: argparse.Namespace):
        self._args = args
        self._out: Path = args.out.absolute()
        self._home = self._out / "stack"
        self._screen = Screen(NUM_STEPS)
        # A stack of its own: a running one of `make up` is neither used nor stopped.
        self._env = {**os.environ, "M2DAO_HOME": str(self._home), "M2DAO_API_PORT": str(_free_port())}
        self._logs = self._out / "logs"
        self._programs = Programs(self._screen, self._env, self._logs)
        self._seconds: dict[str, float] = {}
        self._people: list[Person] = []

    def run(self) -> dict[str, Any]:
        """Do everything; returns the report.

        Raises:
            M2daoError: a step failed, or a result is not what it should be.
        """
        self._make_folders()
        with _interruptible():
            try:
                with self._timed("start"):
                    self._start()
                with self._timed("fit"):
                    self._fit()
                with self._timed("deploy"):
                    url = self._deploy()
                with self._timed("render"):
                    self._render(url)
                with self._timed("check"):
                    self._check()
            finally:
                with _uninterruptible(self._screen), self._timed("stop"):
                    self._screen.step("stopping what was started")
                    self._stop()
        report = self._report()
        shutil.rmtree(self._home, ignore_errors=True)
        return report

    # -- the steps --------------------------------------------------------------------------------------------

    def _make_folders(self) -> None:
        for path in self._args.video:
            if not path.is_file():
                raise InputError(str(path), "a video file", "nothing" if not path.exists() else "something else")
            demo_checks.video_seconds(path)
        if self._args.audio is not None and not self._args.audio.is_file():
            raise InputError(str(self._args.audio), "a sound file", "nothing")
        self._out.mkdir(parents=True, exist_ok=True)
        if self._home.exists():  # of a demo that could not clean up after itself
            self._stop()
            shutil.rmtree(self._home, ignore_errors=True)
        for folder in (self._logs, self._out / "recordings", self._out / "speech"):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()

    def _start(self) -> None:
        run, args = self._programs.run, self._args
        self._screen.step(
            "model files, service stack" + ("" if args.video else ", two synthetic presenters") + " (at the same time)"
        )
        videos = self._out / "recordings"
        names = [] if args.video else list(args.presenters)
        tasks = [
            lambda: run("stack", "cluster.cli", "up", "--owner-pid", os.getpid()),
            lambda: run("model files", "m2dao.cli", "assets", "fetch", *MODEL_FILES, as_json=False),
            *(
                lambda name=name: run(
                    name,
                    "m2dao.cli",
                    "presenter",
                    "--out",
                    videos,
                    "--person",
                    name,
                    "--seconds",
                    args.presenter_seconds,
                    "--size",
                    args.capture_size,
                )
                for name in names
            ),
        ]
        self._programs.run_together(tasks)
        self._screen.step("a tenant, and what is to be said" if args.audio is None else "a tenant")
        run("tenant", "cluster.cli", "tenant", "create", TENANT)
        if args.video:
            self._people = [
                Person(name=name, video=path, audio=args.audio or self._speech(args.presenters[0], 0))
                for name, path in zip(identity_names(args.video), args.video, strict=True)
            ]
        else:
            self._people = [
                Person(
                    name=name,
                    video=videos / f"{name}.mp4",
                    audio=args.audio or self._speech(name, index),
                    sentence="" if args.audio else SENTENCES[index % len(SENTENCES)],
                )
                for index, name in enumerate(names)
            ]

    def _speech(self, voice: str, index: int) -> Path:
        sentence = SENTENCES[index % len(SENTENCES)]
        words = ("presenter", "--out", self._out / "speech", "--person", voice, "--speech-only", "--sentence", sentence)
        return Path(self._programs.run("speech", "m2dao.cli", *words)["recordings"][0]["speech"])

    def _fit(self) -> None:
        args, people = self._args, self._people
        minutes = fit_minutes(
            60 * args.total_minutes - self._screen.elapsed_s,
            num_fits=len(people),
            recording_s=max(demo_checks.video_seconds(person.video) for person in people),
            speech_s=sum(demo_checks.audio_seconds(person.audio) for person in people),
            num_cores=os.cpu_count() or 1,
            slowness=slowness(self._seconds["start"], made_presenters=not args.video),
        )
        names = " and ".join(person.name for person in people)
        self._screen.step(f"fitting {names} on the cluster, {minutes:.1f} minutes of optimisation each")
        identities = [word for person in people for word in ("--identity", f"{person.name}={person.video}")]
        consent = args.consent or (None if args.video else "nobody's: this person is synthetic")
        self._screen.clear()
        result = self._programs.run(
            "fit",
            "train_jobs.cli",
            "fit",
            "--tenant",
            TENANT,
            *identities,
            "--size",
            args.size,
            "--capture-size",
            args.capture_size,
            "--minutes",
            minutes,
            "--protocols",
            "paper",
            "--evaluate-frames",
            50,
            *(("--consent", consent) if consent else ()),
            "--promote",
            own_screen=True,
        )
        for person, fit in zip(people, result["fits"], strict=True):
            person.fit = fit["result"]
            promotion = person.fit["promotion"]
            if not promotion["promoted"]:
                self._screen.say(f"{person.fit['ref']} is not the champion; its video is made from the version itself")

    def _deploy(self) -> str:
        self._screen.step("the render API")
        url = self._programs.run("serve", "serve_apps.cli", "deploy")["url"]
        self._screen.say(f"answers at {url}")
        return url

    def _render(self, url: str) -> None:
        import httpx

        self._screen.step("videos of " + " and ".join(person.name for person in self._people) + " speaking, over HTTP")
        key = self._programs.run("key", "cluster.cli", "key", "create", TENANT, "--label", "demo")["key"]
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60, trust_env=False) as api:
            for person in self._people:
                promoted = person.fit["promotion"]["promoted"]
                # The champion is the plain name; what the gate refused can still be had by its version.
                wanted = person.name if promoted else person.fit["ref"].partition(".")[2]
                with open(person.audio, "rb") as audio:
                    answer = api.post("/v1/renders", files={"audio": audio}, data={"identity": wanted})
                person.render = _body(answer)
            for person in self._people:
                self._await(api, person)
                person.result = self._out / f"{person.name}.mp4"
                _download(person.render["result"]["url"], person.result)
                self._screen.say(f"{person.result}")

    def _await(self, api, person: Person) -> None:
        deadline = time.monotonic() + RENDER_TIMEOUT_S
        while person.render["status"] in ("queued", "running"):
            if time.monotonic() > deadline:
                raise M2daoError(f"render of {person.name}", f"to end within {RENDER_TIMEOUT_S:.0f} s", "no end")
            self._screen.now(person.name, f"{person.render['stage'] or 'queued'} {person.render['progress']:.0%}")
            time.sleep(POLL_S)
            person.render = _body(api.get(f"/v1/renders/{person.render['id']}"))
        if person.render["status"] != "done":
            reason = json.dumps(person.render["error"])
            raise M2daoError(f"render of {person.name}", "done", person.render["status"], reason)

    def _check(self) -> None:
        self._screen.step("checking the videos")
        wrong = []
        for person in self._people:
            facts = demo_checks.look_at(person.result)
            spoken = demo_checks.audio_seconds(person.audio)
            problems = demo_checks.problems_of(facts, speech_seconds=spoken, size=self._args.size)
            wrong += [f"{person.name}: {text}" for text in problems]
            person.facts = {**asdict(facts), "frame_rate": str(facts.frame_rate)}
        seen = self._programs.run_together(
            [
                lambda person=person: self._programs.run(
                    f"look at {person.name}", "m2dao.cli", "inspect", person.result
                )
                for person in self._people
            ]
        )
        for person, found in zip(self._people, seen, strict=True):
            person.facts["seen"] = found
            if found["num_frames_without_face"]:
                wrong.append(f"{person.name}: no face in {found['num_frames_without_face']} frames")
        if wrong:
            raise M2daoError("results", "videos of people speaking", "; ".join(wrong), f"look at them in {self._out}")

    def _stop(self) -> None:
        self._screen.clear()
        self._programs.close()
        stopping = Programs(self._screen, self._env, self._logs if self._logs.is_dir() else self._out)
        try:
            stopping.run("stop", "cluster.cli", "down")
        except M2daoError as error:
            self._screen.say(f"the stack could not be stopped: {error}")

    # -- the end ----------------------------------------------------------------------------------------------

    def _report(self) -> dict[str, Any]:
        people = []
        for person in self._people:
            figures = person.render["figures"]
            people.append(
                {
                    "identity": person.name,
                    "ref": person.fit["ref"],
                    "promoted": person.fit["promotion"]["promoted"],
                    "video": str(person.result),
                    "sentence": person.sentence,
                    "psnr_db": person.fit["metrics"].get("psnr_db"),
                    # Of the new video: the unseen part of a short recording is too short to tell.
                    "sync_confidence": person.facts["seen"]["sync_confidence"],
                    "sync_offset_frames": person.facts["seen"]["sync_offset_frames"],
                    "real_time_factor": figures["real_time_factor"],
                    "stage_seconds": {**person.fit["seconds"], "render": figures["render_seconds"]},
                    "checks": person.facts,
                }
            )
        self._screen.say("done")
        for row in people:
            print(
                f"{row['video']}: {row['ref']}{'' if row['promoted'] else ' (not promoted)'}, "
                f"PSNR {_number(row['psnr_db'])} dB on unseen frames, "
                f"sync confidence {_number(row['sync_confidence'])} (offset {_number(row['sync_offset_frames'])} frames), "
                f"real-time factor {_number(row['real_time_factor'])}",
                file=sys.stderr,
            )
            stages = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in row["stage_seconds"].items())
            print(f"    {stages}", file=sys.stderr)
        steps = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in self._seconds.items())
        print(f"steps: {steps}; {self._screen.elapsed_s / 60:.1f} minutes in all", file=sys.stderr)
        report = {"people": people, "seconds": self._seconds, "total_seconds": round(self._screen.elapsed_s, 1)}
        (self._out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
        return report

    @contextlib.contextmanager
    def _timed(self, name: str):
        began = time.monotonic()
        try:
            yield
        finally:
            self._seconds[name] = round(time.monotonic() - began, 1)


# -- helpers --------------------------------------------------------------------------------------------------


def _body(answer) -> dict[str, Any]:
    if answer.is_error:
        asked = f"{answer.request.method} {answer.request.url.path}"
        raise M2daoError(asked, "success", f"{answer.status_code}: {answer.text}")
    return answer.json()


def _download(url: str, path: Path) -> None:
    import httpx

    with httpx.stream("GET", url, timeout=60, trust_env=False) as answer, whole_file(path) as partial:
        answer.raise_for_status()
        with open(partial, "wb") as file:
            for chunk in answer.iter_bytes():
                file.write(chunk)


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"


def _free_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def _interruptible():
    """SIGTERM and SIGHUP end the demo as Ctrl-C does, and Ctrl-C does so even where a script has it ignored."""
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _uninterruptible(screen: Screen):
    """Stopping is not to be interrupted: what is left running would stay."""

    def wait(number, frame) -> None:
        screen.say("stopping; one moment")

    before = {number: signal.signal(number, wait) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number, frame) -> None:
    raise KeyboardInterrupt


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.demo.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--video", nargs="+", type=Path, default=[], metavar="FILE", help="recordings of your own")
    parser.add_argument("--audio", type=Path, metavar="FILE", help="what they are to say (default: a new sentence)")
    parser.add_argument("--out", type=Path, default=Path("out/demo"), metavar="DIR", help="results (default: out/demo)")
    parser.add_argument("--size", type=int, default=256, help="side of the picture in pixels (default 256)")
    parser.add_argument("--capture-size", type=int, default=512, metavar="PX", help="side of the prepared crop")
    parser.add_argument(
        "--total-minutes", type=float, default=10.0, metavar="M", help="time the whole demo aims at (default 10)"
    )
    parser.add_argument(
        "--presenter-seconds", type=float, default=20.0, metavar="S", help="length of synthetic recordings (default 20)"
    )
    parser.add_argument("--consent", metavar="TEXT", help="who said that the people in your videos consent")
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")
    parser.set_defaults(presenters=("mira", "omar"))
    args = parser.parse_args(argv)
    if not 1 <= args.total_minutes <= 24 * 60:
        raise ConfigError("--total-minutes", "1 to 1440", str(args.total_minutes))
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit code."""
    try:
        args = _parse(argv)
        report = Demo(args).run()
    except M2daoError as error:
        print(f"demo: {error}", file=sys.stderr)
        if not isinstance(error, InputError):
            print(f"demo: what the programs said is in {args.out}/logs and {args.out}/stack/logs", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("demo: interrupted; everything it had started is stopped", file=sys.stderr)
        return 130
    if args.json:
        print(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())

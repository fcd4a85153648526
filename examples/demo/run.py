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
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from examples.demo import checks as demo_checks
from examples.demo.api import RenderClient, download
from examples.demo.people import Person, print_report
from examples.demo.plan import fit_minutes, identity_names, slowness
from examples.demo.programs import Programs, Screen
from examples.demo.signals import interruptible, uninterruptible
from m2dao.errors import ConfigError, InputError, M2daoError

TENANT = "demo"
SENTENCES = (
    "This sentence is new to me. I have never said it before, and my lips follow every word of it. "
    "Maybe you will believe me.",
    "Please watch my mouth, because these words are not in my recording. Both lips close for a plum, a beam and a map.",
)
MODEL_FILES = ("face_landmarker", "selfie_segmentation", "lpips_alex")  # those that the default recipe needs
NUM_STEPS = 7


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
        self._recordings = self._out / "recordings"
        self._programs = Programs(self._screen, self._env, self._logs)
        self._seconds: dict[str, float] = {}
        self._people: list[Person] = []

    def run(self) -> dict[str, Any]:
        """Do everything; returns the report.

        Raises:
            M2daoError: a step failed, or a result is not what it should be.
        """
        self._make_folders()
        with interruptible():
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
                with uninterruptible(self._screen.say), self._timed("stop"):
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
        for folder in (self._logs, self._recordings, self._out / "speech"):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()

    def _start(self) -> None:
        run, args = self._programs.run, self._args
        self._screen.step(
            "model files, service stack" + ("" if args.video else ", two synthetic presenters") + " (at the same time)"
        )
        names = [] if args.video else list(args.presenters)
        self._programs.run_together(
            [
                partial(run, "stack", "cluster.cli", "up", "--owner-pid", os.getpid()),
                partial(run, "model files", "m2dao.cli", "assets", "fetch", *MODEL_FILES, as_json=False),
                *(partial(self._make_presenter, name) for name in names),
            ]
        )
        self._screen.step("a tenant, and what is to be said" if args.audio is None else "a tenant")
        run("tenant", "cluster.cli", "tenant", "create", TENANT)
        if args.video:
            self._people = [
                self._person(name, path, voice=args.presenters[0], index=0)
                for name, path in zip(identity_names(args.video), args.video, strict=True)
            ]
        else:
            self._people = [
                self._person(name, self._recordings / f"{name}.mp4", voice=name, index=index)
                for index, name in enumerate(names)
            ]

    def _make_presenter(self, name: str) -> dict[str, Any]:
        args = self._args
        words = ("presenter", "--out", self._recordings, "--person", name)
        sizes = ("--seconds", args.presenter_seconds, "--size", args.capture_size)
        return self._programs.run(name, "m2dao.cli", *words, *sizes)

    def _person(self, name: str, video: Path, *, voice: str, index: int) -> Person:
        """Who is in ``video``, with something to say that is not in it."""
        return Person(
            name=name,
            video=video,
            audio=self._args.audio or self._speech(voice, index),
            result=self._out / f"{name}.mp4",
            sentence="" if self._args.audio or self._args.video else SENTENCES[index % len(SENTENCES)],
        )

    def _speech(self, voice: str, index: int) -> Path:
        sentence = SENTENCES[index % len(SENTENCES)]
        words = ("presenter", "--out", self._out / "speech", "--person", voice, "--speech-only", "--sentence", sentence)
        return Path(self._programs.run("speech", "m2dao.cli", *words)["recordings"][0]["speech"])

    def _budget(self) -> tuple[str, float]:
        """The option that limits a fit, with its value."""
        args, people = self._args, self._people
        if args.steps is not None:
            return "--steps", args.steps
        minutes = fit_minutes(
            60 * args.total_minutes - self._screen.elapsed_s,
            num_fits=len(people),
            recording_s=max(demo_checks.video_seconds(person.video) for person in people),
            speech_s=sum(demo_checks.audio_seconds(person.audio) for person in people),
            num_cores=os.cpu_count() or 1,
            slowness=slowness(self._seconds["start"], made_presenters=not args.video),
        )
        return "--minutes", minutes

    def _fit(self) -> None:
        args, people = self._args, self._people
        names = " and ".join(person.name for person in people)
        budget = self._budget()
        self._screen.step(f"fitting {names} on the cluster, {budget[1]:.4g} {budget[0][2:]} of optimisation each")
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
            *budget,
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
        url: str = self._programs.run("serve", "serve_apps.cli", "deploy")["url"]
        self._screen.say(f"answers at {url}")
        return url

    def _render(self, url: str) -> None:
        self._screen.step("videos of " + " and ".join(person.name for person in self._people) + " speaking, over HTTP")
        key = self._programs.run("key", "cluster.cli", "key", "create", TENANT, "--label", "demo")["key"]
        with RenderClient.connect(url, key) as api:
            for person in self._people:
                promoted = person.fit["promotion"]["promoted"]
                # The champion is the plain name; what the gate refused can still be had by its version.
                wanted = person.name if promoted else person.fit["ref"].partition(".")[2]
                person.render = api.order(wanted, person.audio)
            for person in self._people:
                person.render = api.wait(person.render, progress=partial(self._screen.now, person.name))
                download(person.render["result"]["url"], person.result)
                self._screen.say(f"{person.result}")

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
                partial(self._programs.run, f"look at {person.name}", "m2dao.cli", "inspect", person.result)
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
        people = [person.report() for person in self._people]
        self._screen.say("done")
        print_report(people, self._seconds, total_s=self._screen.elapsed_s)
        report = {"people": people, "seconds": self._seconds, "total_seconds": round(self._screen.elapsed_s, 1)}
        (self._out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
        return report

    @contextlib.contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self._seconds[name] = round(time.monotonic() - began, 1)


def _free_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


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
    parser.add_argument("--steps", type=int, metavar="N", help="steps of each fit (default: as many as fit the time)")
    parser.add_argument(
        "--presenter-seconds", type=float, default=20.0, metavar="S", help="length of synthetic recordings (default 20)"
    )
    parser.add_argument("--consent", metavar="TEXT", help="who said that the people in your videos consent")
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")
    parser.set_defaults(presenters=("mira", "omar"))
    args = parser.parse_args(argv)
    if not 1 <= args.total_minutes <= 24 * 60:
        raise ConfigError("--total-minutes", "1 to 1440", str(args.total_minutes))
    if args.steps is not None and args.steps < 1:
        raise ConfigError("--steps", "at least 1", str(args.steps))
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit code."""
    try:
        args = _parse(argv)
        report = Demo(args).run()
    except M2daoError as error:
        print(f"demo: {error}", file=sys.stderr)
        if error.exit_code == 1:
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

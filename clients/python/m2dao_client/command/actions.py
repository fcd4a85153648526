"""What each subcommand does: it gives the objects that it made or found, and says it in words."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from m2dao_client.client import Client
from m2dao_client.command.showing import Progress, details, table
from m2dao_client.files import Transfer
from m2dao_client.models import Fit, Render
from m2dao_client.models.base import Model
from m2dao_client.models.requests import FitOrder

MB = 2**20
_OF_IDENTITIES = ("versions", "fits", "usage")
_COLUMNS = {
    "identities": ("identity", "champion", "versions"),
    "versions": ("version", "aliases", "created_at", "num_bytes", "fit"),
    "recordings": ("id", "state", "name", "num_bytes", "created_at"),
    "fits": ("id", "status", "stage", "progress", "identity", "minutes", "created_at"),
    "renders": ("id", "status", "progress", "identity", "version", "audio_seconds", "created_at"),
    "keys": ("id", "label", "scopes", "created_at", "expires_at"),
    "tokens": ("id", "identity", "origin", "expires_at"),
    "usage": ("day", "identity", "num_renders", "rendered_s", "num_fits", "fitted_s", "stored_mb_days"),
}

KINDS = tuple(_COLUMNS)


class Told:
    """What a command has to say: objects for machines, text for people."""

    def __init__(self, objects: Model | list[Model], text: str):
        self.objects, self.text = objects, text


@contextmanager
def _progress() -> Iterator[Progress]:
    progress = Progress()
    try:
        yield progress
    finally:
        progress.close()


def upload(api: Client, asked: argparse.Namespace) -> Told:
    """Upload a video, and wait until it was looked into."""
    with _progress() as progress:

        def sent(transfer: Transfer) -> None:
            size = f"{transfer.num_bytes / MB:.0f} of {transfer.total_bytes / MB:.0f} MiB"
            progress.show("upload", transfer.num_bytes / transfer.total_bytes, size)

        recording = api.recordings.upload(asked.file, name=asked.name, on_progress=sent)
        if asked.wait:
            recording = api.recordings.wait(
                recording.id, on_progress=lambda found: progress.show(found.state, None), timeout_s=asked.timeout_s
            )
    return Told(recording, f"{recording.id} is {recording.state}")


def fit(api: Client, asked: argparse.Namespace) -> Told:
    """Queue a fit, and with --watch follow it to its end."""
    order: FitOrder = {"identity": asked.identity, "recording": asked.recording}
    wanted = {name: getattr(asked, name) for name in ("quality", "minutes", "size", "consent", "priority")}
    order.update(cast(FitOrder, {name: value for name, value in wanted.items() if value is not None}))
    order["promote"] = asked.promote
    found = api.fits.create(once=asked.once, **order)
    return _followed(api, found, asked) if asked.watch else Told(found, f"{found.id} is {found.status}")


def watch(api: Client, asked: argparse.Namespace) -> Told:
    """Follow a fit to its end."""
    return _followed(api, api.fits.get(asked.fit), asked)


def _followed(api: Client, found: Fit, asked: argparse.Namespace) -> Told:
    with _progress() as progress:
        done = api.fits.wait(
            found.id,
            on_progress=lambda state: progress.show(state.stage, state.progress, state.detail),
            timeout_s=asked.timeout_s,
        )
    assert done.result is not None
    figures = ", ".join(f"{name} {value:.3g}" for name, value in done.result.metrics.items())
    promoted = {True: ", now the champion", False: f", not promoted: {done.result.detail}", None: ""}
    return Told(
        done, f"{done.identity}@{done.result.version} is made{promoted[done.result.promoted]}\n{figures}".strip()
    )


def promote(api: Client, asked: argparse.Namespace) -> Told:
    """Make a version the champion."""
    champion = api.identities.promote(asked.identity, asked.version, force=asked.force)
    return Told(champion, f"{asked.identity}@{champion.version} is the champion; before: {champion.previous or 'none'}")


def roll_back(api: Client, asked: argparse.Namespace) -> Told:
    """Make the previous champion the champion again."""
    champion = api.identities.roll_back(asked.identity, once=asked.once)
    return Told(champion, f"{asked.identity}@{champion.version} is the champion again")


def say(api: Client, asked: argparse.Namespace) -> Told:
    """Have an identity speak a sound, and save the video."""
    out = Path(asked.out)
    with _progress() as progress:
        begun = api.renders.create(asked.identity, asked.audio, background=asked.background, once=asked.once)
        done = api.renders.wait(
            begun.id,
            on_progress=lambda state: progress.show(state.stage, state.progress),
            timeout_s=asked.timeout_s,
        )
        api.renders.download(
            done.id, out, on_progress=lambda part: progress.show("download", part.num_bytes / part.total_bytes)
        )
    return Told(done, f"{out}: {done.identity} (version {done.version}) speaks {done.audio_seconds:.1f} s")


def show_list(api: Client, asked: argparse.Namespace) -> Told:
    """List things of one kind."""
    if asked.kind == "versions" and not asked.identity:
        raise ValueError("list versions needs --identity")
    if asked.identity and asked.kind not in _OF_IDENTITIES:
        raise ValueError(f"--identity goes with {', '.join(_OF_IDENTITIES)}")
    if asked.kind == "versions":
        found: list[Model] = list(api.identities.versions(asked.identity))
    elif asked.kind == "fits":
        found = list(api.fits.list(identity=asked.identity))
    elif asked.kind == "usage":
        found = list(api.usage.list(identity=asked.identity))
    else:
        found = list(getattr(api, asked.kind).list())
    return Told(found, table(found, _COLUMNS[asked.kind]) if found else f"no {asked.kind}")


def show(api: Client, asked: argparse.Namespace) -> Told:
    """Show one thing: an identity, a version `anna@7`, a recording, a fit or a render."""
    name, _, version = asked.name.partition("@")
    found: Model
    if name.startswith("rec-"):
        found = api.recordings.get(name)
    elif name.startswith("f-"):
        found = api.fits.get(name)
    elif name.startswith("r-"):
        found = api.renders.get(name)
    elif version:
        found = api.identities.version(name, int(version))
    else:
        found = api.identities.get(name)
    return Told(found, details(found))


def cancel(api: Client, asked: argparse.Namespace) -> Told:
    """Cancel a queued or running fit or render."""
    ended: Fit | Render
    ended = api.fits.cancel(asked.name) if asked.name.startswith("f-") else api.renders.cancel(asked.name)
    return Told(ended, f"{ended.id} is {ended.status}")


def download(api: Client, asked: argparse.Namespace) -> Told:
    """Save the video of a finished render."""
    out = Path(asked.out or f"{asked.render}.mp4")
    with _progress() as progress:
        api.renders.download(
            asked.render, out, on_progress=lambda part: progress.show("download", part.num_bytes / part.total_bytes)
        )
    return Told(api.renders.get(asked.render), str(out))

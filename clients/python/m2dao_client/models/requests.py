"""What requests say: keyword arguments of the operations.

Written from the API's own description by `make docs`: do not edit.
"""

from __future__ import annotations

from typing import Any, Literal, Required, TypedDict


class PromotionRequest(TypedDict, total=False):
    """Which version is to become the champion."""

    version: Required[int]
    """A complete version."""
    force: bool
    """Promote it even if the gate refuses; kept as forced."""


class ChallengeRequest(TypedDict, total=False):
    """Which version is to become the challenger."""

    version: Required[int]
    """A complete version, not the champion."""
    share: int
    """Percent of the renders of `anna` that go to it."""
    force: bool
    """Even if the gate refuses; kept as forced."""


class RecordingRequest(TypedDict, total=False):
    """A file that is to be uploaded."""

    name: Required[str]
    """The file's name, for people."""
    num_bytes: Required[int]
    """Its size."""
    sha256: Required[str]
    """The hash of its bytes."""


class FitOrder(TypedDict, total=False):
    """An identity that is to be fitted from a recording."""

    quality: Literal["quick", "good", "best"]
    """How long to fit: 2, 10 or 30 minutes, unless `minutes` says otherwise."""
    minutes: float | None
    """How long to fit, in minutes."""
    size: Literal[64, 128, 256, 512]
    """Side of the picture, in pixels."""
    recipe: str
    """The training recipe."""
    seed: int
    """Of everything random."""
    identity: Required[str]
    """The person's name; a new version of it is made."""
    recording: str | None
    """The id of a recording that is ready."""
    recordings: list[str] | None
    """The same as a list. A fit is from one recording: more are refused, as their cameras differ."""
    consent: str | None
    """Who said, and where, that the person consents; kept with the version."""
    promote: bool
    """Promote the version if it passes the gate."""
    priority: Literal["low", "normal", "high"]
    """Which of your fits start first. What has begun is never stopped."""


class BatchRequest(TypedDict, total=False):
    """One wish for many identities."""

    kind: Required[Literal["fit", "migrate", "judge"]]
    """`fit`: from recordings. `migrate`: fit versions again from their recordings, with their settings. `judge`:
    ask the gate."""
    items: Required[list[dict[str, Any]]]
    fit: dict[str, Any] | None
    """Of fits; null: the usual, or those of each migrated version."""
    promote: bool
    """Promote each version that passes the gate."""
    priority: Literal["low", "normal", "high"]
    wave: int
    """How many are begun together; the next wave waits for them."""
    max_failed: int
    """The batch pauses when more have failed."""


class NewKey(TypedDict, total=False):
    """An API key to be made."""

    label: str
    """A note for the list of keys."""
    scopes: list[Literal["admin", "operator", "client"]]
    """What it may do: `client` renders, `operator` makes identities, `admin` manages who may ask."""
    expires_in_s: int | None
    """Seconds until it ends by itself; null: never."""


class KeyRotation(TypedDict, total=False):
    """How a key is replaced."""

    overlap_s: int
    """Seconds for which both keys let in; 0 ends the old one now."""
    expires_in_s: int | None
    """Seconds until the new one ends by itself; null: it lives as long as the old one was to."""


class NewToken(TypedDict, total=False):
    """A client token to be made."""

    identity: Required[str]
    """The only one whose renders it makes."""
    origin: Required[str]
    """Of the pages that may use it."""
    expires_in_s: int
    """Seconds until it ends."""


class NewWebhook(TypedDict, total=False):
    """A webhook to be made."""

    url: Required[str]
    """Where to: `https://`, a host with public addresses, neither user nor fragment."""
    events: list[
        Literal[
            "render.done",
            "render.failed",
            "render.cancelled",
            "fit.stage",
            "fit.done",
            "fit.failed",
            "fit.cancelled",
            "champion.moved",
            "recording.ready",
            "recording.refused",
        ]
    ]
    """Which events it is told of; all, also those to come, when empty."""
    note: str
    """A note for the list."""


class SecretRotation(TypedDict, total=False):
    """How a secret is replaced."""

    overlap_s: int
    """Seconds for which the old secret signs beside the new one."""

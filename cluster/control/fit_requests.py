"""What is stored with a fit job, and where its files lie in the object store."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster.control.promotion.checks import GateThresholds
from cluster.control.recordings import file_suffix, recording_key
from cluster.ids import IdentityName, TenantId
from cluster.object_keys import object_key
from cluster.state.records import JobRecord
from m2dao.errors import ConfigError, InputError
from m2dao.formats import CAPTURE_LABEL

MAX_CONSENT_CHARACTERS = 500
PROTOCOLS = ("paper", "portrait")  # "cross" judges another voice, which a fit has not
SIZES = (64, 128, 256, 512)
ENGINE_WORK = "train_jobs.work:fit_recording"
ATTEMPTS_PER_FIT = 3
PRIORITIES = {"low": -1, "normal": 0, "high": 1}
# Shares of the whole way, from timing fits of a few minutes; they only steer a progress bar.
STAGES = {
    "fetch": (0.0, 0.02),
    "prepare": (0.02, 0.2),
    "fit": (0.2, 0.86),
    "evaluate": (0.86, 0.97),
    "register": (0.97, 1.0),
}


@dataclass(frozen=True, kw_only=True)
class FitRequest:
    """One identity to fit from one recording.

    Args:
        batch: the batch that the fit belongs to.
        identity: its name.
        recording_sha256: of the recording's bytes.
        recording_name: the file's name, for people; may hold anything.
        options: of the fit.
        consent: who said, and where, that the person consents to be fitted.
        promote: whether to promote the version if it passes the gate.
        gate: thresholds that differ from the defaults.
        steps_of: id of an earlier fit whose step checkpoints this one goes on from.
        priority: which fits of the tenant are started first; see ``PRIORITIES``.
    """

    batch: str
    identity: IdentityName
    recording_sha256: str
    recording_name: str
    options: FitOptions
    consent: str | None = None
    promote: bool = False
    gate: Mapping[str, float] = field(default_factory=dict)
    steps_of: str | None = None
    priority: int = 0

    def __post_init__(self) -> None:
        if self.priority not in PRIORITIES.values():
            raise InputError("priority", f"one of {sorted(PRIORITIES.values())}", repr(self.priority))
        if self.consent is not None and not (
            0 < len(self.consent.strip()) <= MAX_CONSENT_CHARACTERS and self.consent.isprintable()
        ):
            raise InputError("consent", f"1 to {MAX_CONSENT_CHARACTERS} printable characters", repr(self.consent[:60]))
        GateThresholds(**self.gate)  # checks them

    @property
    def recording_suffix(self) -> str:
        """The file type, which some decoders look at; empty when it is unusual."""
        return file_suffix(self.recording_name)

    def recording_key(self, tenant: TenantId) -> str:
        """The recording, stored once however often it is fitted."""
        return recording_key(tenant, self.recording_sha256)

    def capture_key(self, tenant: TenantId) -> str:
        """The capture made of the recording, stored once: training repeats from it."""
        name = f"{CAPTURE_LABEL}-{self.options.capture_size}-{self.recording_sha256}.tar"
        return object_key(tenant, "captures", name)

    def picture_key(self, job: JobRecord, name: str) -> str:
        """A picture of the running fit, among the person's files; it leaves after a day."""
        return object_key(job.tenant, "identities", str(self.identity), str(job.id), name)

    def steps_prefix(self, job: JobRecord) -> str:
        """Where the fit's step checkpoints are; each claim writes under its own fence."""
        return object_key(job.tenant, "fits", self.steps_of or str(job.id)) + "/"

    def lineage(self) -> dict[str, str]:
        """What of it is told with the version: what it was made of, how, and by whose leave."""
        options = self.options
        settings = {
            "minutes": options.minutes,
            "steps": options.steps,
            "seed": options.seed,
            "capture_size": options.capture_size,
        }
        return {
            "recording_sha256": self.recording_sha256,
            "recording_name": self.recording_name,
            "recipe": options.recipe,
            "size": str(options.size),
            "protocol": options.protocols[0],
            **{name: str(value) for name, value in settings.items() if value is not None},
            **({"consent": self.consent} if self.consent else {}),
        }

    def as_dict(self) -> dict[str, Any]:
        """As JSON; ``FitRequest.from_dict`` reads it."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        if not self.priority:
            del values["priority"]  # workers of the release before refuse what they do not know
        return {**values, "identity": str(self.identity), "options": self.options.as_dict(), "gate": dict(self.gate)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FitRequest:
        """Read what ``as_dict`` wrote.

        Raises:
            InputError: something is missing, unknown or out of range.
        """
        unknown = set(values) - {f.name for f in dataclasses.fields(cls)}
        missing = {"batch", "identity", "recording_sha256", "recording_name", "options"} - set(values)
        if unknown or missing:
            raise InputError("fit request", "the fields of this version", ", ".join(sorted(unknown | missing)))
        options = FitOptions.from_dict(values["options"])
        return cls(**{**values, "identity": IdentityName.parse(values["identity"]), "options": options})

    @classmethod
    def of(cls, job: JobRecord) -> FitRequest:
        """The request of a fit job."""
        return cls.from_dict(job.request)


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """What to fit and how long; the same for every identity of one request.

    Args:
        recipe: name of a training recipe of the engine.
        size: side of the fitted image in pixels.
        capture_size: side of the prepared crop in pixels, at least ``size``.
        minutes: time budget of one fit; None leaves the length to the recipe or to ``steps``.
        steps: number of optimisation steps instead of a time budget.
        seed: of everything random in the fit.
        protocols: evaluation protocols; the gate judges the first one.
        evaluate_frames: test frames judged per protocol; None judges all of them.
    """

    recipe: str = "m2dao"
    size: int = 256
    capture_size: int = 512
    minutes: float | None = 10.0
    steps: int | None = None
    seed: int = 0
    protocols: tuple[str, ...] = ("paper", "portrait")
    evaluate_frames: int | None = None

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise ConfigError("size", " or ".join(map(str, SIZES)), repr(self.size))
        if not self.size <= self.capture_size <= 1024:
            raise ConfigError("capture size", f"{self.size} to 1024", repr(self.capture_size))
        if self.minutes is not None and not (math.isfinite(self.minutes) and 0 < self.minutes <= 24 * 60):
            raise ConfigError("minutes", "more than 0, at most 1440", repr(self.minutes))
        if self.steps is not None and self.steps < 1:
            raise ConfigError("steps", "1 or more", repr(self.steps))
        if self.evaluate_frames is not None and self.evaluate_frames < 1:
            raise ConfigError("evaluate frames", "1 or more", repr(self.evaluate_frames))
        unknown = [name for name in self.protocols if name not in PROTOCOLS]
        if unknown or not self.protocols:
            raise ConfigError("protocols", "one or more of " + ", ".join(PROTOCOLS), repr(list(self.protocols)))

    def as_dict(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "protocols": list(self.protocols)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FitOptions:
        """The options stored with a job.

        Raises:
            ConfigError: a key is unknown (the job was made by another version) or a value out of range.
        """
        unknown = set(values) - {field.name for field in dataclasses.fields(cls)}
        if unknown:
            raise ConfigError("fit options", "known names", ", ".join(sorted(unknown)), "submit the fit again")
        return cls(**{**values, "protocols": tuple(values.get("protocols", cls.protocols))})

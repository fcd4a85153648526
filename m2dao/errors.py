"""The one exception tree of the project.

    M2daoError                      exit code 1: our fault or the machine's
    |-- InputError                  exit code 2: what the caller gave cannot be used; the message says what to do
    |   |-- MediaError              a video or sound file that cannot be decoded or written
    |   |-- CaptureRejected         a recording that decodes but cannot become a capture (no face, cuts, silence, ...)
    |   |-- CaptureCorrupt          a capture folder that is incomplete, of another version, or altered
    |   |-- InvalidId               a tenant, identity, model ref or job id that is not well formed
    |   `-- PromotionRefused        a version that does not pass the quality gate
    |-- SystemFault                 what this installation lacks or has broken, whatever the request was
    |   |-- ConfigError             exit code 2: a setting, recipe or flag out of its range
    |   |-- RenderBackendUnavailable    exit code 2
    |   |-- CheckpointCorrupt       exit code 2: an identity checkpoint that is incomplete or altered
    |   |-- CheckpointUnsupported   exit code 2: an identity checkpoint of another format or version
    |   |-- MissingExtra            a package of an extra that is not installed
    |   `-- AssetError              model files
    |       |-- AssetUnavailable        cannot be fetched
    |       `-- AssetCorrupt            does not match the lock table
    |-- ContainedProcessDied        a contained process that ended without an answer
    |   `-- ContainedProcessKilled      something outside ended it
    |-- FitError                    a fit that cannot go on
    |   `-- FitDiverged             the loss is no longer a number
    `-- ServiceError                raised by the service packages around the engine (see cluster)
        |-- ServiceUnavailable      a service does not answer; trying again later may help
        |   |-- StorageUnavailable      the object store (S3)
        |   |-- RegistryUnavailable     the model registry (MLflow)
        |   |-- StateUnavailable        the state store (Redis)
        |   |-- ClusterUnavailable      the compute cluster (Ray)
        |   |-- AccessRefused           one of them refuses our credentials
        |   |-- UnderMaintenance        nothing new is accepted for now
        |   `-- ContainmentUnavailable  this machine cannot contain processes that read foreign files
        |-- StackError              the embedded stack cannot be started or stopped
        |-- ObjectCorrupt           stored bytes do not match their hash
        |-- NotFound                exit code 2: the thing named is not there, or is another tenant's
        |   |-- UnknownTenant
        |   |-- UnknownIdentity
        |   |-- UnknownObject
        |   `-- UnknownJob
        `-- Conflict                exit code 2: the thing exists or has changed since it was read
            |-- AlreadyExists
            |-- IdempotencyConflict     the same key was used for a different request
            |-- PromotionConflict       the champion is not the version that was expected
            |-- QuotaExceeded           a tenant has as much open as it may have
            `-- LeaseLost               a job was taken over by another worker; its result is not accepted

What the caller got wrong is an ``InputError``, a ``NotFound`` or a ``Conflict``: the API answers 4xx, and trying again
ends the same way. What we lack is a ``SystemFault`` or a ``ServiceUnavailable``: the API answers 5xx, and a job that
meets it is tried elsewhere or later.

Every error survives pickling, because errors cross process boundaries.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from m2dao.secrets import scrub

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)  # of an ``OSError`` that says nothing about what was to be written


class M2daoError(Exception):
    """An error that says which thing, what was expected, what came and what to do.

    Args:
        subject: the thing at fault, e.g. a path or ``"audio track of clip.mp4"``.
        expected: what would have been right.
        got: what was found instead.
        remedy: what the reader can do about it.
    """

    exit_code = 1
    code = "internal-error"  # stable, machine-readable; the API uses it as the problem type

    def __init__(self, subject: str, expected: str = "", got: str = "", remedy: str = ""):
        # What a library said may hold a password or a signed URL, and an error is stored, printed and sent.
        subject, expected, got, remedy = (scrub(str(part)) for part in (subject, expected, got, remedy))
        super().__init__(subject, expected, got, remedy)
        self.subject = subject
        self.expected = expected
        self.got = got
        self.remedy = remedy

    def __str__(self) -> str:
        details = []
        if self.expected:
            details.append(f"expected {self.expected}")
        if self.got:
            details.append(f"got {self.got}")
        if self.remedy:
            details.append(self.remedy)
        return f"{self.subject}: {'; '.join(details)}" if details else self.subject


class InputError(M2daoError):
    """What was given cannot be used."""

    exit_code = 2
    code = "invalid-input"


class MediaError(InputError):
    """A media file cannot be decoded or written."""

    code = "unreadable-media"


class CaptureRejected(InputError):
    """A recording decodes but cannot become a capture."""

    code = "recording-rejected"


class RecordingTooLarge(InputError):
    """A recording is larger than the site allows."""

    code = "recording-too-large"


class CaptureCorrupt(InputError):
    """A capture folder is incomplete, altered or of another version."""

    code = "capture-corrupt"


class InvalidId(InputError):
    """A tenant, identity, model ref or job id is not well formed."""

    code = "invalid-id"


class PromotionRefused(InputError):
    """A version does not pass the quality gate, so it does not become the champion."""

    code = "promotion-refused"


class SystemFault(M2daoError):
    """This installation lacks something or has it broken; the request is not at fault."""

    code = "system-fault"


class ConfigError(SystemFault):
    """A setting, recipe or flag is out of its range."""

    exit_code = 2
    code = "invalid-config"


class RenderBackendUnavailable(SystemFault):
    """The render backend asked for does not run on this machine."""

    exit_code = 2
    code = "render-backend-unavailable"


class CheckpointCorrupt(SystemFault):
    """An identity checkpoint is incomplete or altered."""

    exit_code = 2
    code = "checkpoint-corrupt"


class CheckpointUnsupported(SystemFault):
    """An identity checkpoint has another format or version."""

    exit_code = 2
    code = "checkpoint-unsupported"


class MissingExtra(SystemFault):
    """A package is not installed because its extra is not."""

    code = "missing-extra"


class AssetError(SystemFault):
    """A model file cannot be had."""

    code = "model-file-error"


class AssetUnavailable(AssetError):
    """A model file cannot be fetched."""

    code = "model-file-unavailable"


class AssetCorrupt(AssetError):
    """A model file does not match the lock table."""

    code = "model-file-corrupt"


class ContainedProcessDied(M2daoError):
    """A contained process ended without an answer, or had to be ended."""

    code = "contained-process-died"


class ContainedProcessKilled(ContainedProcessDied):
    """A contained process was killed from outside, within its limits."""

    code = "contained-process-killed"


class FitError(M2daoError):
    """A fit cannot go on."""

    code = "fit-failed"


class FitDiverged(FitError):
    """The loss is no longer a number."""

    code = "fit-diverged"


class ServiceError(M2daoError):
    """Something around the engine failed: storage, registry, state or cluster."""

    code = "service-error"


class ServiceUnavailable(ServiceError):
    """A service does not answer; trying again later may help."""

    code = "service-unavailable"


class StorageUnavailable(ServiceUnavailable):
    """The object store does not answer."""

    code = "storage-unavailable"


class RegistryUnavailable(ServiceUnavailable):
    """The model registry does not answer."""

    code = "registry-unavailable"


class StateUnavailable(ServiceUnavailable):
    """The state store does not answer."""

    code = "state-unavailable"


class ClusterUnavailable(ServiceUnavailable):
    """The compute cluster does not answer."""

    code = "cluster-unavailable"


class AccessRefused(ServiceUnavailable):
    """A service refuses our credentials."""

    code = "access-refused"


class UnderMaintenance(ServiceUnavailable):
    """The platform is under maintenance and accepts nothing new."""

    code = "maintenance"


class ContainmentUnavailable(ServiceUnavailable):
    """This machine cannot contain processes that read foreign files."""

    code = "containment-unavailable"


class StackError(ServiceError):
    """The embedded stack cannot be started or stopped."""

    code = "stack-error"


class ObjectCorrupt(ServiceError):
    """Stored bytes do not match their hash."""

    code = "object-corrupt"


class NotFound(ServiceError):
    """The thing named is not there, or belongs to another tenant (the two look the same)."""

    exit_code = 2
    code = "not-found"


class UnknownTenant(NotFound):
    """No such tenant."""

    code = "unknown-tenant"


class UnknownIdentity(NotFound):
    """No such identity, version or alias."""

    code = "unknown-identity"


class UnknownObject(NotFound):
    """No such object in the store."""

    code = "unknown-object"


class UnknownJob(NotFound):
    """No such job."""

    code = "unknown-job"


class UnknownKey(NotFound):
    """The tenant has no such API key."""

    code = "unknown-key"


class UnknownToken(NotFound):
    """The tenant has no such client token, or it has ended."""

    code = "unknown-token"


class UnknownRecording(NotFound):
    """There is no such recording."""

    code = "unknown-recording"


class UnknownWebhook(NotFound):
    """There is no such webhook, or it was never told of this."""

    code = "unknown-webhook"


class Conflict(ServiceError):
    """The thing exists already or has changed since it was read."""

    exit_code = 2
    code = "conflict"


class AlreadyExists(Conflict):
    """A thing of that name exists."""

    code = "already-exists"


class IdempotencyConflict(Conflict):
    """The same idempotency key was used for a different request."""

    code = "idempotency-conflict"


class PromotionConflict(Conflict):
    """The champion is not the version that was expected."""

    code = "promotion-conflict"


class QuotaExceeded(Conflict):
    """A tenant has as much open as it may have."""

    code = "quota-exceeded"


class StorageFull(Conflict):
    """A tenant has no room for that many bytes."""

    code = "storage-full"


class LeaseLost(Conflict):
    """A job was taken over by another worker; this worker's word no longer counts."""

    code = "lease-lost"


@contextlib.contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """For imports of packages that only an extra of pyproject.toml installs.

    Raises:
        MissingExtra: such a package is not there; says how to get it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        remedy = f"pip install 'm2dao[{extra}]'"
        raise MissingExtra(f"package {error.name}", "to be installed", "no such package", remedy) from error

"""The one exception tree of the project.

    M2daoError                      exit code 1: our fault or the machine's
    |-- InputError                  exit code 2: what was given cannot be used; the message says what to do
    |   |-- MediaError              a video or sound file that cannot be decoded or written
    |   |-- CaptureRejected         a recording that decodes but cannot become a capture (no face, cuts, silence, ...)
    |   |-- CaptureCorrupt          a capture folder that is incomplete, of another version, or altered
    |   |-- CheckpointCorrupt       an identity checkpoint that is incomplete or altered
    |   |-- CheckpointUnsupported   an identity checkpoint of another format or version
    |   |-- ConfigError             a setting, recipe or flag out of its range
    |   `-- RenderBackendUnavailable
    |-- AssetError                  model files
    |   |-- AssetUnavailable        cannot be fetched
    |   `-- AssetCorrupt            does not match the lock table
    |-- FitError                    a fit that cannot go on
    |   `-- FitDiverged             the loss is no longer a number
    `-- ServiceError                raised by the service packages around the engine (see cluster)

Every error survives pickling, because errors cross process boundaries.
"""

from __future__ import annotations


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


class CaptureCorrupt(InputError):
    """A capture folder is incomplete, altered or of another version."""

    code = "capture-corrupt"


class CheckpointCorrupt(InputError):
    """An identity checkpoint is incomplete or altered."""

    code = "checkpoint-corrupt"


class CheckpointUnsupported(InputError):
    """An identity checkpoint has another format or version."""

    code = "checkpoint-unsupported"


class ConfigError(InputError):
    """A setting, recipe or flag is out of its range."""

    code = "invalid-config"


class RenderBackendUnavailable(InputError):
    """The render backend asked for does not run on this machine."""

    code = "render-backend-unavailable"


class AssetError(M2daoError):
    """A model file cannot be had."""

    code = "model-file-error"


class AssetUnavailable(AssetError):
    """A model file cannot be fetched."""

    code = "model-file-unavailable"


class AssetCorrupt(AssetError):
    """A model file does not match the lock table."""

    code = "model-file-corrupt"


class FitError(M2daoError):
    """A fit cannot go on."""

    code = "fit-failed"


class FitDiverged(FitError):
    """The loss is no longer a number."""

    code = "fit-diverged"


class ServiceError(M2daoError):
    """Something around the engine failed: storage, registry, state or cluster."""

    code = "service-error"

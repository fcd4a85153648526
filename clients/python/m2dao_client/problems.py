"""Every problem of the API as an exception class.

Written from the API's own description by `make docs`: do not edit.
"""

from __future__ import annotations

from m2dao_client.errors import ApiError


class NotFound(ApiError):
    """404: There is no such thing."""

    code = "not-found"
    status = 404


class Conflict(ApiError):
    """409: It has changed, or is not in a state that allows this."""

    code = "conflict"
    status = 409


class TooManyRequests(ApiError):
    """429: Too many requests."""

    code = "too-many-requests"
    status = 429


class MissingCredentials(ApiError):
    """401: An API key is needed."""

    code = "missing-credentials"
    status = 401


class InvalidCredentials(ApiError):
    """401: The API key is not valid."""

    code = "invalid-credentials"
    status = 401


class WrongOrigin(ApiError):
    """403: The client token belongs to pages of another origin."""

    code = "wrong-origin"
    status = 403


class MissingScope(ApiError):
    """403: The API key or client token may not do this."""

    code = "missing-scope"
    status = 403


class UnknownRender(NotFound):
    """404: There is no such render."""

    code = "unknown-render"
    status = 404


class UnknownIdentity(NotFound):
    """404: There is no such identity."""

    code = "unknown-identity"
    status = 404


class UnknownKey(NotFound):
    """404: There is no such API key."""

    code = "unknown-key"
    status = 404


class UnknownToken(NotFound):
    """404: There is no such client token."""

    code = "unknown-token"
    status = 404


class MethodNotAllowed(ApiError):
    """405: The method is not allowed here."""

    code = "method-not-allowed"
    status = 405


class AlreadyExists(Conflict):
    """409: There is one of that name."""

    code = "already-exists"
    status = 409


class PromotionConflict(ApiError):
    """412: The champion is not the version that was expected."""

    code = "promotion-conflict"
    status = 412


class PromotionRefused(Conflict):
    """409: The version may not become the champion."""

    code = "promotion-refused"
    status = 409


class PreconditionRequired(ApiError):
    """428: The request must say what it has seen."""

    code = "precondition-required"
    status = 428


class NoVideo(NotFound):
    """404: There is no video."""

    code = "no-video"
    status = 404


class RangeNotSatisfiable(ApiError):
    """416: The file has no such part."""

    code = "range-not-satisfiable"
    status = 416


class NotFailed(Conflict):
    """409: The render has not failed."""

    code = "not-failed"
    status = 409


class SoundGone(Conflict):
    """409: The sound of the render is not kept any more."""

    code = "sound-gone"
    status = 409


class RenderFinished(Conflict):
    """409: The render is finished."""

    code = "render-finished"
    status = 409


class UploadTooSlow(ApiError):
    """408: The upload came too slowly."""

    code = "upload-too-slow"
    status = 408


class UploadTooLarge(ApiError):
    """413: The upload is too large."""

    code = "upload-too-large"
    status = 413


class RecordingTooLarge(ApiError):
    """413: The recording is too large."""

    code = "recording-too-large"
    status = 413


class RecordingRejected(ApiError):
    """422: The recording cannot be fitted."""

    code = "recording-rejected"
    status = 422


class UploadDamaged(ApiError):
    """422: The bytes are not those that were announced."""

    code = "upload-damaged"
    status = 422


class UnknownFit(NotFound):
    """404: There is no such fit."""

    code = "unknown-fit"
    status = 404


class TooManyFits(TooManyRequests):
    """429: Too many fits at once."""

    code = "too-many-fits"
    status = 429


class UnknownWebhook(NotFound):
    """404: There is no such webhook or delivery."""

    code = "unknown-webhook"
    status = 404


class UnknownRecording(NotFound):
    """404: There is no such recording."""

    code = "unknown-recording"
    status = 404


class UnknownBatch(NotFound):
    """404: There is no such batch."""

    code = "unknown-batch"
    status = 404


class TooManyBatches(TooManyRequests):
    """429: Too many batches at once."""

    code = "too-many-batches"
    status = 429


class StorageFull(TooManyRequests):
    """429: There is no room for more recordings."""

    code = "storage-full"
    status = 429


class UnsupportedMediaType(ApiError):
    """415: The body is of another media type."""

    code = "unsupported-media-type"
    status = 415


class MalformedRequest(ApiError):
    """400: The request cannot be read."""

    code = "malformed-request"
    status = 400


class InvalidRequest(ApiError):
    """422: The request is not valid."""

    code = "invalid-request"
    status = 422


class InvalidInput(ApiError):
    """422: The input cannot be used."""

    code = "invalid-input"
    status = 422


class UnreadableMedia(ApiError):
    """422: The media cannot be used."""

    code = "unreadable-media"
    status = 422


class IdempotencyConflict(ApiError):
    """422: The idempotency key was used for another request."""

    code = "idempotency-conflict"
    status = 422


class QuotaExceeded(TooManyRequests):
    """429: Too many renders at once."""

    code = "quota-exceeded"
    status = 429


class TooManyUploads(TooManyRequests):
    """429: Too many uploads at once."""

    code = "too-many-uploads"
    status = 429


class InternalError(ApiError):
    """500: Something went wrong on our side."""

    code = "internal-error"
    status = 500


class Maintenance(ApiError):
    """503: Nothing new is accepted for now."""

    code = "maintenance"
    status = 503


class ServiceUnavailable(ApiError):
    """503: A service behind the API does not answer."""

    code = "service-unavailable"
    status = 503

"""The object store: bytes and files in one S3 bucket. The only module that imports boto3.

Every operation checks the shape of the key it is given (``cluster/object_keys.py``), so that no caller can write
outside a tenant's part. Whole folders are ``cluster/folders.py`` (many objects) and ``cluster/archives.py`` (one).
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cluster.object_keys import KEY_PART, check_key, check_prefix
from cluster.settings import Settings
from m2dao.errors import (
    AccessRefused,
    AlreadyExists,
    InputError,
    ObjectCorrupt,
    ServiceError,
    StorageUnavailable,
    UnknownObject,
)
from m2dao.files import whole_file

_CHUNK_BYTES = 1 << 20
_WHOLE_BYTES = 4 << 20  # files up to this size are sent in one piece
_REFUSED = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "403"}
_MISSING = {"NoSuchKey", "NoSuchUpload", "404", "NotFound"}


@dataclass(frozen=True, kw_only=True)
class ObjectInfo:
    """What the store says of one object."""

    key: str
    num_bytes: int
    etag: str
    modified: datetime  # with its time zone


@dataclass(frozen=True)
class ObjectPart:
    """Bytes of an object on their way; close ``body`` when done."""

    body: Any  # a StreamingBody of botocore
    num_bytes: int
    content_range: str | None  # set where it is not the whole object

    def chunks(self) -> Iterator[bytes]:
        with contextlib.closing(self.body) as body, _translated("object"):
            yield from body.iter_chunks(_CHUNK_BYTES)


class ObjectStore:
    """Objects in the bucket of ``settings``; threads may share it, processes may be sent it.

    Every method raises ``StorageUnavailable`` when the store does not answer, ``ServiceError`` when it refuses our
    credentials, and ``InvalidId`` for a malformed key.
    """

    def __init__(self, settings: Settings):
        self._settings = settings
        self._bucket = settings.s3.bucket
        self._lock = threading.Lock()
        self._client = self._make_client(settings.require("s3.endpoint"))
        public = settings.s3.public_endpoint
        self._public_client = self._make_client(public) if public else self._client

    def __reduce__(self) -> tuple[type[ObjectStore], tuple[Settings]]:
        return type(self), (self._settings,)

    def _make_client(self, endpoint: str) -> Any:
        import boto3  # slow to import; only processes that use the store pay
        from botocore.config import Config
        from botocore.handlers import add_expect_header

        config = Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            connect_timeout=5,
            read_timeout=60,
            retries={"mode": "standard", "total_max_attempts": 3},
            max_pool_connections=16,
        )
        # A session of our own: the shared default session is not safe to use from several threads.
        client = boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint,
            region_name=self._settings.s3.region,
            **self._credentials(),
            config=config,
        )
        # Asked for a go-ahead, a store that is cut off in the middle of it leaves botocore in a loop without end.
        client.meta.events.unregister("before-call.s3", add_expect_header)
        return client

    def _credentials(self) -> dict[str, str | None]:
        """Keys of ours; nothing where boto3 is to find them by itself, as roles of pods and machines need it."""
        settings = self._settings
        if settings.plain("s3.access_key") is None and settings.plain("s3.secret_key") is None:
            return {}
        return {
            "aws_access_key_id": settings.require("s3.access_key"),
            "aws_secret_access_key": settings.require("s3.secret_key"),
            "aws_session_token": settings.plain("s3.session_token"),
        }

    # -- the bucket -------------------------------------------------------------------------------------------

    def ensure_bucket(self) -> None:
        """Make the bucket when it is missing."""
        with _translated(f"bucket {self._bucket}"):
            try:
                self._client.head_bucket(Bucket=self._bucket)
                return
            except self._client.exceptions.ClientError as error:
                if _code(error) not in _MISSING | {"NoSuchBucket"}:
                    raise
            with contextlib.suppress(self._client.exceptions.BucketAlreadyOwnedByYou):  # another process was faster
                self._client.create_bucket(Bucket=self._bucket)

    def allow_origins(self, origins: tuple[str, ...]) -> None:
        """Let web pages of ``origins`` fetch objects and send parts by presigned URLs."""
        rule = {
            "AllowedOrigins": list(origins),
            "AllowedMethods": ["GET", "HEAD", "PUT"],
            "AllowedHeaders": ["*"],
            "ExposeHeaders": ["Content-Range", "Content-Length", "Accept-Ranges", "ETag"],
            "MaxAgeSeconds": 3600,
        }
        with _translated(f"CORS of bucket {self._bucket}"):
            self._client.put_bucket_cors(Bucket=self._bucket, CORSConfiguration={"CORSRules": [rule]})

    def check(self) -> None:
        """Return when the store answers and the bucket is there; raise otherwise."""
        with _translated(f"bucket {self._bucket}"):
            self._client.head_bucket(Bucket=self._bucket)

    # -- single objects ---------------------------------------------------------------------------------------

    def put_bytes(
        self, key: str, data: bytes, *, content_type: str = "application/octet-stream", if_absent: bool = False
    ) -> None:
        """Store ``data`` under ``key``, replacing what is there.

        Raises:
            AlreadyExists: ``if_absent`` was asked for and there is such an object.
        """
        condition = {"IfNoneMatch": "*"} if if_absent else {}
        with _translated(check_key(key)):
            self._client.put_object(Bucket=self._bucket, Key=key, Body=data, ContentType=content_type, **condition)

    def put_file(self, key: str, path: Path, *, content_type: str = "application/octet-stream") -> None:
        """Store a file under ``key``, in parts when it is large.

        Raises:
            InputError: the file cannot be read.
        """
        from boto3.exceptions import S3UploadFailedError

        check_key(key)
        if not Path(path).is_file():
            raise InputError(str(path), "a file to store", "nothing" if not Path(path).exists() else "something else")
        if Path(path).stat().st_size <= _WHOLE_BYTES:  # without the threads that boto3 starts for files in parts
            self.put_bytes(key, Path(path).read_bytes(), content_type=content_type)
            return
        with _translated(key):
            try:
                self._client.upload_file(str(path), self._bucket, key, ExtraArgs={"ContentType": content_type})
            except S3UploadFailedError as error:  # boto3 wraps the telling error here, and only here
                raise error.__context__ or error from error

    def get_bytes(self, key: str, *, max_bytes: int | None = None) -> bytes:
        """The object under ``key``.

        Raises:
            UnknownObject: there is none.
            ObjectCorrupt: it is longer than ``max_bytes``.
        """
        with _translated(check_key(key)):
            answer = self._client.get_object(Bucket=self._bucket, Key=key)
            with contextlib.closing(answer["Body"]) as body:
                if max_bytes is not None and answer["ContentLength"] > max_bytes:
                    raise ObjectCorrupt(key, f"at most {max_bytes} bytes", f"{answer['ContentLength']}")
                return bytes(body.read())

    def read_range(self, key: str, wanted: str | None = None) -> ObjectPart:
        """The object under ``key``, or a part of it, as it streams in.

        Args:
            key: the object.
            wanted: a ``Range`` header such as ``bytes=0-1``.

        Raises:
            UnknownObject: there is no such object.
            InputError: it has no such part.
        """
        more = {} if wanted is None else {"Range": wanted}
        with _translated(check_key(key)):
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=key, **more)
            except self._client.exceptions.ClientError as error:
                if _code(error) in ("InvalidRange", "416"):
                    raise InputError("Range", "a part of the file", str(wanted)) from error
                raise
        return ObjectPart(answer["Body"], answer["ContentLength"], answer.get("ContentRange"))

    def get_file(self, key: str, path: Path) -> str:
        """Fetch the object under ``key`` into ``path``, which appears only when it is whole.

        Returns:
            the sha256 of the bytes, in hex.

        Raises:
            UnknownObject: there is no such object.
        """
        digest = hashlib.sha256()
        with whole_file(Path(path)) as partial, open(partial, "wb") as file, _translated(check_key(key)):
            answer = self._client.get_object(Bucket=self._bucket, Key=key)
            with contextlib.closing(answer["Body"]) as body:
                for chunk in body.iter_chunks(_CHUNK_BYTES):
                    digest.update(chunk)
                    file.write(chunk)
        return digest.hexdigest()

    def exists(self, key: str) -> bool:
        """Whether there is an object under ``key``."""
        try:
            self.head(key)
        except UnknownObject:
            return False
        return True

    def head(self, key: str) -> ObjectInfo:
        """Size and etag of the object under ``key``.

        Raises:
            UnknownObject: there is none.
        """
        with _translated(check_key(key)):
            answer = self._client.head_object(Bucket=self._bucket, Key=key)
        return ObjectInfo(
            key=key, num_bytes=answer["ContentLength"], etag=answer["ETag"].strip('"'), modified=answer["LastModified"]
        )

    def delete(self, key: str) -> None:
        """Delete the object under ``key``; nothing happens when there is none."""
        with _translated(check_key(key)):
            self._client.delete_object(Bucket=self._bucket, Key=key)

    def delete_found(self, found: ObjectInfo) -> None:
        """Delete an object that ``list`` found; others than we may have named it in their own way."""
        with _translated(found.key):
            self._client.delete_object(Bucket=self._bucket, Key=found.key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """The objects whose keys begin with ``prefix`` (ends in a slash), in the order of their keys."""
        return self._list(check_prefix(prefix))

    def everything(self) -> Iterator[ObjectInfo]:
        """Every object of the bucket, also those of other programs such as MLflow."""
        return self._list("")

    def _list(self, prefix: str) -> Iterator[ObjectInfo]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        with _translated(prefix or f"bucket {self._bucket}"):
            for page in pages:
                for entry in page.get("Contents", ()):
                    etag, modified = entry["ETag"].strip('"'), entry["LastModified"]
                    yield ObjectInfo(key=entry["Key"], num_bytes=entry["Size"], etag=etag, modified=modified)

    def copy_out(self, key: str, path: Path) -> str:
        """Fetch any object, however it is named, into a new file; returns its media type.

        Raises:
            UnknownObject: there is no such object.
        """
        with _translated(key), open(path, "wb") as file:
            answer = self._client.get_object(Bucket=self._bucket, Key=key)
            with contextlib.closing(answer["Body"]) as body:
                for chunk in body.iter_chunks(_CHUNK_BYTES):
                    file.write(chunk)
        return str(answer.get("ContentType", ""))

    def copy_in(self, key: str, path: Path, content_type: str) -> None:
        """Store a file under any key, however it is named."""
        with _translated(key), open(path, "rb") as file:
            self._client.upload_fileobj(file, self._bucket, key, ExtraArgs={"ContentType": content_type})

    def delete_prefix(self, prefix: str) -> int:
        """Delete every object under ``prefix`` (ends in a slash); returns how many there were."""
        objects = list(self.list(prefix))
        for found in objects:  # one by one: deletion must be certain, and bulk deletion reports failures in its body
            self.delete_found(found)
        return len(objects)

    def abort_uploads(self, *, before: datetime) -> int:
        """Remove the parts of uploads that were begun before a time and never completed; returns how many."""
        pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket)
        with _translated(f"bucket {self._bucket}"):
            begun = [entry for page in pages for entry in page.get("Uploads", ())]
            old = [entry for entry in begun if entry["Initiated"] < before]
            for entry in old:
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=entry["Key"], UploadId=entry["UploadId"])
        return len(old)

    def copy(self, key: str, target: str) -> None:
        """Copy an object to another key inside the store, in parts when it is large.

        Raises:
            UnknownObject: there is no such object.
        """
        source = {"Bucket": self._bucket, "Key": check_key(key)}
        with _translated(key):
            self._client.copy(source, self._bucket, check_key(target))

    def ask(self, operation: str, key: str, **params: Any) -> Any:
        """Ask the store for an operation on one key (``cluster/uploads/parts.py``)."""
        with _translated(key):
            return getattr(self._client, operation)(Bucket=self._bucket, Key=key, **params)

    def presign(self, operation: str, key: str, expires_s: int, **params: Any) -> str:
        """A URL that lets anybody who has it do one operation on one key, until it expires."""
        params = {"Bucket": self._bucket, "Key": key, **params}
        with _translated(key):
            return str(self._public_client.generate_presigned_url(operation, Params=params, ExpiresIn=expires_s))

    def presign_get(self, key: str, *, expires_s: int = 3600, name: str | None = None, download: bool = False) -> str:
        """A URL from which anybody who has it can fetch the object, until it expires.

        Args:
            key: the object; it need not exist yet.
            expires_s: seconds from now, at most a week (the protocol's limit).
            name: the file name a browser saves it under.
            download: whether a browser saves it at once instead of showing it.
        """
        if not 1 <= expires_s <= 7 * 24 * 3600:
            raise InputError("expires_s", "1 second to 7 days", str(expires_s))
        check_key(key)
        params = {}
        if name is not None:
            if not KEY_PART.fullmatch(name):  # it goes into a header
                raise InputError("name", "letters, digits and ._=-", repr(name[:80]))
            params["ResponseContentDisposition"] = f'{"attachment" if download else "inline"}; filename="{name}"'
        return self.presign("get_object", key, expires_s, **params)


def _code(error: Any) -> str:
    """The error code of a botocore ``ClientError``."""
    return str(error.response.get("Error", {}).get("Code", ""))


@contextlib.contextmanager
def _translated(subject: str) -> Iterator[None]:
    """Turn errors of boto3 into ours."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        yield
    except ClientError as error:
        code = _code(error)
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in _MISSING:
            raise UnknownObject(subject, "an object", "none") from error
        if code == "NoSuchBucket":
            raise StorageUnavailable(
                subject, "the bucket to exist", "none", "run m2dao-cluster up, or make it"
            ) from error
        if code in {"PreconditionFailed", "412"}:
            raise AlreadyExists(subject, "no such object yet", "one") from error
        if code in _REFUSED:
            raise AccessRefused(
                subject, "access to the object store", code, "check M2DAO_S3_ACCESS_KEY and M2DAO_S3_SECRET_KEY"
            ) from error
        if status >= 500 or code in {"SlowDown", "RequestTimeout"}:
            raise StorageUnavailable(
                subject, "an answer of the object store", f"{code} ({status})", "try again later"
            ) from error
        raise ServiceError(subject, "the object store to accept the request", f"{code} ({status})") from error
    except NoCredentialsError as error:
        raise AccessRefused(
            subject,
            "keys for the object store",
            "none",
            "set M2DAO_S3_ACCESS_KEY and M2DAO_S3_SECRET_KEY, or give this process a role",
        ) from error
    except (BotoCoreError, Boto3Error) as error:
        raise StorageUnavailable(subject, "an answer of the object store", str(error), "try again later") from error

"""Names and versions of everything the project stores, each once.

Raise a number here, and say so in the changelog, when files written before can no longer be read (``version``) or when
the same input gives another result than before (the others).
"""

from __future__ import annotations

from typing import NamedTuple


class Format(NamedTuple):
    """What a stored folder says of itself in its manifest."""

    name: str
    version: int
    manifest: str  # file name

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"

    def tag_of(self, version: int) -> str:
        """What jobs and versions of identities say of it."""
        return f"{self.name} {version}"

    @property
    def header(self) -> dict[str, str | int]:
        """The first two entries of every manifest."""
        return {"format": self.name, "version": self.version}


CAPTURE = Format("m2dao.capture", 2, "capture.json")
IDENTITY = Format("m2dao.identity", 5, "identity.json")
IDENTITY_READ = (IDENTITY.version - 1, IDENTITY.version)  # versions that can be read
UNIVERSAL = Format("m2dao.universal", 3, "universal.json")
FILE_TABLE = Format("m2dao.files", 1, "files.json")  # of a folder in the object store
BACKUP = Format("m2dao.backup", 1, "backup.json")
ERASURES = Format("m2dao.erasures", 1, "erasures.json")  # the ledger of what no backup may bring back
STEP_CHECKPOINT_VERSION = "5"
RENDER_JOB_VERSION = 2  # of what is stored with a render that waits
RENDER_JOB_READ = (RENDER_JOB_VERSION - 1, RENDER_JOB_VERSION)

# What the same input gives. Captures and fits of another number are made again, not compared.
CAPTURE_GENERATION = 3  # captures of the same recording
ENGINE_VERSION = 17  # identities of the same recipe
EVALUATION_VERSION = 7  # figures of the same identity

CAPTURE_LABEL = f"v{CAPTURE.version}.{CAPTURE_GENERATION}"  # begins the names of captures in the object store

"""Settings of recordings that tenants upload."""

from __future__ import annotations

from cluster.groups.group import Group, number


class RecordingSettings(Group):
    """What a tenant may upload, and how long it is kept."""

    max_mb: int = number(4096, 1, 1_000_000, "Largest recording, in MB; 413 beyond it.")
    storage_mb: int = number(
        102_400, 1, 1_000_000_000, "Room for the recordings of one tenant, uploads included, in MB; 429 beyond it."
    )
    max_uploads: int = number(16, 1, 10_000, "Uploads of recordings that a tenant may have open; 429 beyond it.")
    part_mb: int = number(16, 6, 5000, "Size of the parts in which a recording is uploaded, in MB.")
    url_s: int = number(3600, 60, 604_800, "Life of the URLs to which parts are sent, in seconds.")
    upload_hours: float = number(24.0, 0.1, 720, "How long an upload may take; then what came of it is deleted.")
    keep_days: float = number(
        30.0, 0.01, 36_500, "How long a recording is kept, in days, unless its tenant has a time of its own."
    )
    check_s: float = number(120.0, 1, 3600, "Longest time of looking into a recording, in seconds.")

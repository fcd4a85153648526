"""The Lua scripts: Redis runs each as one step, and each can be run twice.

A script is one file. Those about jobs are in ``jobs/``, about tenants in ``accounts/``, about versions and champions in
``identities/``. ``-- include: NAME`` stands for the file of that name, at the place where it stands. In front of every
script comes ``key_of``, which makes the names of keys (``cluster/state/keys.py``).
"""

from __future__ import annotations

import re
from importlib.resources import files

from cluster.state import keys

_INCLUDE = re.compile(r"^-- include: ([\w/]+)\n", re.MULTILINE)


def _read(name: str) -> str:
    text = (files(__package__) / f"{name}.lua").read_text(encoding="utf-8")
    return _INCLUDE.sub(lambda found: _read(found[1]), text)


def _script(name: str) -> str:
    return keys.for_lua() + _read(name)


CREATE_JOB = _script("jobs/create_job")
CLAIM_KEY = _script("jobs/claim_key")
CLAIM_JOB = _script("jobs/claim_job")
BEGIN_JOB = _script("jobs/begin_job")
HEARTBEAT_JOB = _script("jobs/heartbeat_job")
NOTE_FIGURES = _script("jobs/note_figures")
END_JOB = _script("jobs/end_job")
REQUEUE_JOBS = _script("jobs/requeue_jobs")
BACKLOG_OF_JOBS = _script("jobs/backlog_of_jobs")
OPEN_JOBS = _script("jobs/open_jobs")
LONGEST_WAIT = _script("jobs/longest_wait")
CANCEL_JOB = _script("jobs/cancel_job")
CREATE_TENANT = _script("accounts/create_tenant")
CREATE_API_KEY = _script("accounts/create_api_key")
ROTATE_API_KEY = _script("accounts/rotate_api_key")
REHASH_API_KEY = _script("accounts/rehash_api_key")
SWITCH_PEPPER = _script("accounts/switch_pepper")
REVOKE_API_KEY = _script("accounts/revoke_api_key")
CREATE_TOKEN = _script("accounts/create_token")
REVOKE_TOKEN = _script("accounts/revoke_token")
DELETE_TENANT = _script("accounts/delete_tenant")
OPEN_VERSION = _script("identities/open_version")
COMMIT_VERSION = _script("identities/commit_version")
DESCRIBE_VERSION = _script("identities/describe_version")
NOTE_VERDICT = _script("identities/note_verdict")
RETIRE_VERSION = _script("identities/retire_version")
FORGET_VERSION = _script("identities/forget_version")
MOVE_CHAMPION = _script("identities/move_champion")
IMPORT_IDENTITY = _script("identities/import_identity")
LEDGER_TOLD = _script("identities/ledger_told")
TAKE_SEAT = _script("seats/take_seat")
RENEW_SEAT = _script("seats/renew_seat")
ASK_PROBE = _script("probes/ask_probe")
CLAIM_PROBE = _script("probes/claim_probe")
ANSWER_PROBE = _script("probes/answer_probe")
CREATE_RECORDING = _script("recordings/create_recording")
SET_UPLOAD = _script("recordings/set_upload")
MOVE_RECORDING = _script("recordings/move_recording")
FORGET_RECORDING = _script("recordings/forget_recording")
PUT_OFF_RECORDING = _script("recordings/put_off_recording")
USE_STORAGE = _script("usage/use_storage")
FORGET_USAGE = _script("usage/forget_usage")
CREATE_WEBHOOK = _script("webhooks/create_webhook")
ROTATE_WEBHOOK = _script("webhooks/rotate_webhook")
DELETE_WEBHOOK = _script("webhooks/delete_webhook")
CLAIM_DELIVERY = _script("webhooks/claim_delivery")
SETTLE_DELIVERY = _script("webhooks/settle_delivery")
REPLAY_DELIVERY = _script("webhooks/replay_delivery")
CREATE_BATCH = _script("batches/create_batch")
UPDATE_BATCH = _script("batches/update_batch")
PASS_DOOR = _script("door/pass_door")
KEEP_PLACE = _script("door/keep_place")
NOTE_ERASURE = _script("upkeep/note_erasure")
READMIT_JOB = _script("upkeep/readmit_job")

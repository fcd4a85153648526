"""Rows of tables that the code owns: settings, errors, formats, keys, the schedule of a fit."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Rows = Iterable[Mapping[str, Any]]


def _settings() -> Rows:
    from cluster.settings import all_settings

    for env, row in all_settings().items():
        if not row.name.startswith("serve."):
            yield {"name": env, "default": f"`{row.default}`" if row.default else "unset", "meaning": row.help}


def _serve_settings() -> Rows:
    from cluster.settings import all_settings

    for env, row in all_settings().items():
        if row.name.startswith("serve."):
            yield {"name": env, "default": row.default or "unset", "meaning": row.help}


def _errors() -> Rows:
    """The error tree, parents first; depth shows as indentation."""
    from m2dao.errors import M2daoError
    from serve_apps.problems import problem_of

    def branch(kind: type[M2daoError], depth: int) -> Rows:
        yield {
            "name": "&nbsp;&nbsp;" * depth + f"`{kind.__name__}`",
            "code": kind.code,
            "exit_code": kind.exit_code,
            "status": problem_of(kind("it"))["status"],
            "meaning": (kind.__doc__ or "").splitlines()[0],
        }
        for child in kind.__subclasses__():
            if child.__module__ == M2daoError.__module__:
                yield from branch(child, depth + 1)

    return branch(M2daoError, 0)


def _metrics() -> Rows:
    from cluster.telemetry.metrics import METRICS

    for each in METRICS:
        labels = ", ".join(f"`{label}`" for label in each.labels)
        yield {"name": each.shown_as, "kind": each.kind, "labels": labels, "meaning": each.help}


def _problems() -> Rows:
    from serve_apps.problems import PROBLEMS

    for code, kind in PROBLEMS.items():
        yield {"code": code, "status": kind.status, "title": kind.title}


def _formats() -> Rows:
    from m2dao import formats

    return [each._asdict() for each in vars(formats).values() if isinstance(each, formats.Format)]


def _format_numbers() -> Rows:
    from m2dao import formats

    yield {"name": "step checkpoint", "number": formats.STEP_CHECKPOINT_VERSION, "of": "the state of an unfinished fit"}
    yield {"name": "capture generation", "number": formats.CAPTURE_GENERATION, "of": "captures of the same recording"}
    yield {"name": "engine", "number": formats.ENGINE_VERSION, "of": "identities of the same recipe"}
    yield {"name": "evaluation", "number": formats.EVALUATION_VERSION, "of": "figures of the same identity"}


def _object_keys() -> Rows:
    """Keys as the code makes them, for the tenant ``acme``."""
    from cluster.control.fit_requests import FitOptions, FitRequest
    from cluster.ids import IdentityName, TenantId
    from serve_apps.tickets import render_prefix

    acme = TenantId("acme")
    request = FitRequest(
        batch="b",
        identity=IdentityName("anna"),
        recording_sha256="SHA256",
        recording_name="a.mp4",
        options=FitOptions(),
    )
    yield {"key": request.recording_key(acme), "content": "a recording, once however often it is fitted"}
    yield {"key": "acme/uploads/RECORDING", "content": "a recording that is being uploaded and looked into"}
    yield {"key": request.capture_key(acme), "content": "its capture (generation, size, recording), once"}
    yield {
        "key": "acme/fits/FIT/AGE-FENCE.tar",
        "content": "step checkpoints, the newest two; deleted when the fit is done",
    }
    yield {
        "key": "acme/identities/anna/7/",
        "content": "version 7: identity checkpoint, table of its hashes, `export.tar`",
    }
    yield {"key": "acme/identities/anna/f-ID/", "content": "pictures of a fit, until a day after its last one"}
    yield {"key": render_prefix(acme, "RENDER"), "content": "speech, background and video of a render"}


def _redis_keys() -> Rows:
    """Keys by the table in ``cluster/state/keys.py``, whose comments say what each holds."""
    from cluster.state import keys

    row = re.compile(r'^    "\w+": "(?P<pattern>\S+)",  # (?P<names>.+?)(?: -> (?P<content>.+))?$', re.MULTILINE)
    for found in row.finditer(inspect.getsource(keys)):
        names = ["acme" if name == "tenant" else name.upper() for name in found["names"].split(", ")]
        num_names = found["pattern"].count("%s")
        key = found["pattern"] % tuple(name.split(" ")[-1] for name in names[:num_names])
        yield {"key": key, "content": found["content"] or "a channel for messages, not a key"}


def _schedule() -> Rows:
    from m2dao.training.schedule import refining_schedule

    for span in refining_schedule().spans:
        parts = {part for phase in span.phases for part in phase.trainables}
        groups = dict.fromkeys(part.partition(".")[0] for part in sorted(parts))
        yield {
            "until": span.until,
            "phases": ", ".join(phase.name for phase in span.phases),
            "trained": ", ".join(groups) + (": Gaussians only, at rest" if not span.moving else ""),
            "grow": "yes" if span.densify else "no",
        }


ROWS: Mapping[str, Callable[[], Rows]] = {
    "settings": _settings,
    "serve-settings": _serve_settings,
    "errors": _errors,
    "metrics": _metrics,
    "problems": _problems,
    "formats": _formats,
    "format-numbers": _format_numbers,
    "object-keys": _object_keys,
    "redis-keys": _redis_keys,
    "schedule": _schedule,
}

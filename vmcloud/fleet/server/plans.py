"""The steps of a job: what is sent to its node, in which order, and how long each may take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vmcloud.directory.errors import Gone
from vmcloud.domain.messages import Snapshot
from vmcloud.domain.records import VERecord
from vmcloud.domain.vocabulary import SESSIONS, Kind, Verb
from vmcloud.fleet.models import HOLDING, Image, Job, Liveness, Step
from vmcloud.fleet.services.sessions import SECONDS_MAX

from .context import Context
from .lanes import lane_of

TIMEOUTS = {Verb.FETCH: 3600.0, Verb.CREATE: 600.0, Verb.SNAPSHOT: 1800.0, Verb.REVERT: 1800.0, Verb.DELETE_SNAPSHOT: 600.0}
TIMEOUT = 120.0
"""Seconds a step may run on its node, by verb and otherwise; a graceful stop's grace is added."""


@dataclass
class Wait(Exception):
    """A job can not begin now; why, in words."""

    reason: str


@dataclass(frozen=True)
class Plan:
    """A step to be made."""

    verb: Verb
    lane: str
    args: dict[str, Any] = field(default_factory=dict)
    timeout: float = TIMEOUT


def plans_of(context: Context, job: Job, verb: Verb, record: VERecord) -> Sequence[Plan]:
    """The steps of a job, in order."""
    lane = lane_of(job)
    if verb in SESSIONS:
        return [Plan(verb, lane, job.args, SECONDS_MAX)]
    if verb is Verb.CREATE:
        return _create_plans(record, lane)
    if verb is Verb.RESIZE:
        spec = record.spec if record.job == job.pk else record.spec.resized(job.args["size"])
        return [Plan(verb, lane, {"spec": spec.to_json()})]
    if verb is Verb.SNAPSHOT:
        taken = Snapshot(job.args["snapshot"]["name"], job.pk, round(context.clock(), 3))
        return [Plan(verb, lane, {"snapshot": taken.to_json()}, TIMEOUTS[verb])]
    args = {**job.args, "spec": record.spec.to_json()}
    return [Plan(verb, lane, args, TIMEOUTS.get(verb, TIMEOUT) + float(job.args.get("grace", 0.0)))]


def _create_plans(record: VERecord, lane: str) -> Sequence[Plan]:
    spec = record.spec
    args: dict[str, Any] = {"spec": spec.to_json(), "power": record.desired.value, "image_sha256": ""}
    plans = []
    if spec.kind is not Kind.SIMULATED:
        image = Image.objects.filter(name=spec.image).first()
        if image is None:
            raise Gone(f"image {spec.image!r} is recorded no more", where="image")
        args["image_sha256"] = image.sha256
        live = Liveness.objects.filter(node=record.node).first()
        if live is None or image.sha256 not in live.images:
            plans.append(_fetch(image, record.node))
    plans.append(Plan(Verb.CREATE, lane, args, TIMEOUTS[Verb.CREATE]))
    return plans


def _fetch(image: Image, node: str) -> Plan:
    lane = f"image:{image.sha256}@{node}"
    other = Step.objects.filter(lane=lane, state__in=HOLDING).first()
    if other is not None:
        raise Wait(f"waits for job {other.job_id}, which fetches image {image.name} to {node}")
    return Plan(Verb.FETCH, lane, {"image": image.name, "sha256": image.sha256, "size": image.size}, TIMEOUTS[Verb.FETCH])

"""``GET /metrics``: what a Prometheus scrapes. Names after its conventions: base units, counters end in ``_total``.

What a node that is not up said last is left out: a value that does not move is not the same as none.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from vmcloud.domain.errors import Unauthenticated
from vmcloud.domain.vocabulary import JobState, NodeState, Outcome
from vmcloud.fleet.models import VE, Job, Liveness, Node
from vmcloud.fleet.services import archive, audit, queries, usage, views

from .auth import person
from .problems import NotAllowed, answer, translate

VE_LABELS = ("ve", "project", "node", "kind", "owner")
VE_COUNTERS = {
    "cpu_seconds": ("cpu_seconds", "Processor time of a VE since its start."),
    "disk_read_bytes": ("disk_read_bytes", "Bytes that a VE has read from disk since its start."),
    "disk_written_bytes": ("disk_written_bytes", "Bytes that a VE has written to disk since its start."),
    "network_received_bytes": ("received_bytes", "Bytes that a VE has received since its start."),
    "network_sent_bytes": ("sent_bytes", "Bytes that a VE has sent since its start."),
}
VE_GAUGES = {
    "memory_bytes": ("memory_bytes", "Memory that a VE uses."),
    "memory_peak_bytes": ("memory_peak_bytes", "Most memory that a VE has used since its start."),
    "processes": ("processes", "Processes of a VE."),
}
"""Name of the metric (after ``vmcloud_ve_``) → field of :class:`~vmcloud.domain.messages.Usage`, help."""
OPEN = (JobState.QUEUED, JobState.HELD, JobState.WAITING, JobState.RUNNING, JobState.EXITING)


@csrf_exempt
def metrics(request: HttpRequest) -> HttpResponse:
    """All metrics, for an administrator's token."""
    try:
        if request.method not in ("GET", "HEAD"):
            raise NotAllowed(f"{request.method} is not possible here", where=request.path, todo="Possible: GET.")
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            todo = "Send `Authorization: Bearer <token>` with an administrator's token; docs/metrics.md has an example."
            raise Unauthenticated("a token is needed", where="Authorization", todo=todo)
        person(token).demand_admin("read the metrics of the whole cloud")
        registry = CollectorRegistry(auto_describe=False)
        registry.register(Cloud())
        return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
    except Exception as error:
        return answer(translate(request, error))


class Cloud(Collector):
    """The cloud as it is at one moment."""

    def collect(self) -> Iterator[Metric]:
        """Every metric."""
        yield from _of_ves()
        yield from _of_nodes(queries.node_states(time.time()))
        yield from _of_jobs()
        yield from _of_audit()


def _of_ves() -> Iterator[Metric]:
    rows = list(VE.objects.exclude(node="").order_by("project", "name"))
    used = usage.of(rows)
    labels = {str(row.uuid): (row.name, row.project, row.node, row.kind, row.owner) for row in rows}
    for name, (field, text) in VE_COUNTERS.items():
        counter = CounterMetricFamily(f"vmcloud_ve_{name}", text, labels=VE_LABELS)
        for ve, values in used.items():
            counter.add_metric(labels[ve], values[field])
        yield counter
    for name, (field, text) in VE_GAUGES.items():
        gauge = GaugeMetricFamily(f"vmcloud_ve_{name}", text, labels=VE_LABELS)
        for ve, values in used.items():
            gauge.add_metric(labels[ve], values[field])
        yield gauge


def _of_nodes(states: dict[str, NodeState]) -> Iterator[Metric]:
    nodes = views.nodes_json(Node.objects.order_by("name"))
    heard = dict(Liveness.objects.values_list("node", "heard_at"))

    def gauge(name: str, text: str, values: Sequence[tuple[str, float]]) -> GaugeMetricFamily:
        made = GaugeMetricFamily(f"vmcloud_node_{name}", text, labels=["node"])
        for node, value in values:
            made.add_metric([node], value)
        return made

    up = [each for each in nodes if states.get(each["name"]) is NodeState.UP]
    yield gauge("up", "Whether a node is heard.", [(each["name"], each in up) for each in nodes])
    known = [(each["name"], heard[each["name"]]) for each in nodes if heard.get(each["name"])]
    yield gauge("heard_timestamp_seconds", "When a node was last heard.", known)
    seen = [(each["name"], each["guests_seen"] or 0) for each in up]
    yield gauge("guests", "Guests in a node's last full list, foreign ones too.", seen)
    yield gauge("ves", "VEs placed on a node.", [(each["name"], each["ves"]) for each in nodes])
    yield gauge("cpus", "Processors of a node.", [(each["name"], each["cpus"]) for each in nodes])
    capacity = [(each["name"], each["memory_mib"] << 20) for each in nodes]
    yield gauge("memory_capacity_bytes", "Memory of a node.", capacity)
    placed = [(each["name"], each["memory_placed_mib"] << 20) for each in nodes]
    yield gauge("memory_placed_bytes", "Memory that the VEs placed on a node may use.", placed)
    yield gauge("cordoned", "Whether a node takes no new placements.", [(each["name"], each["cordoned"]) for each in nodes])


def _of_jobs() -> Iterator[Metric]:
    counted = dict(Job.objects.filter(size=0).exclude(state=JobState.COMPLETE).values_list("state").annotate(Count("id")))
    jobs = GaugeMetricFamily(
        "vmcloud_jobs", "Jobs that are not complete, by state; an array counts as its parts.", labels=["state"]
    )
    for state in OPEN:
        jobs.add_metric([views.STATE_WORDS[state]], counted.get(state, 0))
    yield jobs
    ended = dict(Job.objects.filter(size=0, state=JobState.COMPLETE).values_list("outcome").annotate(Count("id")))
    outcomes = CounterMetricFamily("vmcloud_jobs_completed", "Jobs that are complete, by outcome.", labels=["outcome"])
    archived = archive.outcomes()
    for outcome in Outcome:
        outcomes.add_metric([outcome.value], ended.get(outcome.value, 0) + archived.get(outcome.value, 0))
    yield outcomes


def _of_audit() -> Iterator[Metric]:
    text = f"Refusals within the last {audit.BURST_SECONDS:.0f} seconds, by door."
    gauge = GaugeMetricFamily("vmcloud_recent_refusals", text, labels=["door"])
    counted = audit.recent(time.time())
    for door in audit.Door:
        gauge.add_metric([door.value], counted.get(door.value, 0))
    yield gauge

"""What the rules report, told once when it begins and once when it ends; in between it is a row that people are shown."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from uuid import UUID

from vmcloud.domain.reconcile import Report, Rule
from vmcloud.domain.vocabulary import EventType, NodeState
from vmcloud.fleet.models import VE, Finding
from vmcloud.fleet.services import capacity, events, feed, queries

from .context import Context

OF_NODES = {
    Rule.R6: "it is left alone, and so are its VEs",
    Rule.R9: "many of its guests vanished from one list at once",
    Rule.R14: "",
}
"""Rules that are told of a node, not of each of its VEs, and in which words; empty: in the report's own."""


def keep(context: Context, reports: Iterable[Report], only: Collection[UUID] | None) -> None:
    """Have exactly the findings of these reports; with ``only``, of those about these VEs."""
    if only is None and capacity.unknown():
        with context.leader.transaction():
            capacity.keep(context.clock())
    now = {row.key: row for row in (_row(context, report) for report in reports)}
    known = Finding.objects.exclude(rule__in=OF_NODES) if only is not None else Finding.objects.all()
    if only is not None:
        known = known.filter(ve__in=only)
        now = {key: row for key, row in now.items() if Rule(row.rule) not in OF_NODES}
    unjudged = _unjudged(context)
    before = {row.key: row for row in known if not (row.rule == Rule.R6 and row.node in unjudged)}
    now = {key: row for key, row in now.items() if not (row.rule == Rule.R6 and row.node in unjudged)}
    begun = [row for key, row in now.items() if key not in before]
    ended = [row for key, row in before.items() if key not in now]
    changed = [row for key, row in now.items() if key in before and row.reason != before[key].reason]
    if not (begun or ended or changed):
        return
    with context.leader.transaction():
        for row in changed:
            Finding.objects.filter(pk=row.key).update(reason=row.reason)
        for row in begun:
            row.save(force_insert=True)
            _tell(context, row, row.reason)
        for row in ended:
            row.delete()
            _tell(context, row, f"no more so: {row.reason}" if row.rule == Rule.R13 else f"over ({row.reason})")


def _unjudged(context: Context) -> set[str]:
    """Nodes of which nobody knows whether they are silent: that is no news, and what was told of them stands."""
    if not queries.deafness(context.clock()):
        return set()
    return {name for name, state in queries.node_states(context.clock()).items() if state is NodeState.UNKNOWN}


def _row(context: Context, report: Report) -> Finding:
    about, subject, ve, reason = str(report.ve), report.name, report.ve, report.reason
    if report.rule in OF_NODES:
        about = f"{report.node}/{report.name}" if report.rule is Rule.R14 else report.node
        subject, ve, reason = f"node {report.node}", None, OF_NODES[report.rule] or reason
    elif report.native:
        about, subject = f"{report.node}/{report.native}", f"{report.native} on {report.node}"
    said = {"subject": subject[:200], "reason": reason[:1000], "since": context.clock()}
    return Finding(key=f"{report.rule}:{about}"[:250], rule=report.rule.value, node=report.node, ve=ve, **said)


def _tell(context: Context, row: Finding, text: str) -> None:
    ve = VE.objects.filter(pk=row.ve).first() if row.ve else None
    type, text = EventType.LEASE if row.rule == Rule.R13 else EventType.RULE, f"{row.rule}: {row.subject}: {text}"
    events.note(type, text, at=context.clock(), row=ve, **({} if ve else {"ve": row.ve, "node": row.node}))
    if ve is not None:
        feed.changed("ve", str(ve.pk), project=ve.project, owner=ve.owner, ve=ve.uuid, node=ve.node)

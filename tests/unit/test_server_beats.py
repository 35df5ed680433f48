"""What digests and new entries cost the server: statements do not grow with nodes at rest, VEs or entries."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.web import Web, web
from vmcloud.domain.messages import Digest, Usage
from vmcloud.domain.records import Mark, NodeFacts
from vmcloud.domain.vocabulary import Kind

pytestmark = pytest.mark.unit
__all__ = ["web"]
FACTS = NodeFacts((Kind.LXC,), 4, 1024, 0, "0")


def context(web: Web, now: float = 1000.0) -> Any:
    from vmcloud.fleet.server.context import Context
    from vmcloud.fleet.server.projection import Projection

    config: Any = SimpleNamespace(intervals=SimpleNamespace(claim=30.0, clock_skew=30.0, resend=5.0))
    parts: Any = (config, web.directory, None, None, Projection())
    return Context(*parts, clock=lambda: now)


def hear(context: Any, *digests: Digest) -> tuple[list[Any], list[str]]:
    """Take digests in as one batch: steps to send again, and the statements that it took, without savepoints."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    from vmcloud.fleet.server import replies
    from vmcloud.fleet.server.inbox import Report

    with CaptureQueriesContext(connection) as found:
        again = replies.handle(context, [Report(f"server.{said.node}", said.to_json()) for said in digests])
    return again, [each["sql"] for each in found if each["sql"].split()[0] in ("SELECT", "INSERT", "UPDATE", "DELETE")]


def digest(node: str, sequence: int, **more: Any) -> Digest:
    return Digest(node, Mark(1, sequence), 1000.0, 7, FACTS, **more)


def many(nodes: int, sequence: int) -> list[Digest]:
    return [digest(f"node-{number}", sequence) for number in range(1, nodes + 1)]


@pytest.mark.parametrize("nodes", [1, 50])
def test_at_rest_a_batch_of_digests_costs_four_statements(web: Web, nodes: int) -> None:
    from vmcloud.fleet.models import Liveness

    for number in range(30):
        web.ve(f"ve-{number}", node="node-1")
    here = context(web)
    hear(here, *many(nodes, 1))
    hear(here, *many(nodes, 2))
    _, statements = hear(here, *many(nodes, 3))
    assert len(statements) == 4, statements
    assert Liveness.objects.filter(sequence=3, heard_at=1000.0, count=7, previous_count=7).count() == nodes


def test_what_did_not_change_is_not_written(web: Web) -> None:
    """What somebody else writes into the row stays."""
    from vmcloud.fleet.models import Liveness

    here = context(web)
    for sequence in (1, 2):
        hear(here, digest("node-1", sequence, images=("a" * 64,)))
    Liveness.objects.filter(node="node-1").update(told="up")
    _, statements = hear(here, digest("node-1", 3, images=("a" * 64,)))
    [write] = [each for each in statements if not each.startswith("SELECT")]
    assert "images" not in write.split("DO UPDATE")[1]
    hear(here, digest("node-1", 4, images=("b" * 64,)))
    live = Liveness.objects.get(node="node-1")
    assert (live.images, live.told, live.sequence) == (["b" * 64], "up", 4)


def test_the_later_of_two_digests_in_a_batch_counts(web: Web) -> None:
    from vmcloud.fleet.models import Liveness

    hear(context(web), digest("node-1", 2, images=("b" * 64,)), digest("node-1", 1, images=("a" * 64,)))
    live = Liveness.objects.get(node="node-1")
    assert (live.images, live.sequence) == (["b" * 64], 2)


def test_misses_are_counted_within_a_batch_and_forgotten_when_the_ve_is_there(web: Web) -> None:
    from vmcloud.fleet.models import Misses

    row, other = web.ve("one"), web.ve("two", node="node-2")
    here = context(web)
    said = [digest("node-1", sequence, missing=(row.uuid, other.uuid)) for sequence in (1, 2)]
    hear(here, *said)
    assert list(Misses.objects.values_list("ve", "count")) == [(row.uuid, 2)]
    hear(here, digest("node-1", 3, missing=(row.uuid,)), digest("node-1", 4))
    assert not Misses.objects.exists()


def test_a_step_that_its_node_has_forgotten_is_sent_again(web: Web) -> None:
    from vmcloud.fleet.models import Job, Step

    ve = web.ve("one")
    job = Job.objects.create(verb="start", owner="ann", state="R", node="node-1", ve=ve.uuid, created_at=1.0)
    Step.objects.create(job=job, number=1, verb="start", node="node-1", lane="x", state="sent", heard_at=1.0)
    here = context(web)
    hear(here, digest("node-1", 1))
    Step.objects.update(state="running")
    from vmcloud.fleet.server import replies

    assert replies.Beats({"node-1"}).busy == {"node-1"} and replies.Beats({"node-2"}).busy == set()
    beats = replies.Beats({"node-1"})
    assert [step.job_id for step in replies._digest(here, "node-1", digest("node-1", 2), beats)] == [job.pk]
    working = digest("node-1", 3, working=((job.pk, 1, 1),))
    assert replies._digest(here, "node-1", working, beats) == []


def test_usage_of_known_ves_asks_for_no_ve(web: Web) -> None:
    rows = [web.ve(f"ve-{number}") for number in range(20)]
    here = context(web)

    def used(cpu: float) -> tuple[Usage, ...]:
        return tuple(Usage(row.uuid, cpu, 1, 2, 3, 4, 5, 6, 7) for row in rows)

    _, first = hear(here, digest("node-1", 1, usage=used(1.0)))
    _, later = hear(here, digest("node-1", 2, usage=used(2.0)))
    assert len(first) == len(later) + 1


@pytest.mark.parametrize("entries", [2, 200])
def test_new_entries_cost_no_statement_each(web: Web, entries: int) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    from vmcloud.fleet.models import VE
    from vmcloud.fleet.server.projection import Projection

    made = [VE(uuid=uuid4(), name=f"n-{number}", project="main", kind="lxc", desired="stopped") for number in range(entries)]
    with CaptureQueriesContext(connection) as found:
        Projection()._change(VE, made)
    about = [each["sql"] for each in found if each["sql"].startswith(("SELECT", "DELETE")) and '"uuid"' in each["sql"]]
    assert VE.objects.count() == entries and len(about) <= 3, about


def test_a_name_that_moves_takes_the_row_of_its_former_bearer_away(web: Web) -> None:
    from vmcloud.fleet.models import VE
    from vmcloud.fleet.server.projection import Projection

    old = web.ve("one", project="main")
    web.ve("one", project="other")
    keys: list[UUID] = [uuid4(), uuid4()]
    made = [VE(uuid=key, name="one", project="main", kind="lxc", desired="stopped") for key in keys]
    Projection()._change(VE, made)
    assert set(VE.objects.filter(name="one", project="main").values_list("pk", flat=True)) == {keys[1]}
    assert not VE.objects.filter(pk=old.pk).exists() and VE.objects.filter(project="other").count() == 1

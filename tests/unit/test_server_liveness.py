"""The silence of a node counts only for as long as the server has listened."""

from __future__ import annotations

import re

import pytest

from tests.leader_kit import Scene
from tests.web import Web, web
from vmcloud.directory import port
from vmcloud.domain.records import NodeRecord
from vmcloud.domain.vocabulary import NodeState

pytestmark = pytest.mark.unit
__all__ = ["web"]

DOWN = 45.0


def scene_of(web: Web, heard_ago: float) -> Scene:
    """A leader that was just told everything; its node was heard so many seconds ago."""
    from vmcloud.fleet.models import Liveness

    scene = Scene(web)
    Liveness.objects.filter(node="node-1").update(heard_at=scene.now - heard_ago, told="up")
    scene.directory.add_node(NodeRecord("node-1"))
    return scene


def listens(scene: Scene) -> None:
    from vmcloud.fleet.server.inbox import Broker

    scene.come(Broker(up=True))
    scene.take_in()


def tell(scene: Scene) -> tuple[NodeState, int]:
    """The node's state, and how many events tell of nodes, after the leader has looked. (It renews its lease meanwhile.)"""
    from vmcloud.fleet.models import Event
    from vmcloud.fleet.server import liveness
    from vmcloud.fleet.services import queries

    with scene.leader.transaction():
        pass
    liveness.tell(scene.context)
    return queries.node_states(scene.now)["node-1"], Event.objects.filter(type="node").count()


def test_a_server_that_was_away_for_long_does_not_take_all_nodes_for_down(web: Web) -> None:
    scene = scene_of(web, heard_ago=3600.0)
    assert tell(scene) == (NodeState.UNKNOWN, 0), "it has not even heard the broker"
    listens(scene)
    scene.now += DOWN - 1
    assert tell(scene) == (NodeState.UNKNOWN, 0)
    scene.now += 2
    assert tell(scene) == (NodeState.DOWN, 1), "it has listened for as long"


def test_while_the_broker_is_away_no_node_goes_down(web: Web) -> None:
    from vmcloud.fleet.server.inbox import Broker

    scene = scene_of(web, heard_ago=0.0)
    listens(scene)
    scene.now += 10 * DOWN
    scene.come(Broker(up=False, reason="refused"))
    scene.take_in()
    assert tell(scene) == (NodeState.UNKNOWN, 0)
    listens(scene)
    scene.now += DOWN + 1
    assert tell(scene) == (NodeState.DOWN, 1), "the broker is back for long enough, and the node is not"


def test_a_node_that_was_told_to_be_down_stays_so_until_it_is_heard(web: Web) -> None:
    """Another leader knows nothing new of it: no event, and no hope."""
    from vmcloud.fleet.models import Liveness

    scene = scene_of(web, heard_ago=3600.0)
    Liveness.objects.update(told="down")
    assert tell(scene) == (NodeState.DOWN, 0)
    Liveness.objects.update(heard_at=scene.now)
    assert tell(scene) == (NodeState.UP, 1)


def test_where_no_server_leads_nothing_is_known_of_silent_nodes(web: Web) -> None:
    from vmcloud.fleet.models import Liveness
    from vmcloud.fleet.services import queries

    scene = scene_of(web, heard_ago=0.0)
    listens(scene)
    for later, state in ((DOWN - 5, NodeState.UP), (3600.0, NodeState.UNKNOWN)):
        assert queries.node_states(scene.now + later)["node-1"] is state
    assert queries.deafness(scene.now + 3600.0) == "no server hears the broker just now"
    Liveness.objects.update(heard_at=0.0)
    assert queries.node_states(scene.now)["node-1"] is NodeState.UNKNOWN, "never heard"


def test_people_are_told_why_a_silent_node_is_not_down(web: Web) -> None:
    import time

    from vmcloud.fleet.models import Lease, Liveness

    now = time.time()
    Liveness.objects.update(heard_at=now - 3600.0)
    Lease.objects.update(listens_since=now - 12.0)
    shown = web.call("GET", "/nodes/node-1").json()
    assert shown["state"] == "unknown" and re.fullmatch(r"the server has listened for \d\d s only", shown["reason"])
    Lease.objects.update(listens_since=1.0)
    shown = web.call("GET", "/nodes/node-1").json()
    assert (shown["state"], shown["reason"]) == ("down", "")


def test_no_finding_begins_or_ends_over_a_node_of_which_nothing_is_known(web: Web) -> None:
    from vmcloud.fleet.models import Event, Finding
    from vmcloud.fleet.server import mend

    scene = scene_of(web, heard_ago=3600.0)
    web.ve("v", node="node-1")
    scene.context.projection.synced = True
    mend.run(scene.context)
    assert not Finding.objects.exists() and not Event.objects.exists()
    listens(scene)
    scene.now += DOWN + 1
    tell(scene)
    mend.run(scene.context)
    assert Finding.objects.get().rule == "R6"
    other = Scene(web, scene.now)
    other.context.projection.synced = True
    before = Event.objects.count()
    mend.run(other.context)
    assert Finding.objects.get().rule == "R6" and Event.objects.count() == before


def test_nothing_is_admitted_scheduled_or_reconciled_before_the_watch_has_told_everything(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vmcloud.fleet.server import admit, mend, schedule

    scene, ran = Scene(web), list[str]()
    for module in (admit, schedule, mend):
        name = module.__name__.rpartition(".")[2]
        monkeypatch.setattr(module, "run", lambda context, name=name, only=None: ran.append(name))
    for _ in range(3):
        scene.turn()
    assert ran == []
    scene.come(port.Changed(NodeRecord("node-1")), port.Synced())
    scene.turn()
    assert ran == ["admit", "schedule", "mend"]
    scene.come(port.Down("away"))
    ran.clear()
    scene.turn()
    assert "schedule" not in ran and "admit" in ran, "as before: jobs are held and released while the directory is away"

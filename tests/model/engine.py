"""The engine as the model test drives it: the one module of this folder that knows what is inside of ``vmcloud.fleet``.

A :class:`Cloud` has the real services, the real functions of a leading server's turn and the real SQL; only the ports are fakes.
Everything happens in one thread: each function of the engine runs when the test calls it, on clocks that the test sets.
"""

from __future__ import annotations

import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock
from uuid import UUID

from tests.model.fakes import Broker, Clock, Directory, Port
from tests.model.faults import Faults
from tests.model.nodes import IMAGE, Lists, SimulatedNode
from tests.web import _database, _setup
from vmcloud.config import Intervals
from vmcloud.domain.messages import Message, Wake
from vmcloud.domain.records import ImageRecord, NodeRecord, VERecord

NODES = ("n1", "n2")
GUARDED = ("fleet_job", "fleet_step", "fleet_joblink", "fleet_accepted", "fleet_jobevent")
"""Tables that only the leader and requests write."""
TURN_PARTS = ("removals", "foreign", "finish", "admit", "schedule", "own steps", "abandon", "cancel", "overdue", "take up")
TURN_PARTS += ("resend", "liveness", "mend", "sweep")
"""The parts of a leader's turn, besides what takes in its inbox."""


class Inbox:
    """What has come to one leader, in order; the test decides how much of it is there to be taken."""

    def __init__(self) -> None:
        self.items: list[Any] = []

    def look(self, timeout: float, beyond: int = 0) -> list[Any]:
        """All that has come and is not acknowledged."""
        return list(self.items)

    def acknowledge(self, count: int) -> None:
        """The first of these have been dealt with."""
        del self.items[:count]

    def alive(self) -> bool:
        """It hears."""
        return True

    def listen_to(self, name: str) -> bool:
        """All lists are read."""
        return False


class _NoUpkeep:
    """What is old is not forgotten here: it takes a third of a turn, and nothing grows old."""

    def run(self, context: Any) -> None:
        """Nothing."""


class Process:
    """One server process: it may lead, and goes on as if it did until it is told otherwise."""

    def __init__(self, cloud: Cloud, holder: str) -> None:
        from vmcloud.fleet.server.leader import Leader

        self.cloud, self.leads = cloud, False
        self.leader = Leader(holder, cloud.config.intervals.lease, clock=cloud.clock.now, steady=cloud.clock.steady)
        self.inbox = Inbox()

    def campaign(self) -> bool:
        """Try to lead; who leads anew knows nothing yet and hears all that the directory holds."""
        from vmcloud.fleet.server import memory
        from vmcloud.fleet.server.context import Context
        from vmcloud.fleet.server.inbox import Broker
        from vmcloud.fleet.server.loop import Turns
        from vmcloud.fleet.server.projection import Projection

        if not self.leader.campaign():
            return False
        cloud, changed, self.inbox = self.cloud, memory.Set[UUID](), Inbox()
        projection = Projection(clock=cloud.clock.now, differs=changed.add)
        parts: Any = (cloud.config, Port(cloud.directory, cloud.faults), cloud.broker, self.leader, projection)
        self.context = Context(*parts, clock=cloud.clock.now, changed=changed)
        fakes: Any = (self.inbox, _NoUpkeep())
        self.turns = Turns(self.context, *fakes, steady=cloud.clock.steady)
        self.inbox.items.append(Broker(up=True))
        cloud.directory.subscribe(self.inbox.items.append)
        self.leads = True
        return True

    def take_in(self, count: int) -> None:
        """The first items of the inbox."""
        from vmcloud.fleet.server import intake

        inbox: Any = self.inbox
        intake.run(self.context, inbox, self.inbox.items[:count])

    def part(self, name: str) -> None:
        """One part of a turn."""
        from vmcloud.fleet.server import abandon, admit, finish, foreign, liveness, mend, orders, own_steps, removals, schedule
        from vmcloud.fleet.server.quarantine import stage

        parts: dict[str, Callable[..., object]] = {
            "removals": removals.run,
            "foreign": foreign.run,
            "finish": finish.run,
            "admit": admit.run,
            "schedule": schedule.run,
            "own steps": own_steps.run,
            "abandon": abandon.run,
            "cancel": orders.cancel_due,
            "overdue": orders.end_overdue,
            "take up": schedule.take_up,
            "resend": orders.resend,
            "liveness": liveness.tell,
            "mend": mend.run,
            "sweep": self.turns._sweep,
        }
        if self.context.projection.whole or name not in ("admit", "schedule", "own steps", "mend"):
            stage(self.context, parts[name])

    def turn(self) -> None:
        """One turn, with all that may be due in it."""
        self.turns.begin_anew()
        self.turns.one()


class Cloud:
    """One cloud: SQL, directory, broker, nodes, and server processes."""

    def __init__(self) -> None:
        _setup()
        _database()
        from django.conf import settings

        self.clock, self.faults, self.lists = Clock(), Faults(), Lists()
        self.directory = Directory()
        self.broker = Broker(self.lists, self.faults)
        self.config = replace(settings.CLOUD, intervals=Intervals())
        self.processes = [Process(self, "a"), Process(self, "b")]
        self.leading: Process | None = None
        self.nodes: dict[str, SimulatedNode] = {}
        self.acting: Process | None = None
        """The server process whose function runs just now; None: a request."""
        self.trespasses: list[str] = []
        """Statements that changed jobs, by who leads no more."""
        self.broke: list[str] = []
        """What broke a part of a turn, or an item of the inbox, and was set aside."""
        self.faults.watch = self._watch
        self._numbers = 0

    # ----------------------------------------------------------------------------------------------------- beginning

    @contextmanager
    def running(self) -> Iterator[None]:
        """Empty tables, the ports and clocks of this cloud in place of the real ones."""
        from vmcloud.fleet import ports
        from vmcloud.fleet.server import intake, quarantine
        from vmcloud.fleet.services import waiting

        def noting(function: Callable[[Any, Any, Exception], Any]) -> Callable[[Any, Any, Exception], Any]:
            def noted(context: Any, what: Any, error: Exception) -> Any:
                frame = traceback.extract_tb(error.__traceback__)[-1]
                self.broke.append(f"{what}: {type(error).__name__}: {error} ({frame.name}, line {frame.lineno})")
                return function(context, what, error)

            return noted

        empty_tables()
        patches = [
            mock.patch.object(quarantine, "_break_off", noting(quarantine._break_off)),
            mock.patch.object(intake, "_without", noting(intake._without)),
            mock.patch.object(ports, "directory", lambda: Port(self.directory, self.faults)),
            mock.patch.object(ports, "sender", lambda: self.broker),
            mock.patch.object(ports, "cloud", lambda: self.config),
            mock.patch.object(waiting, "DECIDE_SECONDS", 0.0),
            mock.patch.object(time, "time", self.clock.now),
            mock.patch.object(time, "monotonic", self.clock.steady),
            mock.patch.object(time, "sleep", self._sleep(time.sleep)),
            mock.patch.object(uuid, "uuid4", self._uuid),
        ]
        for patch in patches:
            patch.start()
        try:
            with self.faults.installed():
                yield
        finally:
            for patch in reversed(patches):
                patch.stop()
            empty_tables()

    def _sleep(self, really: Callable[[float], None]) -> Callable[[float], None]:
        """Time passes for who sleeps here; threads that other tests have left sleep as they did."""
        here = threading.get_ident()
        return lambda seconds: self.clock.pass_(seconds) if threading.get_ident() == here else really(seconds)

    def _uuid(self) -> UUID:
        self._numbers += 1
        return UUID(int=(0xABCD << 112) + self._numbers, version=4)

    def begin(self) -> None:
        """Two nodes, one image, an administrator's and a user's name; a leader that has heard of all of it."""
        for name in NODES:
            self.lists.add(name)
            self.nodes[name] = self._node(name)
            self.directory.add_node(NodeRecord(name))
        self.directory.add_image(ImageRecord("busybox", "lxc", IMAGE, 1))
        make_queue("slow", {"max_running": 1})
        self.change_leader()
        for node in self.nodes.values():
            node.relist()
        self.monitor()
        self.hear_all()
        self.turn()

    def _node(self, name: str) -> SimulatedNode:
        def tell_server(message: Message) -> None:
            self.lists.reports[name].append(message.to_json())

        return SimulatedNode(name, self.clock.now, tell_server, self.lists.sightings[name].append)

    def _watch(self, sql: str) -> None:
        process = self.acting
        if process is None or process is self.leading or not sql.startswith(("INSERT", "UPDATE", "DELETE")):
            return
        if any(f'"{table}"' in sql for table in GUARDED):
            self.trespasses.append(f"{process.leader.holder} leads no more and wrote: {sql[:300]}")

    @contextmanager
    def acts(self, process: Process | None) -> Iterator[None]:
        """For as long as this block goes on, what the database is told comes from this process, or from a request."""
        before, self.acting = self.acting, process
        try:
            yield
        finally:
            self.acting = before

    # -------------------------------------------------------------------------------------------------------- leaders

    def change_leader(self) -> bool:
        """Who does not lead takes the lease, if it has run out; whether it did."""
        for process in self.processes:
            if process is not self.leading and process.campaign():
                self.leading = process
                return True
        return False

    def kill(self, process: Process) -> None:
        """A process that led is killed: what it kept in memory is lost. It is started anew, and leads as soon as it may."""
        process.leads = False
        if process.campaign():
            self.leading = process

    # ------------------------------------------------------------------------------------------------ what is on its way

    def monitor(self, count: int | None = None) -> None:
        """The monitor publishes what nodes saw: so many sightings of each node, or all."""
        from monitor.publish import Publisher

        publisher = Publisher(self.directory)  # type: ignore[arg-type]
        for waiting in self.lists.sightings.values():
            for _ in range(len(waiting) if count is None else min(count, len(waiting))):
                publisher.publish(waiting.popleft())

    def hear(self, node: str, *, at: int = 0, copies: int = 1, keep: bool = False) -> dict[str, Any] | None:
        """The leader's receiver takes one report of a node, in its turn or not, so many times; it is lost where that is 0."""
        from vmcloud.fleet.server.inbox import Report

        waiting = self.lists.reports[node]
        if not waiting or self.leading is None:
            return None
        said = waiting[at % len(waiting)]
        if not keep:
            del waiting[at % len(waiting)]
        self.leading.inbox.items += [Report(f"server.{node}", said)] * copies
        return said

    def hear_all(self) -> None:
        """Everything that nodes said comes to the leader."""
        for node in self.nodes:
            while self.hear(node):
                pass

    def wake(self) -> None:
        """A wake-up comes to the leader."""
        from vmcloud.fleet.server.inbox import Report

        if self.leading is not None:
            self.leading.inbox.items.append(Report("server", Wake("jobs").to_json()))

    def lose_watch(self) -> None:
        """The directory's watch breaks and is made anew."""
        from vmcloud.directory import port

        if self.leading is not None:
            self.leading.inbox.items += [port.Down("the watch broke"), port.Synced()]

    def deliver(self, node: str, *, copies: int = 1, at: int = 0) -> bool:
        """A node takes one order, so many times; it is lost where that is 0."""
        waiting = self.lists.orders[node]
        if not waiting:
            return False
        order = waiting[at % len(waiting)]
        del waiting[at % len(waiting)]
        for _ in range(copies):
            self.nodes[node].take(order)
        return True

    # ------------------------------------------------------------------------------------------------------------- turns

    def turn(self) -> None:
        """One whole turn of who leads."""
        if self.leading is not None:
            with self.acts(self.leading):
                self.leading.turn()

    def settle(self, turns: int = 60, quiet: int = 3) -> int:
        """No more faults, nodes answer: turns until every job has ended and nothing is on its way, and
        ``quiet`` of these in a row; how many it took."""
        self.faults.disarm()
        self.broker.down, still = False, 0
        for number in range(turns):
            self.clock.pass_(7.0)
            if self.leading is None:
                self.change_leader()
            for name, node in self.nodes.items():
                while self.deliver(name):
                    pass
                node.work_all()
                node.relist()
            self.monitor()
            self.hear_all()
            self.turn()
            still = 0 if open_jobs() or any(self.lists.orders.values()) else still + 1
            if still == quiet:
                return number
        return turns


# ------------------------------------------------------------------------------------------------------------------ rows


def away() -> tuple[type[BaseException], ...]:
    """What a turn, or a request, may end with that has done nothing: the database is away, or somebody else was first."""
    from vmcloud.fleet import database, gather

    return (*database.AWAY, gather.Clash)


_born: list[Any] = []
"""The rows that a new database has: the queues of the migrations."""


def empty_tables() -> None:
    """Begin anew: no rows but those of a new database, and the numbers of jobs begin at 1."""
    from django.apps import apps
    from django.db import connection

    from vmcloud.fleet.models import QueueRow

    if not _born:
        _born.extend(QueueRow.objects.all())
    names = [model._meta.db_table for model in apps.get_app_config("fleet").get_models()]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(f"TRUNCATE {', '.join(names)} RESTART IDENTITY CASCADE")
        else:
            cursor.execute("PRAGMA foreign_keys=OFF")
            for name in names:
                cursor.execute(f"DELETE FROM {name}")
            cursor.execute("DELETE FROM sqlite_sequence")
            cursor.execute("PRAGMA foreign_keys=ON")
    QueueRow.objects.bulk_create(_born)


def make_queue(name: str, data: dict[str, Any]) -> None:
    """A queue besides the default one."""
    from vmcloud.fleet.models import QueueRow

    QueueRow.objects.create(name=name, data=data)


def open_jobs() -> int:
    """How many jobs have not ended."""
    from vmcloud.fleet.models import Job

    return Job.objects.exclude(state="C").count()


@dataclass(frozen=True)
class Rows:
    """All that SQL says of jobs, at one moment."""

    jobs: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    steps: tuple[Mapping[str, Any], ...] = ()
    links: tuple[Mapping[str, Any], ...] = ()
    news: Mapping[int, str] = field(default_factory=dict)
    """Rows of the feed that are about jobs: number, and the job's number as text."""

    @classmethod
    def read(cls) -> Rows:
        """As it is now."""
        from vmcloud.fleet.models import Change, Job, JobLink, Step

        jobs = {row["id"]: row for row in Job.objects.values()}
        news = dict(Change.objects.filter(kind="job").values_list("id", "key"))
        return cls(jobs, tuple(Step.objects.values()), tuple(JobLink.objects.values()), news)


def accepted_wishes() -> dict[UUID, tuple[dict[str, Any], bool]]:
    """Of each VE, what was accepted last, and whether a write of it is announced."""
    from vmcloud.fleet.models import Accepted

    return {row.ve: (row.wish, bool(row.writing)) for row in Accepted.objects.all()}


def wish_of(record: VERecord) -> dict[str, Any]:
    """What an entry says is wanted, as SQL keeps it."""
    from vmcloud.fleet.server.wanted import wish_of as wish

    return wish(record).to_json()


def asked_by(job: Mapping[str, Any], wish: dict[str, Any]) -> dict[str, Any]:
    """What is wanted once this job has begun."""
    from vmcloud.fleet.models import Job
    from vmcloud.fleet.server import wanted

    return wanted.asked_by(Job(**{name: job[name] for name in ("id", "verb", "args")}), wanted.decode(wish)).to_json()


def read_model_differs(directory: Directory) -> list[str]:
    """VEs of which the read model does not show what the directory says."""
    from vmcloud.fleet.models import VE

    rows = {row.uuid: row for row in VE.objects.all()}
    found = []
    for record in directory.ves():
        row = rows.pop(record.ve, None)
        if row is None or (row.generation, row.desired, row.node) != (record.generation, record.desired, record.node):
            found.append(record.name)
    return found + [row.name for row in rows.values()]


__all__ = ["NODES", "TURN_PARTS", "Cloud", "Process", "Rows"]
